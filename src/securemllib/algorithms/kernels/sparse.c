/* Sums of sparse rows. */
#include "kernel.h"

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
