/* Trees: values to bins, rows to leaves, and sums by (node, feature, bin). Twins in trees.py. */
#include <math.h>
#include <stddef.h>

#include "kernel.h"

/* Below so many thresholds, comparing with all of them is faster than searching: the compiler compares several at once. */
#define FEW 48

#define BELOW(NAME, VALUE, COUNT)                                                                                     \
    static inline int64_t NAME(const VALUE *thresholds, int64_t count, VALUE value)                                   \
    {                                                                                                                 \
        if (count <= FEW) {                                                                                           \
            COUNT found = 0;                                                                                          \
            for (int64_t j = 0; j < count; j++)                                                                       \
                found += thresholds[j] < value;                                                                       \
            return found;                                                                                             \
        }                                                                                                             \
        const VALUE *base = thresholds;                                                                               \
        for (int64_t half = count / 2; half > 0; count -= half, half = count / 2)                                     \
            base += base[half - 1] < value ? half : 0;                                                                \
        return base - thresholds + (*base < value);                                                                   \
    }

/* The numbers are as wide as the values, so that the compiler counts as many at once as it compares. */
BELOW(below_float, float, int32_t)
BELOW(below_double, double, int64_t)

#define BIN_ROWS(NAME, VALUE, BIN)                                                                                    \
    KERNEL void NAME(const VALUE *features, int64_t rows, int64_t columns, const VALUE *thresholds,                   \
                     const int64_t *starts, BIN *bins)                                                                \
    {                                                                                                                 \
        for (int64_t i = 0; i < rows; i++)                                                                            \
            for (int64_t k = 0; k < columns; k++)                                                                     \
                bins[i * columns + k] =                                                                               \
                    (BIN)below_##VALUE(thresholds + starts[k], starts[k + 1] - starts[k], features[i * columns + k]); \
    }

BIN_ROWS(bin_rows_4_1, float, uint8_t)
BIN_ROWS(bin_rows_4_2, float, uint16_t)
BIN_ROWS(bin_rows_8_1, double, uint8_t)
BIN_ROWS(bin_rows_8_2, double, uint16_t)

/* How many rows ahead memory is asked for: of a few values, and of one. */
#define AHEAD 8
#define FAR 16

/* Rows that go down a tree side by side: the next step of one does not wait for the last one of another. */
#define ABREAST 8

/* Rows as they are, each value so many others down or across from the next, to leaves of trees whose splits are all of continuous features:
   nodes (trees, rows). */
KERNEL void find_leaves(const double *features, int64_t rows, int64_t down, int64_t across, const int32_t *left, const int32_t *feature,
                        const double *threshold, const int32_t *roots, int64_t trees, int32_t *nodes)
{
    for (int64_t first = 0; first < rows; first += ABREAST) {
        int64_t count = rows - first < ABREAST ? rows - first : ABREAST;
        const double *row[ABREAST];
        for (int64_t r = 0; r < ABREAST; r++)
            row[r] = features + (first + (r < count ? r : 0)) * down;
        for (int64_t t = 0; t < trees; t++) {
            int32_t at[ABREAST], going = 1;
            for (int64_t r = 0; r < ABREAST; r++)
                at[r] = roots[t];
            while (going) {
                going = 0;
                for (int64_t r = 0; r < ABREAST; r++) {
                    int32_t node = at[r], child = left[node], inner = child >= 0;
                    at[r] = inner ? child + !(row[r][feature[node] * across] <= threshold[node]) : node;
                    going |= inner;
                }
            }
            memcpy(nodes + t * rows + first, at, count * sizeof *at);
        }
    }
}

