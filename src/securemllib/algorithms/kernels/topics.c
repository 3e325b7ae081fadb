/* Topic models over sparse counts: inference of documents, and the expected counts of documents and terms. */
#include "kernel.h"
#include <math.h>

/* Topics are padded with zeros to whole vectors of doubles. */
#define WIDTH 4

/* What MLlib adds to the probability of a token. */
#define LEAST 1e-100

static inline doubles splat_doubles(double value)
{
    return (doubles){value, value, value, value};
}

static inline double dot(const double *one, const double *other, int64_t k)
{
    doubles sum = {0.0, 0.0, 0.0, 0.0};
    for (int64_t j = 0; j < k; j += WIDTH)
        sum += load_doubles(one + j) * load_doubles(other + j);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

static inline void add_scaled(double *to, double scale, const double *from, int64_t k)
{
    doubles factor = splat_doubles(scale);
    for (int64_t j = 0; j < k; j += WIDTH)
        store_doubles(to + j, load_doubles(to + j) + factor * load_doubles(from + j));
}

/* The recurrence up to 8, then the asymptotic series (Abramowitz and Stegun 6.3.5 and 6.3.18); its first dropped term is 1/12 x^-14. */
static double digamma(double x)
{
    if (!(x > 0.0))
        return -INFINITY;
    double shift = 0.0;
    for (; x < 8.0; x += 1.0)
        shift += 1.0 / x;
    double inverse = 1.0 / x, y = inverse * inverse;
    double series = y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y * (1.0 / 240 - y * (1.0 / 132 - y * (691.0 / 32760))))));
    return log(x) - 0.5 * inverse - series - shift;
}

static void exp_expected_log(const double *gamma, double *theta, int64_t topics)
{
    double sum = 0.0;
    for (int64_t j = 0; j < topics; j++)
        sum += gamma[j];
    double of_sum = digamma(sum);
    for (int64_t j = 0; j < topics; j++)
        theta[j] = exp(digamma(gamma[j]) - of_sum);
}

/* From gamma (rows, k) to where its mean change over the first `topics` of k is at most the tolerance; theta is exp(E[log theta]). */
KERNEL void topics_infer(const int64_t *starts, const int32_t *terms_of, const double *counts, int64_t rows, const double *terms,
                         const double *alpha, int64_t topics, int64_t k, double tolerance, double *gamma, double *theta, double *work)
{
    for (int64_t row = 0; row < rows; row++) {
        double *of_gamma = gamma + row * k, *of_theta = theta + row * k, change;
        exp_expected_log(of_gamma, of_theta, topics);
        do {
            memset(work, 0, (size_t)k * sizeof *work);
            for (int64_t i = starts[row]; i < starts[row + 1]; i++) {
                const double *term = terms + (int64_t)terms_of[i] * k;
                add_scaled(work, counts[i] / (dot(of_theta, term, k) + LEAST), term, k);
            }
            change = 0.0;
            for (int64_t j = 0; j < topics; j++) {
                double found = of_theta[j] * work[j] + alpha[j];
                change += fabs(found - of_gamma[j]);
                of_gamma[j] = found;
            }
            exp_expected_log(of_gamma, of_theta, topics);
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
