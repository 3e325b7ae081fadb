/* What every kernel stands on: eight lanes, whose order of summation is fixed, and the mark of an exported function. */
#ifndef SECUREMLLIB_KERNEL_H
#define SECUREMLLIB_KERNEL_H

#include <stdint.h>
#include <string.h>

/* Only marked functions leave the library; arrays are C-contiguous and never overlap. */
#define KERNEL __attribute__((visibility("default")))

#define LANES 8

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef double doubles __attribute__((vector_size(8 * LANES / 2)));

/* Unaligned loads and stores: numpy aligns to 16 bytes, and a row starts anywhere. */
static inline floats load(const float *from)
{
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void store(float *to, floats value)
{
    memcpy(to, &value, sizeof value);
}

static inline floats splat(float value)
{
    return (floats){value, value, value, value, value, value, value, value};
}

/* The sum of the lanes, pairwise. */
static inline float total(floats v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

#endif
