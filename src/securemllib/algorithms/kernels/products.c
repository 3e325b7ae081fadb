/* The products of rows. */
#include "kernel.h"
#include <math.h>

/* Rows whose products are added up in single precision. */
#define TILE 128
/* The widest rows, with target and one: a tile of them stays in a core's caches. */
#define WIDEST 128
/* Values in a line of the caches. */
#define LINE 16

/* Copies a row with its target and a one behind it, times the root of its weight; what follows up to whole lanes stays zero. */
static inline void extend(const float *row, float target, const double *weight, int64_t columns, float *out)
{
    float root = weight ? (float)sqrt(*weight) : 1.0f;
    for (int64_t j = 0; j < columns; j++)
        out[j] = row[j] * root;
    out[columns] = target * root;
    out[columns + 1] = root;
}

/* Asks for one part, of so many, of values that are read soon: memory answers while others are worked on. */
static inline void ask_for(const float *from, int64_t values, int64_t part, int64_t parts)
{
    for (int64_t j = values * part / parts; j < values * (part + 1) / parts; j += LINE)
        __builtin_prefetch(from + j);
}

/*
 * Adds to sums (width, width) the weighted products of rows that have a target and a one behind their columns, width being these in whole
 * lanes: of eight by eight of them only those where the second eight are not before the first. A weight is 1 where weight is null.
 * The products of a tile of rows are added up in single precision.
 */
KERNEL void products(const float *features, const double *weight, const double *target, int64_t rows, int64_t columns, double *sums)
{
    _Alignas(64) float tile[TILE * WIDEST] = {0};
    int64_t width = padded(columns + 2), lines = width / LANES;
    for (int64_t start = 0; start < rows; start += TILE) {
        int64_t count = rows - start < TILE ? rows - start : TILE, left = rows - start - count, part = 0;
        for (int64_t i = 0; i < count; i++)
            extend(features + (start + i) * columns, (float)target[start + i], weight ? weight + start + i : 0, columns, tile + i * width);
        for (int64_t second = 0; second < width; second += LANES)
            for (int64_t first = 0; first <= second; first += LANES) {
                ask_for(features + (start + count) * columns, (left < TILE ? left : TILE) * columns, part++, lines * (lines + 1) / 2);
                floats found[LANES] = {{0}};
                /* Two pointers that go from row to row: of one the compiler makes nine. */
                const float *one = tile + first, *other = tile + second;
                for (int64_t i = 0; i < count; i++, one += width, other += width) {
                    floats values = load(other);
                    for (int k = 0; k < LANES; k++)
                        found[k] += splat(one[k]) * values;
                }
                for (int k = 0; k < LANES; k++)
                    for (int lane = 0; lane < LANES; lane++)
                        sums[(first + k) * width + second + lane] += found[k][lane];
            }
    }
}
