/*
 * synthesis.h: synthesis in exact integers, stage by stage, from the latent to the samples.
 *
 * formats/model.md defines what is computed, by the same names. Read this first:
 *
 * 1. A *map* holds activations: int16 [rows + 2][columns + 2][stride], position by position, each
 *    with all its channels. `stride` is the number of channels rounded up to a multiple of
 *    SYNTH_LANES; channels that do not exist are 0. One more row and column on every side hold
 *    zeros, or the neighbours where the map is a stripe. Functions write neither.
 *
 * 2. *Planes* hold samples in 2^-12: int32 [planes][rows][columns], rows one after the other.
 *
 * 3. A function computes a range of rows. Pointers to maps lead to the row above the first of the
 *    range, pointers to planes and positions to the first row itself. No result depends on how rows
 *    are cut into ranges.
 *
 * 4. Sums are 32 bits wide and modulo 2^32 on the way: signed overflow does not occur, and what is
 *    asked for fits in the end. The caller that makes a layer proves that; each function says what
 *    it relies on. All paths give the same integers.
 *
 * 5. A 3x3 convolution is that of winograd.h, and its sums are four times as large on the way.
 *
 * Nothing here allocates. `scratch` is memory of so many bytes as the function of that name says,
 * with the alignment of an int32 at least. What it holds before does not matter.
 *
 *     rnd(a, n) = floor(a / 2^n + 1/2)      rq(a, m) = rnd(a m, 32)
 */
#ifndef MVMIC_SYNTHESIS_H
#define MVMIC_SYNTHESIS_H

#include <stddef.h>
#include <stdint.h>

#include "gemm.h"
#include "winograd.h"

/* Weights, and how sums become results. gemm.h says what a block is. */
typedef struct {
    size_t inputs;         /* stride of the input map, or the number of inputs rounded up to even */
    size_t groups;         /* outputs / SYNTH_LANES, rounded up */
    const int16_t *weight; /* 1x1: [groups] blocks; 3x3: [groups][16] blocks, by frequency */
    const int32_t *bias;   /* [groups * SYNTH_LANES], as the next two */
    const int32_t *factor; /* m of rq */
    const int32_t *offset;
} SynthLayer;

/* int32 [planes][rows][columns]; `pitch` elements lie between a plane's start and the next's. */
typedef struct {
    int32_t *at;
    size_t planes, pitch, columns;
} SynthPlanes;

/* From the latent to coefficients. Channels of y: `near_luma` of luma, `near_chroma` of chroma, the
 * other luma (256 in all), the other chroma. Entries are within +-2^14. */
typedef struct {
    size_t near_luma, near_chroma;
    size_t chroma;            /* at most 512; 0 for one plane, for three planes above 0 */
    const int16_t *luma;      /* [8 modes][16 groups] blocks of 256 inputs */
    const int16_t *of_chroma; /* [32 groups] blocks of `chroma` inputs, rounded up to even */
} SynthRotation;

size_t synth_rotate_scratch(void);

/* Coefficients x [n][256 J] from y [n][256 + chroma] and the modes [n] of the sites, J = 1 or 3. */
void synth_rotate(const SynthRotation *rotation, SynthPath path, const int16_t *y,
                  const uint8_t *modes, size_t n, int16_t *x, void *scratch);

/* The matrices of the linear picture: A of the inverse DCT and B of the borders, both 16x16. For
 * each row of A^T or B, sum |entry| is less than 2^16. */
typedef struct {
    const int16_t *dct_block;     /* A: a block of 16 inputs u, by lane j */
    const int16_t *dct_rows;      /* A transposed: [SYNTH_POSITIONS][16], by row i */
    const int16_t *borders_block; /* B: a block of 16 inputs k, by lane i */
    const int16_t *borders_rows;  /* B: [SYNTH_POSITIONS][16], by row i */
} SynthLinear;

size_t synth_linear_rows_scratch(size_t w);

/* Inverse DCT of `count` rows of w blocks x [count][w][256 planes], filtered along rows, in 2^-5:
 * out [planes][16 count][16 w], planes `pitch` elements apart. */
void synth_linear_rows(const SynthLinear *linear, SynthPath path, const int16_t *x, size_t planes,
                       size_t w, size_t count, int16_t *out, size_t pitch, void *scratch);

