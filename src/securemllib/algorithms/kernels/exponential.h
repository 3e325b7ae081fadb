/* The exponential of eight numbers at most 0. */
#ifndef SECUREMLLIB_EXPONENTIAL_H
#define SECUREMLLIB_EXPONENTIAL_H

#include "kernel.h"

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

#endif
