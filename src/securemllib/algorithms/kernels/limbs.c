/* Matrices of numbers as integers of two limbs, of symmetric ones the upper triangle; products of integers modulo a prime. */
#include <math.h>

#include "kernel.h"

#define PRIME ((1LL << 61) - 1)
/* Products below 2^121 in magnitude of which a sum has less than 128 bits. */
#define PRODUCTS 32

/*
 * Writes the limbs, of so many bits, of leaves times the scales of their row and column; returns the largest leaf's magnitude, or infinity
 * where one has no such limbs.
 */
KERNEL double split(const double *matrix, int64_t rows, int64_t columns, int64_t symmetric, const double *row_scales,
                    const double *column_scales, int64_t bits, int64_t *restrict low, int64_t *restrict high)
{
    double up = ldexp(1.0, (int)bits), down = 1.0 / up, most = 0.0;
    for (int64_t i = 0; i < rows; i++, matrix += columns)
        for (int64_t j = symmetric ? i : 0; j < columns; j++) {
            double value = rint(matrix[j] * column_scales[j] * row_scales[i]), above = trunc(value * down), size = fabs(matrix[j]);
            if (!(fabs(above) < up))
                return INFINITY;
            *high++ = (int64_t)above;
            *low++ = (int64_t)(value - above * up);
            most = size > most ? size : most;
        }
    return most;
}

/* Writes the matrix that limbs stand for, before its rows and columns are multiplied by their scales. */
KERNEL void join(double *restrict matrix, int64_t rows, int64_t columns, int64_t symmetric, const double *row_scales,
                 const double *column_scales, int64_t bits, const int64_t *low, const int64_t *high)
{
    double up = ldexp(1.0, (int)bits);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = symmetric ? i : 0; j < columns; j++) {
            double value = ((double)*high++ * up + (double)*low++) * row_scales[i] * column_scales[j];
            matrix[i * columns + j] = value;
            if (symmetric)
                matrix[j * columns + i] = value;
        }
}

/* Writes each row's sum (rows) of products with the factors (columns) modulo the prime; values are below 2^60, factors below 2^61. */
KERNEL void residues(const int64_t *values, int64_t rows, int64_t columns, const int64_t *factors, int64_t *sums)
{
    for (int64_t i = 0; i < rows; i++, values += columns) {
        __int128 sum = 0;
        for (int64_t j = 0; j < columns; j++) {
            sum += (__int128)values[j] * factors[j];
            if (j % PRODUCTS == PRODUCTS - 1)
                sum = (sum & PRIME) + (sum >> 61);
        }
        sums[i] = (int64_t)(sum % PRIME);
    }
}