size_t synth_linear_columns_scratch(void);

/* Filters the 16 rows around one border between rows of blocks, and turns them into 2^-12. */
void synth_linear_columns(const SynthLinear *linear, SynthPath path, const int16_t *rows,
                          size_t pitch, const SynthPlanes *out, void *scratch);

/* Turns `count` rows that are not filtered into 2^-12. */
void synth_linear_edge(const int16_t *rows, size_t pitch, const SynthPlanes *out, size_t count);

size_t synth_dense_scratch(size_t inputs);

/* Coefficients x [count][w][layer->inputs] to a map at 1/16. e = clamp(rnd(x spread, 16), +-8191);
 * layer->bias is [8 modes][groups * SYNTH_LANES]. sum |weight| 8191 + |bias| < 2^31, and results
 * before they are clamped to int16 fit 32 bits. */
void synth_enter16(const SynthLayer *layer, SynthPath path, const int32_t *spread, const int16_t *x,
                   const uint8_t *modes, size_t w, size_t count, int16_t *out, void *scratch);

/* 3x3 convolutions of `count` rows, an even number, of an even number w of columns. `shift` is 0
 * for inputs within +-8191. Else it is 2 or 3, inputs are any, and the layer sees
 * min(rnd(in, shift), 32767 >> shift). With xmax = 8191, 8192, 4096 for shift = 0, 2, 3:
 * sum |weight| xmax + |bias| < 2^29, so that four times the sum fits. */

/* A map: clamp(rq(sum + bias, factor) + offset, 0, top). */
void synth_conv_relu(const SynthLayer *layer, SynthPath path, const int16_t *in, int shift,
                     int32_t top, size_t w, size_t count, int16_t *out, void *scratch);

/* Added to a map: clamp(stream + rq(sum + bias, factor), int16). */
void synth_conv_add(const SynthLayer *layer, SynthPath path, const int16_t *in, int shift, size_t w,
                    size_t count, int16_t *stream, void *scratch);

/* Output 4 c + 2 i + j added to row 2 y + i and column 2 x + j of plane c, at most 4 planes. */
void synth_conv_leave(const SynthLayer *layer, SynthPath path, const int16_t *in, int shift,
                      size_t w, size_t count, const SynthPlanes *planes, void *scratch);

size_t synth_enter8_scratch(size_t inputs);

/* `count` rows of w positions at 1/16 to 2 count rows of a map at 1/8. `up` has four times the
 * groups of `inject`, by 2 i + j, and no bias; `inject` has neither bias nor offset. Sums of
 * |weight| times 8192 are less than 2^31, and results fit 32 bits before they are clamped. Samples
 * are within +-2^30. */
void synth_enter8(const SynthLayer *up, const SynthLayer *inject, SynthPath path, const int16_t *in,
                  const SynthPlanes *planes, size_t w, size_t count, int16_t *out, void *scratch);

/* `count` rows of w positions of a map at 1/8, added to planes, clamped to +-2^23.
 * sum |weight| 8192 + |bias| < 2^31. Samples are within +-(2^30 - 1): a result can be 2^30. Scratch
 * is that of synth_dense_scratch. */
void synth_leave8(const SynthLayer *layer, SynthPath path, const int16_t *in, size_t w,
                  size_t count, const SynthPlanes *planes, void *scratch);

size_t synth_quads_scratch(size_t w);

/* Planes, whose samples are within +-2^24, to `count` rows of w positions of a map at 1/2.
 * `above`, `below`: whether the image has rows above the first and below the last; they lie there.
 */
void synth_quads(SynthPath path, const SynthPlanes *planes, int above, int below, size_t w,
                 size_t count, int16_t *out, size_t stride, void *scratch);

/* How planes become samples. For each row of the matrix sum |entry| is at most 2^31. */
typedef struct {
    int32_t matrix[3][3]; /* [planes][planes], in 2^-42 */
    int32_t levels;       /* n: samples are low to low + n, n at most 65535 */
    int32_t low;
    int bytes; /* of a sample: 1 and 2 without a sign, 4 with one */
} SynthSamples;

/* The first `width` samples of `count` rows: out [count][width][planes]. */
void synth_samples(const SynthSamples *samples, SynthPath path, const SynthPlanes *planes,
                   size_t width, size_t count, void *out);

#endif
