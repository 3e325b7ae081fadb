/* Which half of its pair a row is in, and the sums of rows by half: in double precision, for halves may be nearly one. */
#include "kernel.h"

/* Columns that are read at once. */
#define WIDE (LANES / 2)

static inline double sum_of(doubles v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

/* Writes 1 for each row whose product with its pair's direction (pairs, columns) is above the pair's threshold, and 0 for the others. */
KERNEL void halves_sides(const float *features, const int64_t *pair, int64_t rows, int64_t columns, const double *direction,
                         const double *threshold, int64_t *side)
{
    int64_t whole = columns - columns % WIDE;
    for (int64_t i = 0; i < rows; i++) {
        const float *row = features + i * columns;
        const double *other = direction + pair[i] * columns;
        doubles sums = {0};
        double last = 0;
        for (int64_t j = 0; j < whole; j += WIDE)
            sums += widen(row + j) * load_doubles(other + j);
        for (int64_t j = whole; j < columns; j++)
            last += row[j] * other[j];
        side[i] = sum_of(sums) + last > threshold[pair[i]];
    }
}

/* Adds to found (groups, 3) the rows of each group, their weight and the weighted squares of their lengths, and to sums (groups, columns). */
KERNEL void halves_sums(const float *features, const double *weight, const int64_t *group, int64_t rows, int64_t columns, double *found,
                        double *sums)
{
    int64_t whole = columns - columns % WIDE;
    for (int64_t i = 0; i < rows; i++) {
        const float *row = features + i * columns;
        double *sum = sums + group[i] * columns, *mine = found + group[i] * 3, w = weight[i], last = 0;
        doubles squares = {0}, weights = {w, w, w, w};
        for (int64_t j = 0; j < whole; j += WIDE) {
            doubles values = widen(row + j);
            squares += values * values;
            store_doubles(sum + j, load_doubles(sum + j) + weights * values);
        }
        for (int64_t j = whole; j < columns; j++) {
            last += (double)row[j] * row[j];
            sum[j] += w * row[j];
        }
        mine[0] += 1.0;
        mine[1] += w;
        mine[2] += w * (sum_of(squares) + last);
    }
}
