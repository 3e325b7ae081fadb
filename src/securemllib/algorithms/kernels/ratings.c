/* Normal equations of alternating least squares, and their solution by Cholesky's decomposition. */
#include "kernel.h"
#include <math.h>

/* Factors are padded with zeros to whole vectors of doubles; the factors of so many ratings are widened at once, 6 kB for rank 10. */
#define WIDTH 4
#define TOGETHER 64

/* Inlined where k is a number, so that the loops over it unroll. */
#define INLINE static inline __attribute__((always_inline))

typedef float quads __attribute__((vector_size(4 * WIDTH)));

static inline doubles splat_doubles(double value)
{
    return (doubles){value, value, value, value};
}

/* Widens the factors of ratings into wide (count, k), and times their confidences into scaled. */
INLINE void gather(const int32_t *sources, const double *confidences, int64_t count, const float *factors, int64_t k, double *wide,
                   double *scaled)
{
    for (int64_t r = 0; r < count; r++) {
        const float *from = factors + (int64_t)sources[r] * k;
        for (int64_t j = 0; j < k; j += WIDTH) {
            quads narrow;
            memcpy(&narrow, from + j, sizeof narrow);
            doubles value = __builtin_convertvector(narrow, doubles);
            store_doubles(wide + r * k + j, value);
            if (confidences)
                store_doubles(scaled + r * k + j, value * splat_doubles(confidences[r]));
        }
    }
}

/* Adds the outer products of ratings to WIDTH rows and `vectors` vectors of columns of a (k, k) matrix, held in registers. */
INLINE void add_tile(const double *scaled, const double *wide, int64_t count, int64_t k, int64_t row, int64_t column, int64_t vectors,
                     double *matrix)
{
    doubles sums[WIDTH][2];
    for (int64_t i = 0; i < WIDTH; i++)
        for (int64_t v = 0; v < vectors; v++)
            sums[i][v] = load_doubles(matrix + (row + i) * k + column + v * WIDTH);
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < WIDTH; i++)
            for (int64_t v = 0; v < vectors; v++)
                sums[i][v] += splat_doubles(scaled[r * k + row + i]) * load_doubles(wide + r * k + column + v * WIDTH);
    for (int64_t i = 0; i < WIDTH; i++)
        for (int64_t v = 0; v < vectors; v++)
            store_doubles(matrix + (row + i) * k + column + v * WIDTH, sums[i][v]);
}

/* Adds ratings to the upper triangle of a (k, k) matrix, by tiles, and to the right side. */
INLINE void add_ratings(const double *scaled, const double *wide, const double *targets, int64_t count, int64_t k, double *matrix,
                        double *side)
{
    for (int64_t row = 0; row < k; row += WIDTH) {
        int64_t column = row;
        for (; column + WIDTH < k; column += 2 * WIDTH)
            add_tile(scaled, wide, count, k, row, column, 2, matrix);
        if (column < k)
            add_tile(scaled, wide, count, k, row, column, 1, matrix);
    }
    for (int64_t j = 0; j < k; j += WIDTH) {
        doubles sum = load_doubles(side + j);
        for (int64_t r = 0; r < count; r++)
            sum += splat_doubles(targets[r]) * load_doubles(wide + r * k + j);
        store_doubles(side + j, sum);
    }
}

INLINE void equations_of(const int64_t *starts, const int32_t *sources, const double *confidences, const double *targets, int64_t rows,
                         const float *factors, int64_t rank, int64_t k, double *work, double *equations)
{
    double *matrix = work, *side = matrix + k * k, *wide = side + k, *scaled = confidences ? wide + TOGETHER * k : wide;
    for (int64_t row = 0; row < rows; row++) {
        memset(work, 0, (size_t)(k * k + k) * sizeof *work);
        for (int64_t at = starts[row]; at < starts[row + 1]; at += TOGETHER) {
            int64_t count = starts[row + 1] - at < TOGETHER ? starts[row + 1] - at : TOGETHER;
            gather(sources + at, confidences ? confidences + at : 0, count, factors, k, wide, scaled);
            add_ratings(scaled, wide, targets + at, count, k, matrix, side);
        }
        for (int64_t i = 0; i < rank; i++)
            for (int64_t j = i; j < rank; j++)
                *equations++ += matrix[i * k + j];
        for (int64_t j = 0; j < rank; j++)
            *equations++ += side[j];
    }
}

/* Adds to the equations of each row: the upper triangle of sum c f f', row by row, then sum t f. work holds k k + k + 2 TOGETHER k numbers. */
KERNEL void ratings_equations(const int64_t *starts, const int32_t *sources, const double *confidences, const double *targets,
                              int64_t rows, const float *factors, int64_t rank, int64_t k, double *work, double *equations)
{
    if (k == 8)
        equations_of(starts, sources, confidences, targets, rows, factors, rank, 8, work, equations);
    else if (k == 12)
        equations_of(starts, sources, confidences, targets, rows, factors, rank, 12, work, equations);
    else if (k == 20)
        equations_of(starts, sources, confidences, targets, rows, factors, rank, 20, work, equations);
    else
        equations_of(starts, sources, confidences, targets, rows, factors, rank, k, work, equations);
}

/* Solves (A + ridge I) x = b for each row's A (upper triangle) and b; returns the first row whose matrix is not positive definite,
 * or rows. The diagonal of the decomposition is kept as its inverse. work holds rank rank + rank numbers. */
KERNEL int64_t ratings_solve(const double *equations, const double *ridges, int64_t rows, int64_t rank, double *work, double *solutions)
{
    double *lower = work, *x = work + rank * rank;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < rank; i++) {
            for (int64_t j = i; j < rank; j++)
                lower[j * rank + i] = *equations++;
            lower[i * rank + i] += ridges[row];
        }
        for (int64_t j = 0; j < rank; j++)
            x[j] = *equations++;
        for (int64_t i = 0; i < rank; i++) {
            for (int64_t j = 0; j <= i; j++) {
                double sum = lower[i * rank + j];
                for (int64_t l = 0; l < j; l++)
                    sum -= lower[i * rank + l] * lower[j * rank + l];
                if (j < i)
                    lower[i * rank + j] = sum * lower[j * rank + j];
                else if (sum > 0.0)
                    lower[i * rank + i] = 1.0 / sqrt(sum);
                else
                    return row;
            }
            for (int64_t l = 0; l < i; l++)
                x[i] -= lower[i * rank + l] * x[l];
            x[i] *= lower[i * rank + i];
        }
        for (int64_t i = rank - 1; i >= 0; i--) {
            for (int64_t l = i + 1; l < rank; l++)
                x[i] -= lower[l * rank + i] * x[l];
            x[i] *= lower[i * rank + i];
        }
        memcpy(solutions + row * rank, x, (size_t)rank * sizeof *x);
    }
    return rows;
}
