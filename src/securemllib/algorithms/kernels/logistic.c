/* Logistic loss and its derivatives: each row is read from memory once. */
#include <math.h>

#include "kernel.h"

/* Rows whose gradient is summed in single precision before it is added in double precision. */
#define STRETCH 512
/* Of log(1 + d) = 2 (s + s^3/3 + s^5/5 ...), s = d / (2 + d) <= 1/3: ten terms leave 2e-11 of it. */
#define TERMS 10

/* Below this the result is 0; exp(-87.3) is the smallest normal number. */
#define SMALLEST (-87.3f)

/*
 * exp(x) for x <= 0, off by at most 2 units in the last place; 0 below SMALLEST, NaN for NaN.
 * x = n log(2) + r with |r| <= log(2) / 2, exp(r) by its Taylor polynomial of degree 7, whose remainder there is 1e-8 of it.
 */
static inline floats exponential(floats x)
{
    const floats shift = splat(12582912.0f); /* 1.5 * 2**23: adding it rounds to an integer in the lowest bits. */
    ints is_small = x < splat(SMALLEST);
    /* Of a comparison's -1 and 0, `&` makes a choice without a branch; a NaN is not small and stays. */
    x = (floats)(((ints)x & ~is_small));
    floats shifted = x * splat(1.44269504f) + shift;
    floats n = shifted - shift;
    /* log(2) in two parts (Cody and Waite 1980): the product of n and the first is exact. */
    floats r = x - n * splat(0.693359375f);
    r = r - n * splat(-2.12194440e-4f);
    floats p = splat(1.0f / 5040.0f);
    p = p * r + splat(1.0f / 720.0f);
    p = p * r + splat(1.0f / 120.0f);
    p = p * r + splat(1.0f / 24.0f);
    p = p * r + splat(1.0f / 6.0f);
    p = p * r + splat(0.5f);
    p = p * r + splat(1.0f);
    p = p * r + splat(1.0f);
    /* 2**n: n sits in the lowest bits of `shifted`, the exponent of a float starts at bit 23. */
    floats scale = (floats)(((ints)shifted << 23) + (127 << 23));
    return (floats)((ints)(p * scale) & ~is_small);
}

/* The first `count` values, 1 to LANES, and zeros in the other lanes. */
static inline floats load_first(const float *from, int64_t count)
{
    floats value = {0};
    if (count == LANES)
        return load(from);
    for (int64_t lane = 0; lane < count; lane++)
        value[lane] = from[lane];
    return value;
}

/* The margins of eight rows. */
static inline floats margins(const float *const *row, const float *vector, int64_t columns, const tail *last)
{
    floats sums[LANES];
    int64_t whole = columns - columns % LANES;
    memset(sums, 0, sizeof sums);
    for (int64_t j = 0; j < whole; j += LANES) {
        floats v = load(vector + j);
        for (int k = 0; k < LANES; k++)
            sums[k] += load(row[k] + j) * v;
    }
    if (whole < columns) {
        floats v = load_tail(vector, last);
        for (int k = 0; k < LANES; k++)
            sums[k] += load_tail(row[k], last) * v;
    }
    return totals(sums);
}

/* Adds residual times row of eight rows to a padded row of sums. */
static inline void add_rows(float *gradient, const float *const *row, const float *residual, int64_t columns, const tail *last)
{
    int64_t whole = columns - columns % LANES;
    floats r[LANES];
    for (int k = 0; k < LANES; k++)
        r[k] = splat(residual[k]);
    for (int64_t j = 0; j < whole; j += LANES) {
        floats sum = load(gradient + j);
        for (int k = 0; k < LANES; k++)
            sum += r[k] * load(row[k] + j);
        store(gradient + j, sum);
    }
    if (whole < columns) {
        floats sum = load(gradient + whole);
        for (int k = 0; k < LANES; k++)
            sum += r[k] * load_tail(row[k], last);
        store(gradient + whole, sum);
    }
}

static inline double log1p_of(double d)
{
    double s = d / (2.0 + d), square = s * s, sum = 1.0 / (2 * TERMS - 1);
    for (int term = TERMS - 2; term >= 0; term--)
        sum = sum * square + 1.0 / (2 * term + 1);
    return 2.0 * s * sum;
}

