/* What every kernel stands on: eight lanes, whose order of summation is fixed, and the mark of an exported function. */
#ifndef SECUREMLLIB_KERNEL_H
#define SECUREMLLIB_KERNEL_H

#include <stdint.h>
#include <string.h>

/* Only marked functions leave the library; arrays are C-contiguous and never overlap. */
#define KERNEL __attribute__((visibility("default")))

#define LANES 8

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef double doubles __attribute__((vector_size(4 * LANES)));
/* As many single values as there are in one of `doubles`. */
typedef float fours __attribute__((vector_size(2 * LANES)));

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ints){__VA_ARGS__})
#endif

/* Unaligned loads and stores: numpy aligns to 16 bytes, and a row starts anywhere. */
static inline floats load(const float *from)
{
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void store(float *to, floats value)
{
    memcpy(to, &value, sizeof value);
}

static inline doubles load_doubles(const double *from)
{
    doubles value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline doubles widen(const float *from)
{
    fours value;
    memcpy(&value, from, sizeof value);
    return __builtin_convertvector(value, doubles);
}

static inline void store_doubles(double *to, doubles value)
{
    memcpy(to, &value, sizeof value);
}

/* How a row's last columns, fewer than LANES, are read: with those before them. A row has at least LANES columns. */
typedef struct {
    int64_t start;
    ints used; /* Set in the lanes that were not read before. */
} tail;

static inline tail tail_of(int64_t columns)
{
    tail last = {columns - LANES, {0}};
    for (int lane = 0; lane < LANES; lane++)
        last.used[lane] = lane >= LANES - columns % LANES ? -1 : 0;
    return last;
}

/* The last columns of a row, and 0 in the other lanes. */
static inline floats load_tail(const float *row, const tail *last)
{
    return (floats)((ints)load(row + last->start) & last->used);
}

static inline floats splat(float value)
{
    return (floats){value, value, value, value, value, value, value, value};
}

/* The sum of the lanes, pairwise. */
static inline float total(floats v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* Of eight vectors, the eight sums of lanes: lane i is the pairwise sum of v[i]. */
static inline floats totals(const floats *v)
{
    floats pairs[4], fours[2];
    for (int i = 0; i < 4; i++)
        pairs[i] = SHUFFLE(v[2 * i], v[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) + SHUFFLE(v[2 * i], v[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    for (int i = 0; i < 2; i++)
        fours[i] = SHUFFLE(pairs[2 * i], pairs[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13)
            + SHUFFLE(pairs[2 * i], pairs[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    return SHUFFLE(fours[0], fours[1], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(fours[0], fours[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

/* Lane i of out[k] is lane k of v[i]. */
static inline void transpose(const floats *v, floats *out)
{
    floats two[LANES], four[LANES];
    for (int k = 0; k < LANES; k += 2) {
        two[k] = SHUFFLE(v[k], v[k + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        two[k + 1] = SHUFFLE(v[k], v[k + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int k = 0; k < LANES; k += 4)
        for (int half = 0; half < 2; half++) {
            four[k + 2 * half] = SHUFFLE(two[k + half], two[k + 2 + half], 0, 1, 8, 9, 4, 5, 12, 13);
            four[k + 2 * half + 1] = SHUFFLE(two[k + half], two[k + 2 + half], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int k = 0; k < 4; k++) {
        out[k] = SHUFFLE(four[k], four[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        out[k + 4] = SHUFFLE(four[k], four[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* The values of a row of sums in single precision: the whole vectors, then the tail's vector, so that no two stores overlap. */
static inline int64_t padded(int64_t columns)
{
    return (columns + LANES - 1) / LANES * LANES;
}

/* Adds such a row of sums to sums in double precision, and clears it. */
static inline void flush(double *sums, float *row, int64_t columns)
{
    int64_t whole = columns - columns % LANES;
    for (int64_t j = 0; j < whole; j++)
        sums[j] += row[j];
    for (int lane = 0; lane < LANES && whole < columns; lane++)
        sums[columns - LANES + lane] += row[whole + lane];
    memset(row, 0, sizeof(float) * padded(columns));
}

#endif
