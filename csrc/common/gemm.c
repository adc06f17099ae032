#include "gemm.h"

#include <string.h>

#include "lanes_internal.h"

int synth_path_usable(SynthPath path)
{
    switch (path) {
    case SYNTH_PORTABLE: return 1;
#ifdef SYNTH_ARM
    case SYNTH_NEON: return 1; /* every aarch64 has it */
#endif
#ifdef SYNTH_X86
    case SYNTH_AVX2: return __builtin_cpu_supports("avx2") != 0;
    case SYNTH_AVX512:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw");
    case SYNTH_VNNI: return synth_path_usable(SYNTH_AVX512) && __builtin_cpu_supports("avx512vnni");
#endif
    default: return 0;
    }
}

static void gemm_portable(const int16_t *v, size_t rows, size_t inputs, const int16_t *u,
                          size_t u_pitch, int groups, int32_t *m, size_t m_pitch)
{
    for (int g = 0; g < groups; g++)
        for (size_t t = 0; t < rows; t++) {
            uint32_t total[LANES] = {0};
            const int16_t *x = v + t * inputs, *weight = u + (size_t)g * u_pitch;
            for (size_t k = 0; k < inputs; k += 2, weight += 2 * LANES) {
                int16_t first = x[k], second = x[k + 1];
                SYNTH_VECTOR
                for (int o = 0; o < LANES; o++)
                    total[o] +=
                        (uint32_t)(first * weight[2 * o]) + (uint32_t)(second * weight[2 * o + 1]);
            }
            memcpy(m + (size_t)g * m_pitch + t * LANES, total, sizeof total);
        }
}

#ifdef SYNTH_ARM

/* total + first of w[0] + second of w[1], for eight outputs. */
SYNTH_INLINE void madd_neon(int32x4_t total[2], int16x8x2_t w, int16x4_t pair)
{
    total[0] = vmlal_lane_s16(total[0], vget_low_s16(w.val[0]), pair, 0);
    total[1] = vmlal_high_lane_s16(total[1], w.val[0], pair, 0);
    total[0] = vmlal_lane_s16(total[0], vget_low_s16(w.val[1]), pair, 1);
    total[1] = vmlal_high_lane_s16(total[1], w.val[1], pair, 1);
}

/* Six positions times sixteen outputs in registers, as for AVX2. */
static void gemm_neon(const int16_t *v, size_t rows, size_t inputs, const int16_t *u,
                      size_t u_pitch, int groups, int32_t *m, size_t m_pitch)
{
    enum { P = 6 };
    for (int g = 0; g < groups; g++)
        for (size_t t = 0; t < rows; t += P) {
            const int16_t *x = v + t * inputs, *weight = u + (size_t)g * u_pitch;
            int32_t *out = m + (size_t)g * m_pitch + t * LANES;
            int32x4_t total[P][4];
            SYNTH_UNROLL
            for (int p = 0; p < P; p++)
                total[p][0] = total[p][1] = total[p][2] = total[p][3] = vdupq_n_s32(0);
            for (size_t k = 0; k < inputs; k += 2, weight += 2 * LANES) {
                /* Weights of first inputs apart from those of second ones. */
                int16x8x2_t w0 = vld2q_s16(weight), w1 = vld2q_s16(weight + LANES);
                SYNTH_UNROLL
                for (int p = 0; p < P; p++) {
                    int32_t bits;
                    memcpy(&bits, x + (size_t)p * inputs + k, sizeof bits);
                    int16x4_t pair = vreinterpret_s16_s32(vdup_n_s32(bits));
                    madd_neon(total[p], w0, pair);
                    madd_neon(total[p] + 2, w1, pair);
                }
            }
            SYNTH_UNROLL
            for (int p = 0; p < P; p++)
                for (int q = 0; q < 4; q++)
                    vst1q_s32(out + p * LANES + 4 * q, total[p][q]);
        }
}

#endif

#ifdef SYNTH_X86

