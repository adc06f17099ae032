/*
 * gemm.h: products of 16-bit matrices, the inner loop of all networks in C.
 *
 * All paths give the same integers. Sums are 32 bits wide and modulo 2^32 on the way: signed
 * overflow does not occur, and what is asked for fits in the end.
 */
#ifndef MVMIC_GEMM_H
#define MVMIC_GEMM_H

#include <stddef.h>
#include <stdint.h>

/* So many outputs are computed at once. Zeros fill up a layer's weights to a multiple. */
#define SYNTH_LANES 16

/* A multiple of the positions that any path computes at once. A matrix that takes the place of
 * activations has so many rows, of which those from 16 on are 0. */
#define SYNTH_POSITIONS 24

/* Groups of SYNTH_LANES outputs that a GEMM computes at once. */
#define GEMM_GROUPS 2

/* Ways to compute the same integers, the fastest last. */
typedef enum {
    SYNTH_PORTABLE = 0,
    SYNTH_NEON,
    SYNTH_AVX2,
    SYNTH_AVX512,
    SYNTH_VNNI,
    SYNTH_PATHS
} SynthPath;

/* Whether this processor can run a path. */
int synth_path_usable(SynthPath path);

/* Sums of v [rows][inputs], an even number of inputs, times one or two blocks of weights u that lie
 * u_pitch elements apart: m [groups][rows][SYNTH_LANES], groups m_pitch elements apart. A *block*
 * of weights is [inputs / 2][SYNTH_LANES][2]. `rows` is rounded up to what a path takes at once, at
 * most to SYNTH_POSITIONS. */
typedef void Gemm(const int16_t *v, size_t rows, size_t inputs, const int16_t *u, size_t u_pitch,
                  int groups, int32_t *m, size_t m_pitch);

Gemm *synth_gemm_of(SynthPath path);

#endif
