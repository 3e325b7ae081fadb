/* The products of rows. */
#include <math.h>

#include "products.h"

/* Copies a row with its target and a one behind it, times the root of its weight; what follows up to whole lanes stays zero. */
static inline void extend(const float *row, float target, const double *weight, int64_t columns, float *out)
{
    float root = weight ? (float)sqrt(*weight) : 1.0f;
    for (int64_t j = 0; j < columns; j++)
        out[j] = row[j] * root;
    out[columns] = target * root;
    out[columns + 1] = root;
}

/*
 * Adds to sums (width, width) the weighted products of rows that have a target and a one behind their columns, width being these in whole
 * lanes, as add_products does, and mirrors them. A weight is 1 where weight is null.
 */
KERNEL void products(const float *features, const double *weight, const double *target, int64_t rows, int64_t columns, double *sums)
{
    _Alignas(4 * LANES) float tile[TILE * WIDEST] = {0};
    int64_t width = padded(columns + 2);
    for (int64_t start = 0; start < rows; start += TILE) {
        int64_t count = rows - start < TILE ? rows - start : TILE, left = rows - start - count;
        for (int64_t i = 0; i < count; i++)
            extend(features + (start + i) * columns, (float)target[start + i], weight ? weight + start + i : 0, columns, tile + i * width);
        add_products(tile, count, width, sums, features + (start + count) * columns, (left < TILE ? left : TILE) * columns);
    }
    for (int64_t i = 1; i < width; i++)
        for (int64_t j = 0; j < i; j++)
            sums[i * width + j] = sums[j * width + i];
}
