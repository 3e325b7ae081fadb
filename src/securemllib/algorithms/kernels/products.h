/* The products of a tile of rows with themselves. */
#ifndef SECUREMLLIB_PRODUCTS_H
#define SECUREMLLIB_PRODUCTS_H

#include "kernel.h"

/* Rows whose products are added up in single precision. */
#define TILE 128
/* The widest rows, with target and one: a tile of them stays in a core's caches. */
#define WIDEST 128
/* Values in a line of the caches. */
#define LINE 16

/* Asks for one part, of so many, of values that are read soon: memory answers while others are worked on. */
static inline void ask_for(const float *from, int64_t values, int64_t part, int64_t parts)
{
    for (int64_t j = values * part / parts; j < values * (part + 1) / parts; j += LINE)
        __builtin_prefetch(from + j);
}

/*
 * Adds to sums (width, width) the products of a tile's rows of width values, whole lanes: of eight by eight of them only those where the
 * second eight are not before the first. They are added up in single precision. Meanwhile the next values are fetched from memory.
 */
static inline void add_products(const float *tile, int64_t count, int64_t width, double *sums, const float *next, int64_t values)
{
    int64_t lines = width / LANES, part = 0;
    for (int64_t second = 0; second < width; second += LANES)
        for (int64_t first = 0; first <= second; first += LANES) {
            floats found[LANES] = {{0}};
            ask_for(next, values, part++, lines * (lines + 1) / 2);
            /* Two pointers that go from row to row: of one the compiler makes nine. */
            const float *one = tile + first, *other = tile + second;
            for (int64_t i = 0; i < count; i++, one += width, other += width) {
                floats row = load(other);
                for (int k = 0; k < LANES; k++)
                    found[k] += splat(one[k]) * row;
            }
            for (int k = 0; k < LANES; k++)
                for (int lane = 0; lane < LANES; lane++)
                    sums[(first + k) * width + second + lane] += found[k][lane];
        }
}

#endif