/* Six positions times sixteen outputs stay in registers while all inputs pass by. */
__attribute__((target("avx2"))) static void gemm_avx2(const int16_t *v, size_t rows, size_t inputs,
                                                      const int16_t *u, size_t u_pitch, int groups,
                                                      int32_t *m, size_t m_pitch)
{
    enum { P = 6 };
    for (int g = 0; g < groups; g++)
        for (size_t t = 0; t < rows; t += P) {
            const int16_t *x = v + t * inputs, *weight = u + (size_t)g * u_pitch;
            int32_t *out = m + (size_t)g * m_pitch + t * LANES;
            __m256i total[P][2];
            SYNTH_UNROLL
            for (int p = 0; p < P; p++)
                total[p][0] = total[p][1] = _mm256_setzero_si256();
            for (size_t k = 0; k < inputs; k += 2, weight += 2 * LANES) {
                __m256i w0 = _mm256_loadu_si256((const __m256i *)(const void *)weight);
                __m256i w1 = _mm256_loadu_si256((const __m256i *)(const void *)(weight + LANES));
                SYNTH_UNROLL
                for (int p = 0; p < P; p++) {
                    int32_t pair;
                    memcpy(&pair, x + (size_t)p * inputs + k, sizeof pair);
                    __m256i both = _mm256_set1_epi32(pair);
                    total[p][0] = _mm256_add_epi32(total[p][0], _mm256_madd_epi16(both, w0));
                    total[p][1] = _mm256_add_epi32(total[p][1], _mm256_madd_epi16(both, w1));
                }
            }
            SYNTH_UNROLL
            for (int p = 0; p < P; p++) {
                _mm256_storeu_si256((__m256i *)(void *)(out + p * LANES), total[p][0]);
                _mm256_storeu_si256((__m256i *)(void *)(out + p * LANES + 8), total[p][1]);
            }
        }
}

/* One kernel for both kinds of AVX-512: eight positions times two groups of outputs. */
#define GEMM_AVX512(multiply_add)                                                                  \
    enum { P = 8 };                                                                                \
    size_t second = groups == 1 ? 0 : u_pitch;                                                     \
    for (size_t t = 0; t < rows; t += P) {                                                         \
        const int16_t *x = v + t * inputs, *weight = u;                                            \
        int32_t *out = m + t * LANES;                                                              \
        __m512i total[P][GEMM_GROUPS];                                                             \
        SYNTH_UNROLL                                                                               \
        for (int p = 0; p < P; p++)                                                                \
            total[p][0] = total[p][1] = _mm512_setzero_si512();                                    \
        for (size_t k = 0; k < inputs; k += 2, weight += 2 * LANES) {                              \
            __m512i w0 = _mm512_loadu_si512(weight);                                               \
            __m512i w1 = _mm512_loadu_si512(weight + second);                                      \
            SYNTH_UNROLL                                                                           \
            for (int p = 0; p < P; p++) {                                                          \
                int32_t pair;                                                                      \
                memcpy(&pair, x + (size_t)p * inputs + k, sizeof pair);                            \
                __m512i both = _mm512_set1_epi32(pair);                                            \
                total[p][0] = multiply_add(total[p][0], both, w0);                                 \
                total[p][1] = multiply_add(total[p][1], both, w1);                                 \
            }                                                                                      \
        }                                                                                          \
        SYNTH_UNROLL                                                                               \
        for (int p = 0; p < P; p++) {                                                              \
            _mm512_storeu_si512(out + p * LANES, total[p][0]);                                     \
            if (groups == GEMM_GROUPS)                                                             \
                _mm512_storeu_si512(out + m_pitch + p * LANES, total[p][1]);                       \
        }                                                                                          \
    }

__attribute__((target("avx512f,avx512bw"))) SYNTH_INLINE __m512i madd_avx512(__m512i total,
                                                                             __m512i a, __m512i b)
{
    return _mm512_add_epi32(total, _mm512_madd_epi16(a, b));
}

__attribute__((target("avx512f,avx512bw"))) static void gemm_avx512(const int16_t *v, size_t rows,
                                                                    size_t inputs, const int16_t *u,
                                                                    size_t u_pitch, int groups,
                                                                    int32_t *m, size_t m_pitch)
{
    GEMM_AVX512(madd_avx512);
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static void
gemm_vnni(const int16_t *v, size_t rows, size_t inputs, const int16_t *u, size_t u_pitch,
          int groups, int32_t *m, size_t m_pitch)
{
    GEMM_AVX512(_mm512_dpwssd_epi32);
}

#endif

Gemm *synth_gemm_of(SynthPath path)
{
    switch (path) {
#ifdef SYNTH_ARM
    case SYNTH_NEON: return gemm_neon;
#endif
#ifdef SYNTH_X86
    case SYNTH_AVX2: return gemm_avx2;
    case SYNTH_AVX512: return gemm_avx512;
    case SYNTH_VNNI: return gemm_vnni;
#endif
    default: return gemm_portable;
    }
}