/* The rows of leaves that have split go to the two children, in their order: those of leaf g are order[bounds[g]] ... order[bounds[g + 1] - 1]. */
#define SPLIT_ROWS(NAME, BIN)                                                                                         \
    KERNEL void NAME(const BIN *bins, int64_t columns, const int32_t *left, const int32_t *feature, const int32_t *bin, \
                     const int32_t *subset, const uint8_t *subsets, int64_t width, const int32_t *order,              \
                     const int32_t *leaves, const int64_t *bounds, int64_t groups, int32_t *room, int32_t *split,     \
                     int32_t *children, int64_t *middles)                                                             \
    {                                                                                                                 \
        middles[0] = 0;                                                                                               \
        for (int64_t g = 0; g < groups; g++) {                                                                        \
            int32_t node = leaves[g], child = left[node];                                                             \
            int64_t first = bounds[g], last = bounds[g + 1], lefts = first, rights = 0;                               \
            if (child < 0) {                                                                                          \
                memcpy(split + first, order + first, (last - first) * sizeof *order);                                 \
                *children++ = node;                                                                                   \
                *++middles = last;                                                                                    \
                continue;                                                                                             \
            }                                                                                                         \
            const BIN *column = bins + feature[node];                                                                 \
            const uint8_t *lefthand = subset[node] < 0 ? NULL : subsets + subset[node] * width;                       \
            int32_t highest = bin[node];                                                                              \
            for (int64_t at = first; at < last; at++) {                                                               \
                __builtin_prefetch(column + order[at + FAR < last ? at + FAR : at] * columns);                        \
                int32_t value = column[order[at] * columns];                                                          \
                int64_t right = lefthand ? lefthand[value] != 1 : value > highest;                                    \
                /* Without a branch: what is written to the wrong side is written over. */                            \
                split[lefts] = room[rights] = order[at];                                                              \
                lefts += 1 - right;                                                                                   \
                rights += right;                                                                                      \
            }                                                                                                         \
            memcpy(split + lefts, room, rights * sizeof *room);                                                       \
            *children++ = child;                                                                                      \
            *children++ = child + 1;                                                                                  \
            *++middles = lefts;                                                                                       \
            *++middles = last;                                                                                        \
        }                                                                                                             \
    }

SPLIT_ROWS(split_rows_1, uint8_t)
SPLIT_ROWS(split_rows_2, uint16_t)

/* The columns whose cells of one node, at 32 bins, stay in the nearest cache while all of the node's rows pass. */
#define NEAR 64

typedef double pair __attribute__((vector_size(16), aligned(8)));

/* One row's first value goes to the channel that it names, or the first one, the others to `rest` and the channels behind it. */
#define ADD(PLACE)                                                                                                    \
    for (int64_t k = first; k < last; k++) {                                                                          \
        double *cell = sums + (start[k] + row[PLACE]) * channels;                                                     \
        if (paired) {                                                                                                 \
            *(pair *)cell += both;                                                                                    \
            continue;                                                                                                 \
        }                                                                                                             \
        cell[to] += both[0];                                                                                          \
        for (int64_t e = 1; e < values; e++)                                                                          \
            cell[rest + e - 1] += value[e];                                                                           \
    }

#define ADD_ROWS(NAME, BIN)                                                                                           \
    static inline __attribute__((always_inline)) void NAME##_of(                                                      \
        const BIN *bins, int64_t columns, const int32_t *order, const int64_t *bounds, int64_t groups,                \
        const int32_t *channel, const double *added, int64_t values, int64_t rest, const int32_t *chosen,             \
        const int64_t *starts, int64_t features, int64_t channels, double *sums)                                      \
    {                                                                                                                 \
        const int paired = !channel && values == 2 && channels == 2;                                                  \
        for (int64_t g = 0; g < groups; g++)                                                                          \
            for (int64_t first = 0; first < features; first += NEAR) {                                                \
                int64_t last = first + NEAR < features ? first + NEAR : features;                                     \
                const int64_t *start = starts + g * features;                                                         \
                const int32_t *mine = chosen ? chosen + g * features : NULL;                                          \
                for (int64_t at = bounds[2 * g], end = bounds[2 * g + 1]; at < end; at++) {                           \
                    int64_t next = at + AHEAD < end ? at + AHEAD : at;                                                \
                    const BIN *row = bins + order[at] * columns;                                                      \
                    __builtin_prefetch(bins + order[next] * columns + (chosen ? mine[first] : first));                \
                    const double *value = added + order[at] * values;                                                 \
                    pair both = {value[0], value[values > 1]};                                                        \
                    int64_t to = channel ? channel[order[at]] : 0;                                                    \
                    if (chosen) {                                                                                     \
                        ADD(mine[k])                                                                                  \
                    } else {                                                                                          \
                        ADD(k)                                                                                        \
                    }                                                                                                 \
                }                                                                                                     \
            }                                                                                                         \
    }                                                                                                                 \
    KERNEL void NAME(const BIN *bins, int64_t columns, const int32_t *order, const int64_t *bounds, int64_t groups,   \
                     const int32_t *channel, const double *added, int64_t values, int64_t rest, const int32_t *chosen, \
                     const int64_t *starts, int64_t features, int64_t channels, double *sums)                         \
    {                                                                                                                 \
        /* The common shapes, so that the compiler knows the numbers: a target of rows that weigh 1, two classes. */   \
        if (!channel && values == 2 && channels == 2)                                                                 \
            NAME##_of(bins, columns, order, bounds, groups, NULL, added, 2, 1, chosen, starts, features, 2, sums);    \
        else if (channel && values == 1 && channels == 2)                                                             \
            NAME##_of(bins, columns, order, bounds, groups, channel, added, 1, 1, chosen, starts, features, 2, sums); \
        else                                                                                                          \
            NAME##_of(bins, columns, order, bounds, groups, channel, added, values, rest, chosen, starts, features, channels, sums); \
    }

