/* Trees: values to bins, rows to leaves, and sums by (node, feature, bin). Twins in trees.py. */
#include <math.h>
#include <stddef.h>

#include "kernel.h"

/* Below so many thresholds, comparing with all of them is faster than searching: the compiler compares four at once. */
#define FEW 48

static inline int64_t below(const double *thresholds, int64_t count, double value)
{
    if (count <= FEW) {
        int64_t found = 0;
        for (int64_t j = 0; j < count; j++)
            found += thresholds[j] < value;
        return found;
    }
    const double *base = thresholds;
    while (count > 1) {
        int64_t half = count / 2;
        base += base[half - 1] < value ? half : 0;
        count -= half;
    }
    return base - thresholds + (*base < value);
}

#define BIN_ROWS(NAME, VALUE, BIN)                                                                                    \
    KERNEL void NAME(const VALUE *features, int64_t rows, int64_t columns, const double *thresholds,                  \
                     const int64_t *starts, BIN *bins)                                                                \
    {                                                                                                                 \
        for (int64_t i = 0; i < rows; i++)                                                                            \
            for (int64_t k = 0; k < columns; k++)                                                                     \
                bins[i * columns + k] =                                                                               \
                    (BIN)below(thresholds + starts[k], starts[k + 1] - starts[k], features[i * columns + k]);         \
    }

BIN_ROWS(bin_rows_4_1, float, uint8_t)
BIN_ROWS(bin_rows_4_2, float, uint16_t)
BIN_ROWS(bin_rows_8_1, double, uint8_t)
BIN_ROWS(bin_rows_8_2, double, uint16_t)

#define DESCEND(NAME, BIN)                                                                                            \
    KERNEL void NAME(const BIN *bins, int64_t rows, int64_t columns, const int32_t *left, const int32_t *feature,     \
                     const int32_t *bin, const int32_t *subset, const uint8_t *subsets, int64_t width, int32_t *nodes) \
    {                                                                                                                 \
        for (int64_t i = 0; i < rows; i++) {                                                                          \
            int32_t node = nodes[i];                                                                                  \
            while (left[node] >= 0) {                                                                                 \
                int32_t value = bins[i * columns + feature[node]];                                                    \
                int32_t right = subset[node] < 0 ? value > bin[node] : subsets[subset[node] * width + value] != 1;    \
                node = left[node] + right;                                                                            \
            }                                                                                                         \
            nodes[i] = node;                                                                                          \
        }                                                                                                             \
    }

DESCEND(descend_1, uint8_t)
DESCEND(descend_2, uint16_t)

/* Rows as they are to the leaves of a tree whose splits are all of continuous features. */
KERNEL void find_leaves(const double *features, int64_t rows, int64_t columns, const int32_t *left, const int32_t *feature,
                        const double *threshold, int32_t root, int32_t *nodes)
{
    for (int64_t i = 0; i < rows; i++) {
        int32_t node = root;
        while (left[node] >= 0)
            node = left[node] + !(features[i * columns + feature[node]] <= threshold[node]);
        nodes[i] = node;
    }
}

/* One row's first value goes to the channel that it names, or the first one, the others to `rest` and the channels behind it. */
#define ADD(PLACE)                                                                                                    \
    for (int64_t k = 0; k < features; k++) {                                                                          \
        double *cell = sums + (start[k] + row[PLACE]) * channels;                                                     \
        cell[first] += value[0];                                                                                      \
        for (int64_t e = 1; e < values; e++)                                                                          \
            cell[rest + e - 1] += value[e];                                                                           \
    }

