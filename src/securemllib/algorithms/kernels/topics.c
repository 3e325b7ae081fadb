/* Topic models over sparse counts: inference of documents, and the expected counts of documents and terms. */
#include "kernel.h"
#include <math.h>

/* Topics are padded with zeros to whole vectors of doubles. */
#define WIDTH 4

/* Terms of a document that are read together, so that its topics are loaded and stored once for all of them. */
#define TOGETHER 4

/* What MLlib adds to the probability of a token. */
#define LEAST 1e-100

/* Where the asymptotic series of digamma begins, and below which an exponential is nothing. */
#define ASYMPTOTIC 8
#define SMALLEST -708.0

typedef int64_t longs __attribute__((vector_size(8 * WIDTH)));

static inline doubles splat_doubles(double value)
{
    return (doubles){value, value, value, value};
}

static inline double total_doubles(doubles sum)
{
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

static inline double dot(const double *one, const double *other, int64_t k)
{
    doubles sum = {0.0, 0.0, 0.0, 0.0};
    for (int64_t j = 0; j < k; j += WIDTH)
        sum += load_doubles(one + j) * load_doubles(other + j);
    return total_doubles(sum);
}

static inline void add_scaled(double *to, double scale, const double *from, int64_t k)
{
    doubles factor = splat_doubles(scale);
    for (int64_t j = 0; j < k; j += WIDTH)
        store_doubles(to + j, load_doubles(to + j) + factor * load_doubles(from + j));
}

/*
 * exp(x) for x <= 0; 0 below SMALLEST.
 * x = n log(2) + r with |r| <= log(2) / 2, exp(r) by its Taylor polynomial of degree 13, whose remainder there is 4e-18.
 */
static inline doubles exponential(doubles x)
{
    static const double inverse_factorials[] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                                1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0};
    const doubles shift = splat_doubles(6755399441055744.0); /* 1.5 * 2**52: adding it rounds to an integer in the lowest bits. */
    longs is_small = x < splat_doubles(SMALLEST);
    x = (doubles)((longs)x & ~is_small);
    doubles shifted = x * splat_doubles(1.4426950408889634) + shift, n = shifted - shift;
    /* log(2) in two parts (Cody and Waite 1980): the product of n and the first is exact. */
    doubles r = x - n * splat_doubles(0.69314718036912382) - n * splat_doubles(1.9082149292705877e-10), p = splat_doubles(1.0 / 6227020800);
    for (size_t i = 0; i < sizeof inverse_factorials / sizeof *inverse_factorials; i++)
        p = p * r + splat_doubles(inverse_factorials[i]);
    return (doubles)((longs)(p * (doubles)(((longs)shifted << 52) + (1023LL << 52))) & ~is_small);
}

/*
 * Of x > 0 the y and the z of exp(digamma(x)) = y exp(-z): the recurrence up to y >= ASYMPTOTIC as one fraction, then the asymptotic
 * series without its logarithm (Abramowitz and Stegun 6.3.5 and 6.3.18), whose first dropped term is 1/12 y^-14.
 */
static inline doubles shifted_digamma(doubles x, doubles *z)
{
    longs is_low = x < splat_doubles(ASYMPTOTIC);
    doubles product = splat_doubles(1.0), sum = splat_doubles(0.0);
    for (int i = 0; i < ASYMPTOTIC; i++) {
        doubles factor = x + splat_doubles(i);
        sum = sum * factor + product;
        product *= factor;
    }
    doubles y = x + (doubles)((longs)splat_doubles(ASYMPTOTIC) & is_low), inverse = splat_doubles(1.0) / y, square = inverse * inverse;
    doubles series = splat_doubles(1.0 / 132) - square * splat_doubles(691.0 / 32760);
    series = splat_doubles(1.0 / 240) - square * series;
    series = splat_doubles(1.0 / 252) - square * series;
    series = splat_doubles(1.0 / 120) - square * series;
    series = splat_doubles(1.0 / 12) - square * series;
    *z = splat_doubles(0.5) * inverse + square * series + (doubles)((longs)(sum / product) & is_low);
    return y;
}