/*
 * Adds to gradient (columns) and sums (2: loss, residual) those of the rows; weight may be null, scratch (padded columns) is written.
 * With margin m and label y a row's loss is max(m, 0) - y m + log(1 + exp(-|m|)), its residual 1 / (1 + exp(-m)) - y.
 */
KERNEL void binomial_loss(const float *features, const double *label, const double *weight, int64_t rows, int64_t columns,
                          const float *vector, double bias, float *scratch, double *gradient, double *sums)
{
    double losses[LANES] = {0}, residuals[LANES] = {0};
    tail last = tail_of(columns);
    memset(scratch, 0, sizeof(float) * padded(columns));
    for (int64_t start = 0; start < rows; start += LANES) {
        const float *row[LANES];
        double y[LANES], w[LANES];
        for (int k = 0; k < LANES; k++) {
            /* The last rows are filled up to eight with the very last one, at weight 0. */
            int64_t i = start + k < rows ? start + k : rows - 1;
            row[k] = features + i * columns;
            y[k] = label[i];
            w[k] = start + k >= rows ? 0.0 : weight ? weight[i] : 1.0;
        }
        floats m = margins(row, vector, columns, &last) + splat((float)bias);
        ints sign = (ints)m & INT32_MIN;
        floats decay = exponential((floats)((ints)m | INT32_MIN));
        floats share = splat(1.0f) / (splat(1.0f) + decay);
        float margin[LANES], d[LANES], probability[LANES], residual[LANES];
        store(margin, m);
        store(d, decay);
        store(probability, (floats)(((ints)share & ~(sign >> 31)) | ((ints)(decay * share) & (sign >> 31))));
        for (int k = 0; k < LANES; k++) {
            double positive = margin[k] < 0.0f ? 0.0 : margin[k];
            losses[k] += w[k] * (positive - y[k] * margin[k] + log1p_of(d[k]));
            residual[k] = (float)(w[k] * (probability[k] - y[k]));
            residuals[k] += residual[k];
        }
        add_rows(scratch, row, residual, columns, &last);
        if (start % STRETCH == STRETCH - LANES)
            flush(gradient, scratch, columns);
    }
    flush(gradient, scratch, columns);
    for (int k = 0; k < LANES; k++) {
        sums[0] += losses[k];
        sums[1] += residuals[k];
    }
}

/*
 * Turns margins (classes, rows) into residuals: probability of the class less 1 where it is the row's own, times weight, which may be null.
 * Adds to sums (1 + classes) the loss, log(sum exp(margin)) - own margin, and the residuals of each class.
 */
KERNEL void softmax_residuals(float *margins, const double *label, const double *weight, int64_t rows, int64_t classes, double *sums)
{
    for (int64_t start = 0; start < rows; start += LANES) {
        int64_t live = rows - start < LANES ? rows - start : LANES;
        floats largest = splat(-INFINITY), total = {0};
        for (int64_t c = 0; c < classes; c++) {
            floats m = load_first(margins + c * rows + start, live);
            ints larger = m > largest;
            largest = (floats)(((ints)m & larger) | ((ints)largest & ~larger));
        }
        double loss[LANES];
        for (int k = 0; k < live; k++)
            loss[k] = (double)largest[k] - margins[(int64_t)label[start + k] * rows + start + k];
        for (int64_t c = 0; c < classes; c++) {
            floats p = exponential(load_first(margins + c * rows + start, live) - largest);
            total += p;
            memcpy(margins + c * rows + start, &p, sizeof(float) * live);
        }
        for (int k = 0; k < live; k++) {
            double w = weight ? weight[start + k] : 1.0;
            sums[0] += w * (loss[k] + log(total[k]));
        }
        for (int64_t c = 0; c < classes; c++)
            for (int k = 0; k < live; k++) {
                float *here = margins + c * rows + start + k;
                *here = *here / total[k] - (label[start + k] == (double)c ? 1.0f : 0.0f);
                if (weight)
                    *here *= (float)weight[start + k];
                sums[1 + c] += *here;
            }
    }
}

/* exp of each value, all at most 0, of a count that LANES divides: for tests of its error. */
KERNEL void exponentials(const float *values, int64_t count, float *results)
{
    for (int64_t start = 0; start < count; start += LANES)
        store(results + start, exponential(load(values + start)));
}
