/* Adjacent violators: points in order become blocks whose means ascend. */
#include "kernel.h"

/* Writes where each block starts, its weight and its sum; returns how many blocks there are, at most as many as points. */
KERNEL int64_t pool(const double *weight, const double *moment, int64_t points, int64_t *start, double *mass, double *sum)
{
    int64_t blocks = 0;
    for (int64_t i = 0; i < points; i++) {
        int64_t first = i;
        double held = weight[i], total = moment[i];
        while (blocks && sum[blocks - 1] / mass[blocks - 1] >= total / held) {
            blocks--;
            first = start[blocks];
            held = mass[blocks] + held;
            total = sum[blocks] + total;
        }
        start[blocks] = first;
        mass[blocks] = held;
        sum[blocks++] = total;
    }
    return blocks;
}