static void exp_expected_log(const double *gamma, double *theta, int64_t k)
{
    doubles sum = {0.0, 0.0, 0.0, 0.0}, z;
    for (int64_t j = 0; j < k; j += WIDTH)
        sum += load_doubles(gamma + j);
    doubles y = shifted_digamma(splat_doubles(total_doubles(sum)), &z), of_sum = splat_doubles(log(y[0]) - z[0]);
    for (int64_t j = 0; j < k; j += WIDTH) {
        doubles x = load_doubles(gamma + j);
        y = shifted_digamma(x, &z);
        store_doubles(theta + j, (doubles)((longs)(y * exponential(-z - of_sum)) & (x > splat_doubles(0.0))));
    }
}

/* Adds to work the terms of one document, each by its count over the probability of its token. */
static void add_terms(const int32_t *terms_of, const double *counts, int64_t length, const double *terms, const double *theta, int64_t k,
                      double *work)
{
    int64_t i = 0;
    for (; i + TOGETHER <= length; i += TOGETHER) {
        const double *term[TOGETHER];
        doubles sums[TOGETHER] = {{0.0}}, scales[TOGETHER];
        for (int t = 0; t < TOGETHER; t++)
            term[t] = terms + (int64_t)terms_of[i + t] * k;
        for (int64_t j = 0; j < k; j += WIDTH) {
            doubles topic = load_doubles(theta + j);
            for (int t = 0; t < TOGETHER; t++)
                sums[t] += topic * load_doubles(term[t] + j);
        }
        for (int t = 0; t < TOGETHER; t++)
            scales[t] = splat_doubles(counts[i + t] / (total_doubles(sums[t]) + LEAST));
        for (int64_t j = 0; j < k; j += WIDTH) {
            doubles found = load_doubles(work + j);
            for (int t = 0; t < TOGETHER; t++)
                found += scales[t] * load_doubles(term[t] + j);
            store_doubles(work + j, found);
        }
    }
    for (; i < length; i++) {
        const double *term = terms + (int64_t)terms_of[i] * k;
        add_scaled(work, counts[i] / (dot(theta, term, k) + LEAST), term, k);
    }
}

/* From gamma (rows, k) to where its mean change over the first `topics` of k is at most the tolerance; theta is exp(E[log theta]). */
KERNEL void topics_infer(const int64_t *starts, const int32_t *terms_of, const double *counts, int64_t rows, const double *terms,
                         const double *alpha, int64_t topics, int64_t k, double tolerance, double *gamma, double *theta, double *work)
{
    for (int64_t row = 0; row < rows; row++) {
        double *of_gamma = gamma + row * k, *of_theta = theta + row * k, change;
        exp_expected_log(of_gamma, of_theta, k);
        do {
            memset(work, 0, (size_t)k * sizeof *work);
            add_terms(terms_of + starts[row], counts + starts[row], starts[row + 1] - starts[row], terms, of_theta, k, work);
            doubles changes = {0.0, 0.0, 0.0, 0.0};
            for (int64_t j = 0; j < k; j += WIDTH) {
                doubles found = load_doubles(of_theta + j) * load_doubles(work + j) + load_doubles(alpha + j);
                doubles moved = found - load_doubles(of_gamma + j);
                changes += (doubles)((longs)moved & INT64_MAX);
                store_doubles(of_gamma + j, found);
            }
            change = total_doubles(changes);
            exp_expected_log(of_gamma, of_theta, k);
        } while (change > tolerance * (double)topics);
    }
}

/* Adds R terms to by_row (rows, k) and R' (weights * documents) to by_term, with R the counts over the probabilities of their tokens. */
KERNEL void topics_expect(const int64_t *starts, const int32_t *terms_of, const double *counts, int64_t rows, const double *documents,
                          const double *weights, const double *terms, int64_t k, double *by_row, double *by_term)
{
    for (int64_t row = 0; row < rows; row++) {
        const double *document = documents + row * k;
        for (int64_t i = starts[row]; i < starts[row + 1]; i++) {
            int64_t at = (int64_t)terms_of[i] * k;
            double ratio = counts[i] / (dot(document, terms + at, k) + LEAST);
            add_scaled(by_row + row * k, ratio, terms + at, k);
            add_scaled(by_term + at, ratio * weights[row], document, k);
        }
    }
}
