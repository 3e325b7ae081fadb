/* The passes of a Gaussian mixture over its rows: whitened squares of sixteen rows at a time, and their products by component. */
#include <math.h>

#include "products.h"

/* Rows whose squares are computed together, in two vectors. */
#define GROUP (2 * LANES)
/* Whitened directions that are computed together: roots are filled up with zeros to a multiple of it. */
#define TOGETHER 4

/* Writes the columns of GROUP rows with the rows in the lanes; the last rows are filled up with the very last. */
static inline void turn(const float *features, int64_t start, int64_t rows, int64_t columns, float *out)
{
    for (int k = 0; k < GROUP; k++) {
        const float *row = features + (start + k < rows ? start + k : rows - 1) * columns;
        for (int64_t j = 0; j < columns; j++)
            out[GROUP * j + k] = row[j];
    }
}

/*
 * Writes to squares (count, rows) the squared lengths of rows' differences to the means (count, columns) times the lower triangular roots
 * (count, columns, columns filled up to a multiple of TOGETHER). There are at most WIDEST columns.
 */
KERNEL void mixture_squares(const float *features, int64_t rows, int64_t columns, const float *means, const float *roots, int64_t count,
                            double *squares)
{
    float turned[WIDEST * GROUP], differences[WIDEST * GROUP];
    int64_t width = (columns + TOGETHER - 1) / TOGETHER * TOGETHER;
    for (int64_t start = 0; start < rows; start += GROUP) {
        int64_t live = rows - start < GROUP ? rows - start : GROUP;
        turn(features, start, rows, columns, turned);
        for (int64_t c = 0; c < count; c++) {
            const float *mean = means + c * columns, *root = roots + c * columns * width;
            float found[GROUP];
            floats sum[2] = {{0}};
            for (int64_t j = 0; j < columns; j++)
                for (int half = 0; half < GROUP; half += LANES)
                    store(differences + GROUP * j + half, load(turned + GROUP * j + half) - splat(mean[j]));
            for (int64_t first = 0; first < columns; first += TOGETHER) {
                floats white[TOGETHER][2] = {{{0}}};
                /* A lower triangular root has nothing above the diagonal. */
                const float *values = root + first * width + first, *lines = differences + GROUP * first;
                for (int64_t j = first; j < columns; j++, values += width, lines += GROUP) {
                    floats low = load(lines), high = load(lines + LANES);
                    for (int u = 0; u < TOGETHER; u++) {
                        floats value = splat(values[u]);
                        white[u][0] += low * value;
                        white[u][1] += high * value;
                    }
                }
                for (int u = 0; u < TOGETHER; u++)
                    for (int half = 0; half < 2; half++)
                        sum[half] += white[u][half] * white[u][half];
            }
            memcpy(found, sum, sizeof found);
            for (int64_t k = 0; k < live; k++)
                squares[c * rows + start + k] = found[k];
        }
    }
}

/*
 * Adds to sums (count, width, width), as add_products does, the products of rows' differences to the means (count, columns) with a one
 * behind them, width being these in whole lanes, times the rows' shares (count, rows). There are fewer than WIDEST columns.
 */
KERNEL void mixture_products(const float *features, const float *shares, int64_t rows, int64_t columns, const float *means, int64_t count,
                             double *sums)
{
    _Alignas(4 * LANES) float tile[TILE * WIDEST] = {0};
    int64_t width = padded(columns + 1);
    for (int64_t start = 0; start < rows; start += TILE)
        for (int64_t c = 0; c < count; c++) {
            const float *mean = means + c * columns;
            int64_t used = 0;
            for (int64_t i = start; i < rows && i < start + TILE; i++) {
                float root = sqrtf(shares[c * rows + i]), *out = tile + used * width;
                for (int64_t j = 0; j < columns; j++)
                    out[j] = (features[i * columns + j] - mean[j]) * root;
                out[columns] = root;
                /* Rows far from a mean have no share of it. */
                used += root > 0.0f;
            }
            add_products(tile, used, width, sums + c * width * width, features, 0);
        }
}
