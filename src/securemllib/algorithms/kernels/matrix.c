/* Columns to centred rows, and the moments of rows. */
#include "kernel.h"

/* Independent sums of a column, so that an addition need not wait for the one before it. */
#define CHAINS 4
/* Rows that are turned at once: their part of a few hundred columns stays in a core's second-level cache. */
#define TILE 128

/* The sums of the columns, which are given by their addresses. */
KERNEL void column_sums(const double *const *columns, int64_t rows, int64_t count, double *sums)
{
    for (int64_t c = 0; c < count; c++) {
        const double *column = columns[c];
        doubles chains[CHAINS] = {{0}, {0}, {0}, {0}};
        int64_t i = 0;
        for (; i + 4 * CHAINS <= rows; i += 4 * CHAINS)
            for (int chain = 0; chain < CHAINS; chain++)
                chains[chain] += load_doubles(column + i + 4 * chain);
        doubles sum = (chains[0] + chains[2]) + (chains[1] + chains[3]);
        double rest = 0.0;
        for (; i < rows; i++)
            rest += column[i];
        sums[c] = ((sum[0] + sum[2]) + (sum[1] + sum[3])) + rest;
    }
}

/* Eight rows of eight columns: differences in double precision, rounded once. */
static inline void turn(const double *const *columns, int64_t row, const double *offsets, float *out, int64_t width)
{
    floats lines[LANES], rows[LANES];
    for (int k = 0; k < LANES; k++) {
        doubles offset = {offsets[k], offsets[k], offsets[k], offsets[k]};
        fours low = __builtin_convertvector(load_doubles(columns[k] + row) - offset, fours);
        fours high = __builtin_convertvector(load_doubles(columns[k] + row + 4) - offset, fours);
        memcpy(&lines[k], &low, sizeof low);
        memcpy((char *)&lines[k] + sizeof low, &high, sizeof high);
    }
    transpose(lines, rows);
    for (int k = 0; k < LANES; k++)
        store(out + (row + k) * width, rows[k]);
}

/* Writes out (rows, count): the columns less their offsets. */
KERNEL void centred_rows(const double *const *columns, int64_t rows, int64_t count, const double *offsets, float *out)
{
    int64_t whole_rows = rows - rows % LANES, whole_columns = count - count % LANES;
    for (int64_t start = 0; start < whole_rows; start += TILE) {
        int64_t stop = start + TILE < whole_rows ? start + TILE : whole_rows;
        for (int64_t c = 0; c < whole_columns; c += LANES)
            for (int64_t i = start; i < stop; i += LANES)
                turn(columns + c, i, offsets + c, out + c, count);
        for (int64_t c = whole_columns; c < count; c++)
            for (int64_t i = start; i < stop; i++)
                out[i * count + c] = (float)(columns[c][i] - offsets[c]);
    }
    for (int64_t i = whole_rows; i < rows; i++)
        for (int64_t c = 0; c < count; c++)
            out[i * count + c] = (float)(columns[c][i] - offsets[c]);
}

/*
 * Writes the weighted means (columns) of rows, whose weights, 1 where weight is null, times scale add up to 1; the weighted squares about
 * them; and the least and largest values, which start at what they hold, of rows whose weight is not 0.
 */
KERNEL void moments(const float *features, const double *weight, int64_t rows, int64_t columns, double scale, double *restrict mean,
                    double *restrict squares, float *restrict minimum, float *restrict maximum)
{
    int64_t whole = columns - columns % 4;
    memset(mean, 0, sizeof(double) * columns);
    memset(squares, 0, sizeof(double) * columns);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < rows; i++) {
            const float *row = features + i * columns;
            double w = weight ? weight[i] : 1.0;
            doubles factor = {w, w, w, w};
            if (w == 0.0)
                continue;
            if (pass == 0) {
                for (int64_t j = 0; j < columns; j++) {
                    minimum[j] = row[j] < minimum[j] ? row[j] : minimum[j];
                    maximum[j] = row[j] > maximum[j] ? row[j] : maximum[j];
                }
                for (int64_t j = 0; j < whole; j += 4) {
                    doubles sum = load_doubles(mean + j) + factor * widen(row + j);
                    memcpy(mean + j, &sum, sizeof sum);
                }
                for (int64_t j = whole; j < columns; j++)
                    mean[j] += w * row[j];
            } else {
                for (int64_t j = 0; j < whole; j += 4) {
                    doubles difference = widen(row + j) - load_doubles(mean + j);
                    doubles sum = load_doubles(squares + j) + factor * difference * difference;
                    memcpy(squares + j, &sum, sizeof sum);
                }
                for (int64_t j = whole; j < columns; j++)
                    squares[j] += w * (row[j] - mean[j]) * (row[j] - mean[j]);
            }
        }
        if (pass == 0)
            for (int64_t j = 0; j < columns; j++)
                mean[j] *= scale;
    }
}