ADD_ROWS(add_rows_1, uint8_t)
ADD_ROWS(add_rows_2, uint16_t)

/* The gains of the splits of one histogram: the variance between the sides, or minus infinity where a side is too small. */
static inline void gains_of(const double *weight, const double *target, const double *rows, int64_t last, double min_rows,
                            double min_weight, double min_gain, double *restrict gains)
{
    double weights = weight[last], targets = target[last], all = rows[last], share = 1 / weights;
    for (int64_t k = 0; k < last; k++) {
        double here = weight[k], there = weights - here;
        double apart = (target[k] / here - (targets - target[k]) / there) * share;
        double gain = here * there * (apart * apart);
        /* Without branches, so that four splits are computed at once. */
        int valid = (here >= min_weight) & (there >= min_weight) & (rows[k] >= min_rows) & (all - rows[k] >= min_rows) & (gain >= min_gain);
        gains[k] = valid ? gain : -INFINITY;
    }
}

/* The best split of each histogram of a continuous feature: of gains within `tie` of the best, the first. */
KERNEL void scan_targets(const double *sums, int64_t histograms, int64_t channels, const int64_t *starts, const int64_t *sizes,
                         double min_rows, double min_weight, double min_gain, double tie, int64_t widest, double *room, double *gains,
                         int64_t *places, double *lefts, double *totals)
{
    double *weight = room, *target = room + widest, *rows = channels == 3 ? room + 2 * widest : weight, *gain = room + 3 * widest;
    for (int64_t h = 0; h < histograms; h++) {
        const double *cell = sums + starts[h] * channels;
        int64_t last = sizes[h] - 1;
        double w = 0, t = 0, r = 0;
        for (int64_t k = 0; k <= last; k++) {
            weight[k] = w += cell[k * channels];
            target[k] = t += cell[k * channels + 1];
            if (channels == 3)
                rows[k] = r += cell[k * channels + 2];
        }
        gains_of(weight, target, rows, last, min_rows, min_weight, min_gain, gain);
        /* In four lanes, because each maximum waits for the one before it. */
        double lanes[] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        for (int64_t k = last; k < last + 3; k++)
            gain[k] = -INFINITY;
        for (int64_t k = 0; k < last; k += 4)
            for (int64_t lane = 0; lane < 4; lane++)
                lanes[lane] = gain[k + lane] > lanes[lane] ? gain[k + lane] : lanes[lane];
        double best = fmax(fmax(lanes[0], lanes[1]), fmax(lanes[2], lanes[3]));
        int64_t place = 0;
        while (place < last && !(gain[place] >= best - tie * best && best > -INFINITY))
            place++;
        gains[h] = place < last ? gain[place] : -INFINITY;
        places[h] = place = place < last ? place : 0;
        int64_t ends[] = {place, last};
        double *out[] = {lefts + h * channels, totals + h * channels};
        for (int end = 0; end < 2; end++) {
            out[end][0] = weight[ends[end]];
            out[end][1] = target[ends[end]];
            if (channels == 3)
                out[end][2] = rows[ends[end]];
        }
    }
}
