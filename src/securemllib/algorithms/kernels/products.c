/* The products of rows. */
#include "kernel.h"
#include <math.h>

/* Rows whose products are added up in single precision. */
#define TILE 128
/* The widest rows, with target and one: a tile of them stays in a core's caches. */
#define WIDEST 128

/* Copies a row with its target and a one behind it, times the root of its weight, and zeros up to whole lanes. */
static inline void extend(const float *row, float target, const double *weight, int64_t columns, int64_t width, float *out)
{
    memcpy(out, row, sizeof(float) * columns);
    memset(out + columns, 0, sizeof(float) * (width - columns));
    out[columns] = target;
    out[columns + 1] = 1.0f;
    if (weight) {
        float root = (float)sqrt(*weight);
        for (int64_t j = 0; j < width; j++)
            out[j] *= root;
    }
}

/*
 * Adds to sums (width, width) the weighted products of rows that have a target and a one behind their columns, width being these in whole
 * lanes: of eight by eight of them only those where the second eight are not before the first. A weight is 1 where weight is null.
 * The products of a tile of rows are added up in single precision.
 */
KERNEL void products(const float *features, const double *weight, const double *target, int64_t rows, int64_t columns, double *sums)
{
    float tile[TILE * WIDEST];
    int64_t width = padded(columns + 2);
    for (int64_t start = 0; start < rows; start += TILE) {
        int64_t count = rows - start < TILE ? rows - start : TILE;
        for (int64_t i = 0; i < count; i++)
            extend(features + (start + i) * columns, (float)target[start + i], weight ? weight + start + i : 0, columns, width, tile + i * width);
        for (int64_t second = 0; second < width; second += LANES)
            for (int64_t first = 0; first <= second; first += LANES) {
                floats found[LANES] = {{0}};
                for (const float *row = tile; row < tile + count * width; row += width) {
                    floats values = load(row + second);
                    for (int k = 0; k < LANES; k++)
                        found[k] += splat(row[first + k]) * values;
                }
                for (int k = 0; k < LANES; k++)
                    for (int lane = 0; lane < LANES; lane++)
                        sums[(first + k) * width + second + lane] += found[k][lane];
            }
    }
}
