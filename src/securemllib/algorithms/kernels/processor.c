/* Compiled for every processor of its family: says whether this one has what the other files were compiled for. */
#include "kernel.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Intel's manual, volume 2A, CPUID: leaf 1 has FMA and OSXSAVE, leaf 7 has BMI1, AVX2 and BMI2. */
#define LEAF_1_ECX (1u << 12 | 1u << 27)
#define LEAF_7_EBX (1u << 3 | 1u << 5 | 1u << 8)
/* XCR0: the operating system keeps the SSE and AVX registers of a thread. */
#define KEPT_REGISTERS 6u

KERNEL int32_t processor_suffices(void)
{
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & LEAF_1_ECX) != LEAF_1_ECX)
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (ebx & LEAF_7_EBX) != LEAF_7_EBX)
        return 0;
    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (eax & KEPT_REGISTERS) == KEPT_REGISTERS;
}
#else
KERNEL int32_t processor_suffices(void)
{
    return 1;
}
#endif

/* The digest of the sources that all libraries were built from. */
KERNEL const char *sources_digest(void)
{
    return SOURCES;
}