#define ADD_ROWS(NAME, BIN)                                                                                           \
    static inline __attribute__((always_inline)) void NAME##_of(                                                      \
        const BIN *bins, int64_t rows, int64_t columns, const int32_t *slot, const int32_t *channel,                  \
        const double *added, int64_t values, int64_t rest, const int32_t *chosen, const int64_t *starts,              \
        int64_t features, int64_t channels, double *sums)                                                             \
    {                                                                                                                 \
        for (int64_t i = 0; i < rows; i++) {                                                                          \
            if (slot[i] < 0)                                                                                          \
                continue;                                                                                             \
            const BIN *row = bins + i * columns;                                                                      \
            const double *value = added + i * values;                                                                 \
            const int64_t *start = starts + slot[i] * features;                                                       \
            int64_t first = channel ? channel[i] : 0;                                                                 \
            if (chosen) {                                                                                             \
                const int32_t *mine = chosen + slot[i] * features;                                                    \
                ADD(mine[k])                                                                                          \
            } else {                                                                                                  \
                ADD(k)                                                                                                \
            }                                                                                                         \
        }                                                                                                             \
    }                                                                                                                 \
    KERNEL void NAME(const BIN *bins, int64_t rows, int64_t columns, const int32_t *slot, const int32_t *channel,     \
                     const double *added, int64_t values, int64_t rest, const int32_t *chosen, const int64_t *starts, \
                     int64_t features, int64_t channels, double *sums)                                                \
    {                                                                                                                 \
        /* The common shapes, so that the compiler knows the numbers: a target of rows that weigh 1, two classes. */   \
        if (!channel && values == 2 && channels == 2)                                                                 \
            NAME##_of(bins, rows, columns, slot, NULL, added, 2, 1, chosen, starts, features, 2, sums);               \
        else if (channel && values == 1 && channels == 2)                                                             \
            NAME##_of(bins, rows, columns, slot, channel, added, 1, 1, chosen, starts, features, 2, sums);            \
        else                                                                                                          \
            NAME##_of(bins, rows, columns, slot, channel, added, values, rest, chosen, starts, features, channels, sums); \
    }

ADD_ROWS(add_rows_1, uint8_t)
ADD_ROWS(add_rows_2, uint16_t)

/* The gain of a split of a target's sums: the variance between the sides, or minus infinity where a side is too small. */
static inline double gain_of(const double *left, const double *all, int64_t counted, double min_rows, double min_weight, double min_gain)
{
    double here = left[0], there = all[0] - here;
    double rows = left[counted], others = all[counted] - rows;
    if (here < min_weight || there < min_weight || rows < min_rows || others < min_rows)
        return -INFINITY;
    double apart = (left[1] / here - (all[1] - left[1]) / there) / all[0];
    double gain = here * there * (apart * apart);
    return gain >= min_gain ? gain : -INFINITY;
}

/* The best split of each histogram of a continuous feature: of gains within `tie` of the best, the first. */
KERNEL void scan_targets(double *sums, int64_t histograms, int64_t channels, const int64_t *starts, const int64_t *sizes,
                         double min_rows, double min_weight, double min_gain, double tie, double *gains, int64_t *places,
                         double *lefts, double *totals)
{
    int64_t counted = channels == 3 ? 2 : 0;
    for (int64_t h = 0; h < histograms; h++) {
        double *cell = sums + starts[h] * channels;
        int64_t size = sizes[h];
        for (int64_t k = channels; k < size * channels; k++)
            cell[k] += cell[k - channels];
        const double *all = cell + (size - 1) * channels;
        double best = -INFINITY;
        for (int64_t k = 0; k + 1 < size; k++) {
            double gain = gain_of(cell + k * channels, all, counted, min_rows, min_weight, min_gain);
            best = gain > best ? gain : best;
        }
        int64_t place = 0;
        gains[h] = -INFINITY;
        for (int64_t k = 0; k + 1 < size && best > -INFINITY; k++) {
            double gain = gain_of(cell + k * channels, all, counted, min_rows, min_weight, min_gain);
            if (gain >= best - tie * best) {
                gains[h] = gain;
                place = k;
                break;
            }
        }
        places[h] = place;
        memcpy(lefts + h * channels, cell + place * channels, channels * sizeof *lefts);
        memcpy(totals + h * channels, all, channels * sizeof *totals);
    }
}
