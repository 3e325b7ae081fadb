/* Sums of sparse rows. */
#include "kernel.h"

/* What is known of a column's stored values, side by side in memory because a row adds to columns anywhere. */
enum { WEIGHT, SUM, COUNT, MINIMUM, MAXIMUM, MOMENTS };

/*
 * Adds to sums (classes, width) the weighted rows of each class. The rows are visited in the given order: one that keeps the rows of a
 * class together keeps its sums in the cache. Returns whether a column is not below width; then some rows were not added.
 */
KERNEL int64_t sparse_class_sums(const int64_t *starts, const int32_t *columns, const float *values, const int64_t *order,
                                 const int64_t *classes, const double *weights, int64_t rows, int64_t width, double *sums)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = order[r];
        double *to = sums + classes[row] * width, weight = weights[row];
        int beyond = 0;
        for (int64_t e = starts[row]; e < starts[row + 1]; e++)
            beyond |= (uint32_t)columns[e] >= (uint64_t)width;
        if (beyond)
            return 1;
        for (int64_t e = starts[row]; e < starts[row + 1]; e++)
            to[columns[e]] += weight * (double)values[e];
    }
    return 0;
}

/*
 * Adds to moments (width, MOMENTS) the weight, weighted sum and number of each column's stored values, and lowers and raises its extremes;
 * rows of weight 0 are left out, weights may be null. A NaN makes both extremes NaN. Returns whether a column is not below width; then
 * some rows were not added.
 */
KERNEL int64_t sparse_moments(const int64_t *starts, const int32_t *columns, const float *values, const double *weights, int64_t rows,
                              int64_t width, double *moments)
{
    for (int64_t row = 0; row < rows; row++) {
        double weight = weights ? weights[row] : 1.0;
        if (weight == 0.0)
            continue;
        int beyond = 0;
        for (int64_t e = starts[row]; e < starts[row + 1]; e++)
            beyond |= (uint32_t)columns[e] >= (uint64_t)width;
        if (beyond)
            return 1;
        for (int64_t e = starts[row]; e < starts[row + 1]; e++) {
            double *to = moments + (int64_t)columns[e] * MOMENTS, value = values[e];
            to[WEIGHT] += weight;
            to[SUM] += weight * value;
            to[COUNT] += 1.0;
            to[MINIMUM] = value < to[MINIMUM] || value != value ? value : to[MINIMUM];
            to[MAXIMUM] = value > to[MAXIMUM] || value != value ? value : to[MAXIMUM];
        }
    }
    return 0;
}

/* Adds to squares (width) the weighted squares of the distances of stored values to their column's mean; columns are below width. */
KERNEL void sparse_squares(const int64_t *starts, const int32_t *columns, const float *values, const double *weights, int64_t rows,
                           const double *mean, double *squares)
{
    for (int64_t row = 0; row < rows; row++) {
        double weight = weights ? weights[row] : 1.0;
        if (weight == 0.0)
            continue;
        for (int64_t e = starts[row]; e < starts[row + 1]; e++) {
            double distance = (double)values[e] - mean[columns[e]];
            squares[columns[e]] += weight * distance * distance;
        }
    }
}
