/*
 * lanes_internal.h: loops over SYNTH_LANES numbers that compilers turn into vectors, and what such
 * code shares.
 */
#ifndef MVMIC_LANES_INTERNAL_H
#define MVMIC_LANES_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "gemm.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define SYNTH_X86 1
#include <immintrin.h>
#endif

#if (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__) && !defined(__AARCH64EB__)
#define SYNTH_ARM 1
#include <arm_neon.h>
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SYNTH_INLINE static inline __attribute__((always_inline))
#define SYNTH_RESTRICT __restrict__
#elif defined(_MSC_VER)
#define SYNTH_INLINE static __forceinline
#define SYNTH_RESTRICT __restrict
#else
#define SYNTH_INLINE static inline
#define SYNTH_RESTRICT
#endif

/* For loops with a constant count. Without it accumulators would live in memory. */
#if defined(__clang__)
#define SYNTH_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define SYNTH_UNROLL _Pragma("GCC unroll 16")
#else
#define SYNTH_UNROLL
#endif

/* For loops over LANES: GCC would unroll them, and then make vectors of some only. */
#if defined(__GNUC__) && !defined(__clang__)
#define SYNTH_VECTOR _Pragma("GCC unroll 1")
#else
#define SYNTH_VECTOR
#endif

#define LANES SYNTH_LANES
#define POSITIONS SYNTH_POSITIONS
#define GROUPS GEMM_GROUPS

#define ROUND_UP(n, multiple) (((n) + (multiple) - 1) / (multiple) * (multiple))

/* Everything but GEMM is plain C, in loops over LANES where that matters, which compilers turn into
 * vectors. From NAME_rows this makes synth_NAME, compiled as it is and, for x86, for AVX2. */
#ifdef SYNTH_X86
#define SYNTH_FUNCTION(name, parameters, arguments)                                                \
    __attribute__((target("avx2"))) static void name##_avx2 parameters                             \
    {                                                                                              \
        name##_rows arguments;                                                                     \
    }                                                                                              \
    void synth_##name parameters                                                                   \
    {                                                                                              \
        if (path == SYNTH_PORTABLE)                                                                \
            name##_rows arguments;                                                                 \
        else                                                                                       \
            name##_avx2 arguments;                                                                 \
    }
#else
#define SYNTH_FUNCTION(name, parameters, arguments)                                                \
    void synth_##name parameters                                                                   \
    {                                                                                              \
        name##_rows arguments;                                                                     \
    }
#endif

/* Right shifts of negative integers round down in every compiler that we know; the tests look. */
SYNTH_INLINE int32_t divide(int32_t x, int bits)
{
    return (x + (1 << (bits - 1))) >> bits;
}

SYNTH_INLINE int32_t clamp(int32_t x, int32_t low, int32_t high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

SYNTH_INLINE int16_t to_int16(int32_t x)
{
    return (int16_t)clamp(x, INT16_MIN, INT16_MAX);
}

/* Modulo 2^32. */
SYNTH_INLINE int32_t add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

SYNTH_INLINE int32_t subtract(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}

/* rnd(a factor, 32). The shift has no sign because AVX2 has no other of 64 bits. */
SYNTH_INLINE int32_t requantise(int32_t a, int32_t factor)
{
    return (int32_t)((uint64_t)((int64_t)a * factor + ((int64_t)1 << 31)) >> 32);
}

/* min(rnd(x, bits), 32767 >> bits) of LANES values. */
SYNTH_INLINE void shrink(const int16_t *x, int bits, int16_t *SYNTH_RESTRICT out)
{
    SYNTH_VECTOR
    for (int k = 0; k < LANES; k++) {
        int16_t half = (int16_t)(1 << (bits - 1));
        int16_t most = (int16_t)(INT16_MAX - half);
        int16_t value = x[k] > most ? most : x[k];
        out[k] = (int16_t)((int16_t)(value + half) >> bits);
    }
}

SYNTH_INLINE size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Scratch is handed out from its start to its end, in whole lines of a cache. */
#define CACHE_LINE 64

SYNTH_INLINE void *take(void **scratch, size_t bytes)
{
    uintptr_t at = ROUND_UP((uintptr_t)*scratch, CACHE_LINE);
    *scratch = (void *)(at + bytes);
    return (void *)at;
}

/* Bytes for up to eight arrays. */
#define SCRATCH(bytes) ((bytes) + 8 * CACHE_LINE)

/* One of the positions of rows of w, which are taken one after the other. */
typedef struct {
    size_t w, y, x;
} Place;

SYNTH_INLINE Place place_of(size_t at, size_t w)
{
    Place place = {w, at / w, at % w};
    return place;
}

SYNTH_INLINE void advance(Place *place)
{
    if (++place->x == place->w) {
        place->x = 0;
        place->y++;
    }
}

/* Where position (y, x) lies in a map of w columns that starts one row above. */
SYNTH_INLINE size_t in_map(size_t y, size_t x, size_t w)
{
    return (y + 1) * (w + 2) + x + 1;
}

#endif
