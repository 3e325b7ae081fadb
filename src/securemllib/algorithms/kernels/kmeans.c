/* Nearest centres of rows, sixteen rows at a time, and the sums of rows by nearest centre: each row is read from memory once. */
#include <math.h>

#include "kernel.h"

/* Rows whose sums are taken in single precision before they are added in double precision. */
#define STRETCH 512
/* Centres whose products with the rows are computed together; their number is a multiple of it. */
#define TOGETHER 4
/* Rows whose products are computed together. */
#define GROUP (2 * LANES)

/* Adds scale times row to a padded row of sums. */
static inline void add_row(float *sum, const float *row, float scale, int64_t columns, const tail *last)
{
    int64_t whole = columns - columns % LANES;
    floats scales = splat(scale);
    for (int64_t j = 0; j < whole; j += LANES)
        store(sum + j, load(sum + j) + scales * load(row + j));
    if (whole < columns)
        store(sum + whole, load(sum + whole) + scales * load_tail(row, last));
}

/* Writes eight columns of eight rows with the rows in the lanes. */
static inline void turn(const float *const *row, int64_t column, float *out)
{
    floats lines[LANES], columns[LANES];
    for (int k = 0; k < LANES; k++)
        lines[k] = load(row[k] + column);
    transpose(lines, columns);
    for (int k = 0; k < LANES; k++)
        store(out + GROUP * k, columns[k]);
}

static inline void choose(floats score, int32_t center, floats *best, ints *index)
{
    ints better = score > *best, chosen = {center, center, center, center, center, center, center, center};
    *best = (floats)(((ints)score & better) | ((ints)*best & ~better));
    *index = (chosen & better) | (*index & ~better);
}

/*
 * Writes the first of the centres whose score x.c - |c|^2 / 2 is largest, for GROUP rows. An infinite half is the mark of a centre that
 * only fills up. scratch holds GROUP * columns values.
 */
static inline void nearest(const float *const *row, int64_t columns, const float *centers, const float *halves, int64_t count,
                           float *scratch, int32_t *found)
{
    floats best[2] = {splat(-INFINITY), splat(-INFINITY)};
    ints index[2] = {{0}, {0}};
    for (int half = 0; half < 2; half++) {
        const float *const *here = row + half * LANES;
        for (int64_t j = 0; j + LANES <= columns; j += LANES)
            turn(here, j, scratch + GROUP * j + LANES * half);
        if (columns % LANES)
            turn(here, columns - LANES, scratch + GROUP * (columns - LANES) + LANES * half);
    }
    for (int64_t c = 0; c < count; c += TOGETHER) {
        const float *center = centers + c * columns;
        floats score[TOGETHER][2];
        for (int u = 0; u < TOGETHER; u++)
            score[u][0] = score[u][1] = splat(-halves[c + u]);
        for (int64_t j = 0; j < columns; j++) {
            floats low = load(scratch + GROUP * j), high = load(scratch + GROUP * j + LANES);
            for (int u = 0; u < TOGETHER; u++) {
                floats value = splat(center[u * columns + j]);
                score[u][0] += low * value;
                score[u][1] += high * value;
            }
        }
        for (int u = 0; u < TOGETHER; u++)
            for (int half = 0; half < 2; half++)
                choose(score[u][half], (int32_t)(c + u), &best[half], &index[half]);
    }
    memcpy(found, index, sizeof index);
}

/* Squared distances of eight rows to their centres, from differences: products would cancel near a centre. */
static inline floats distances(const float *const *row, int64_t columns, const float *centers, const int32_t *index, const tail *last)
{
    floats sums[LANES];
    int64_t whole = columns - columns % LANES;
    for (int k = 0; k < LANES; k++) {
        const float *center = centers + index[k] * columns;
        floats sum = {0};
        for (int64_t j = 0; j < whole; j += LANES) {
            floats difference = load(row[k] + j) - load(center + j);
            sum += difference * difference;
        }
        if (whole < columns) {
            floats difference = load_tail(row[k], last) - load_tail(center, last);
            sum += difference * difference;
        }
        sums[k] = sum;
    }
    return totals(sums);
}

/* GROUP rows from `start` on; the last are filled up with the very last row. */
static inline void point(const float **row, const float *features, int64_t start, int64_t rows, int64_t columns)
{
    for (int k = 0; k < GROUP; k++)
        row[k] = features + (start + k < rows ? start + k : rows - 1) * columns;
}

/*
 * Adds to found (count, 2), sums (count, columns) and cost (1) the rows and their weight, the weighted sums and the weighted squared
 * distances by nearest centre. halves (count) are |c|^2 / 2, weight may be null; scratch (GROUP * columns) and stretch (count, padded columns)
 * are written.
 */
KERNEL void kmeans_assign(const float *features, const double *weight, int64_t rows, int64_t columns, const float *centers,
                          const float *halves, int64_t count, float *scratch, float *stretch, double *found, double *sums, double *cost)
{
    tail last = tail_of(columns);
    double costs[GROUP] = {0};
    int64_t width = padded(columns);
    memset(stretch, 0, sizeof(float) * count * width);
    for (int64_t start = 0; start < rows; start += GROUP) {
        const float *row[GROUP];
        float squared[GROUP];
        int32_t index[GROUP];
        int64_t live = rows - start < GROUP ? rows - start : GROUP;
        point(row, features, start, rows, columns);
        nearest(row, columns, centers, halves, count, scratch, index);
        for (int k = 0; k < GROUP; k += LANES)
            store(squared + k, distances(row + k, columns, centers, index + k, &last));
        for (int k = 0; k < live; k++) {
            double w = weight ? weight[start + k] : 1.0;
            add_row(stretch + index[k] * width, row[k], (float)w, columns, &last);
            found[2 * index[k]] += 1.0;
            found[2 * index[k] + 1] += w;
            costs[k] += w * squared[k];
        }
        if (start % STRETCH == STRETCH - GROUP || start + GROUP >= rows)
            for (int64_t c = 0; c < count; c++)
                flush(sums + c * columns, stretch + c * width, columns);
    }
    for (int k = 0; k < GROUP; k++)
        cost[0] += costs[k];
}

/* Writes the squared distance of each row to its nearest centre; arguments as of kmeans_assign. */
KERNEL void kmeans_distances(const float *features, int64_t rows, int64_t columns, const float *centers, const float *halves,
                             int64_t count, float *scratch, double *squared)
{
    tail last = tail_of(columns);
    for (int64_t start = 0; start < rows; start += GROUP) {
        const float *row[GROUP];
        int32_t index[GROUP];
        point(row, features, start, rows, columns);
        nearest(row, columns, centers, halves, count, scratch, index);
        for (int half = 0; half < GROUP; half += LANES) {
            floats found = distances(row + half, columns, centers, index + half, &last);
            for (int k = 0; k < LANES && start + half + k < rows; k++)
                squared[start + half + k] = found[k];
        }
    }
}
