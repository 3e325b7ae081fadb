/* Hinge loss and its slope: each row is read from memory once, and all sums are in double precision. */
#include "kernel.h"

/* Rows that are worked on at once: what they share is loaded once, and no addition waits for the one before it. */
#define ROWS 4

/* The products of four rows with a vector. */
static inline doubles products(const float *const *row, const double *vector, int64_t columns)
{
    doubles sums[ROWS] = {{0}, {0}, {0}, {0}}, all;
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4)
        for (int k = 0; k < ROWS; k++)
            sums[k] += widen(row[k] + j) * load_doubles(vector + j);
    for (int k = 0; k < ROWS; k++) {
        double rest = 0.0;
        for (int64_t i = j; i < columns; i++)
            rest += row[k][i] * vector[i];
        all[k] = ((sums[k][0] + sums[k][2]) + (sums[k][1] + sums[k][3])) + rest;
    }
    return all;
}

/* Adds slope times row of four rows to sums. */
static inline void add_rows(double *gradient, const float *const *row, const double *slope, int64_t columns)
{
    int64_t j = 0;
    for (; j + 4 <= columns; j += 4) {
        doubles sum = load_doubles(gradient + j);
        for (int k = 0; k < ROWS; k++)
            sum += widen(row[k] + j) * slope[k];
        store_doubles(gradient + j, sum);
    }
    for (; j < columns; j++)
        for (int k = 0; k < ROWS; k++)
            gradient[j] += slope[k] * row[k][j];
}

/*
 * Adds to gradient (columns) and sums (2: loss, slope) those of the rows; weight may be null.
 * With s = 2 y - 1 and margin m a row's loss is max(0, 1 - s m), its slope -s where that is above 0, and 0 elsewhere.
 */
KERNEL void hinge_loss(const float *features, const double *label, const double *weight, int64_t rows, int64_t columns,
                       const double *vector, double bias, double *gradient, double *sums)
{
    doubles losses = {0}, slopes = {0};
    for (int64_t start = 0; start < rows; start += ROWS) {
        const float *row[ROWS];
        double slope[ROWS];
        for (int k = 0; k < ROWS; k++)
            /* The last rows are filled up to four with the very last one, at weight 0. */
            row[k] = features + (start + k < rows ? start + k : rows - 1) * columns;
        doubles margin = products(row, vector, columns) + bias;
        int is_flat = 1;
        for (int k = 0; k < ROWS; k++) {
            int64_t i = start + k < rows ? start + k : rows - 1;
            double w = start + k >= rows ? 0.0 : weight ? weight[i] : 1.0;
            double sign = 2.0 * label[i] - 1.0, slack = 1.0 - sign * margin[k];
            /* A margin that is no number has no loss either. */
            losses[k] += slack <= 0.0 || w == 0.0 ? 0.0 : w * slack;
            slope[k] = slack > 0.0 ? -sign * w : 0.0;
            slopes[k] += slope[k];
            is_flat &= slope[k] == 0.0;
        }
        if (!is_flat)
            add_rows(gradient, row, slope, columns);
    }
    sums[0] += (losses[0] + losses[2]) + (losses[1] + losses[3]);
    sums[1] += (slopes[0] + slopes[2]) + (slopes[1] + slopes[3]);
}
