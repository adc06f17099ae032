/*
 * intnet.h: the integer networks of the entropy model, layer by layer, in exact arithmetic.
 *
 * formats/model.md says what is computed; the names agree. Read this first:
 *
 * 1. A *map* holds the inputs of a layer: bytes [h + 2][w + 2][stride], position by position, each
 *    with all its channels, and one more row and column on every side that repeats the nearest
 *    one. `stride` is the number of channels rounded up to a multiple of 4; the weights of those
 *    that are not there are 0.
 *
 * 2. Some inputs have a sign. They are stored with 128 added, and what that adds to every sum is
 *    taken off the bias before (see INTNET_ZERO).
 *
 * 3. Sums are int32. Whoever makes a layer proves beforehand that none can overflow: for each
 *    output, 255 times the sum S of |weight| and |bias| together stay under 2^30. With what the 128
 *    and rounding put into the bias, nothing is larger than 255 S + |bias| + 128 S + 2^13, which is
 *    less than 1.51 * 2^30.
 *
 * 4. All paths give the same integers: nothing here saturates or rounds on the way. The linear
 *    predictors need more than 32 bits and run in doubles, whose sums stay under 2^52 by the same
 *    kind of proof, so that they are exact in any order.
 *
 * Nothing here allocates. `cells` is h * w, the number of positions of the grid.
 */
#ifndef MVMIC_INTNET_H
#define MVMIC_INTNET_H

#include <stddef.h>
#include <stdint.h>

/* Outputs are computed this many at a time; a layer's weights are filled up with zeros. */
#define INTNET_LANES 16

/* A layer's inputs, in fours, are at most so many. */
#define INTNET_FOURS 1024

/* What is added to inputs that have a sign. */
#define INTNET_ZERO 128

/* Ways to compute the same; the later, the faster. */
typedef enum { INTNET_PORTABLE = 0, INTNET_AVX2, INTNET_VNNI, INTNET_PATHS } IntnetPath;

/* Whether this processor can go that way. */
int intnet_path_usable(IntnetPath path);

/* A convolution over `size` x `size` positions (1 or 3), a bias, a shift to the right. */
typedef struct {
    uint32_t size;
    uint32_t stride; /* of the maps it takes, at most 4 * INTNET_FOURS */
    uint32_t outputs;
    uint32_t groups;      /* outputs / INTNET_LANES, rounded up */
    const int8_t *weight; /* [groups][size * size][stride / 4][INTNET_LANES][4] */
    const int32_t *bias;  /* [groups * INTNET_LANES], 2^(shift - 1) for rounding within */
    const uint8_t *shift; /* [groups * INTNET_LANES], 0 to 14 */
} IntnetLayer;

/* Results clamped to 0..255, as a map [h + 2][w + 2][out_stride], out_stride >= outputs; channels
 * from `outputs` on are left alone. */
void intnet_layer_map(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                      size_t w, uint8_t *out, size_t out_stride);

/* Results as they are: int32 [cells][outputs]. */
void intnet_layer_sums(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                       size_t w, int32_t *out);

/* Fills in the outermost rows and columns of a map with `stride` bytes for each position. */
void intnet_repeat_edges(uint8_t *map, size_t h, size_t w, size_t stride);

/* A map of `features` (the first `width` channels of another map) and companded q [n][cells]:
 * if with_sign, the n values with INTNET_ZERO added, then in any case their n magnitudes. */
void intnet_merge(const uint8_t *features, size_t features_stride, size_t width, const int32_t *q,
                  size_t n, const uint8_t compand[256], int with_sign, size_t h, size_t w,
                  uint8_t *out, size_t out_stride);

/* 3x3 prediction, added to out [cells][outputs]: levels [h + 2][w + 2][inputs] (a map of doubles)
 * times weight [9][inputs][outputs]. */
void intnet_predict(const double *levels, size_t inputs, const double *weight, size_t outputs,
                    size_t h, size_t w, IntnetPath path, double *out);

/* What belongs to the n channels of a part. Sites and modes: formats/model.md, section 3. */
typedef struct {
    size_t n;
    const uint8_t *site;      /* [n], 0 to 3 */
    const int32_t *base;      /* [n] */
    const int16_t *base_mode; /* [8][n] */
    const int32_t *step;      /* [n] */
    const int32_t *gain;      /* [n], near parts only */
    const uint8_t *aligned;   /* [8][n], near parts only */
} IntnetPart;

/* Modes and whether anything is coded there, of the four sites of every cell. */
typedef struct {
    const uint8_t *mode;   /* [4][cells] */
    const uint8_t *inside; /* [4][cells], 0 or 1 */
} IntnetSites;

/* Table indices [n][cells] from the sums of a `scales` layer [cells][n]. */
void intnet_indices(const IntnetPart *part, const IntnetSites *sites, const int32_t *sums,
                    size_t cells, uint8_t *index);

/* What table indices are made of before a mode adds its part: the sums of a `scales` layer
 * [cells][n] and the base, in sixteenths of a table and clamped to int16, [n][cells]. For encoders
 * alone. */
void intnet_scores(const IntnetPart *part, const int32_t *sums, size_t cells, int16_t *score);

/* Means [n][cells] from a linear prediction and the sums of a `means` layer, both [cells][n]; and
 * what the prediction gives, or would give in an aligned mode, of that: `predicted` [n][cells]. */
void intnet_means(const IntnetPart *part, const IntnetSites *sites, const double *linear,
                  const int32_t *sums, size_t cells, int32_t *mean, int32_t *predicted);

/* From symbols and means (NULL: all 0) [n][cells] to q of the same shape and to the latent
 * [n][2h][2w], of which this pass fills in its site of every cell. If levels is not NULL, it
 * becomes a map of V: doubles [h + 2][w + 2][n]. */
void intnet_dequantise(const IntnetPart *part, const IntnetSites *sites, const int16_t *symbols,
                       const int32_t *mean, size_t h, size_t w, int32_t *q, float *latent,
                       double *levels);

#endif
