/* What only the encoder and the decoder of rans.h share. */
#ifndef MVMIC_RANS_INTERNAL_H
#define MVMIC_RANS_INTERNAL_H

#include <string.h>

#include "rans.h"

/* So many places are first checked together, and only then one by one. In a real image nine of ten
 * are skipped, mostly in long runs. */
#define RANS_GROUP 16

/* The equal-probability byte of an escape: 256 entries share 2^24. */
#define RANS_BYTE_FREQ (1u << (RANS_PRECISION - 8))

#if defined(__GNUC__) || defined(__clang__)
#define RANS_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define RANS_INLINE static __forceinline
#else
#define RANS_INLINE static inline
#endif

/* For a loop over a constant number of lanes. Without it lanes would live in memory. */
#if defined(__clang__)
#define RANS_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define RANS_UNROLL _Pragma("GCC unroll 8")
#else
#define RANS_UNROLL
#endif

/* ceil(2^64 / freq), which would need 65 bits for 1: see quotient(). */
RANS_INLINE uint64_t rans_reciprocal(uint32_t freq)
{
    return freq > 1 ? UINT64_MAX / freq + 1 : 0;
}

/* Whether RANS_GROUP places are all skipped. */
RANS_INLINE int rans_group_skipped(const uint8_t *indices)
{
    uint64_t halves[2];
    memcpy(halves, indices, sizeof halves);
    return (halves[0] | halves[1]) == 0;
}

/* Whether none of RANS_GROUP places is skipped: no byte of either half is 0. */
RANS_INLINE int rans_group_coded(const uint8_t *indices)
{
    const uint64_t ones = UINT64_MAX / 255, tops = ones << 7;
    uint64_t halves[2];
    memcpy(halves, indices, sizeof halves);
    uint64_t zeros = ((halves[0] - ones) & ~halves[0]) | ((halves[1] - ones) & ~halves[1]);
    return (zeros & tops) == 0;
}

/* A loop of its own, which compilers turn into one over many at a time. */
static inline RansStatus rans_indices_check(const RansTables *tables, uint32_t second,
                                            const uint8_t *indices, size_t n)
{
    uint8_t greatest = 0;
    for (size_t i = 0; i < n; i++)
        greatest = indices[i] > greatest ? indices[i] : greatest;
    int there = greatest < tables->count && second < tables->count - greatest;
    return there ? RANS_OK : RANS_TABLE_OUT_OF_RANGE;
}

#endif
