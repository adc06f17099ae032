/*
 * intnet.h: the integer networks of the entropy model, layer by layer, in exact arithmetic.
 *
 * formats/model.md defines what is computed, by the same names. Read this first:
 *
 * 1. A *map* holds the inputs of a layer: bytes [h + 2][w + 2][stride], position by position, each
 *    with all its channels. One more row and column on every side repeat the nearest one.
 *    `stride` is the number of channels rounded up to a multiple of 4. The weights of channels
 *    that do not exist are 0.
 *
 * 2. Inputs with a sign are stored with 128 added (INTNET_ZERO). A layer's bias
 *    already subtracts what that adds to its sums.
 *
 * 3. Sums are int32. The caller that makes a layer proves that none can overflow. With S the sum of
 *    |weight| of an output, 255 S + |bias| stays under 2^30. The 128 and rounding change the bias,
 *    so nothing is larger than 255 S + |bias| + 128 S + 2^13, which is less than 1.51 * 2^30. What
 *    is added to results (a base, a mode's and the neighbours' part) is less than 2^17 in all.
 *
 * 4. All paths give the same integers: nothing here saturates or rounds on the way. The linear
 *    predictors need more than 32 bits and run in doubles, whose sums stay under 2^52 by the same
 *    kind of proof, so that they are exact in any order.
 *
 * Nothing here allocates. `cells` is h * w, the number of positions of the grid. `scratch` is
 * memory of so many bytes as the function of that name says, with the alignment of an int32 at
 * least.
 */
#ifndef MVMIC_INTNET_H
#define MVMIC_INTNET_H

#include <stddef.h>
#include <stdint.h>

/* So many outputs are computed at once. Zeros fill up a layer's weights to a multiple. */
#define INTNET_LANES 16

/* Linear predictors have their weights in blocks of so many outputs. */
#define INTNET_BLOCK 8

/* A layer has at most so many fours of inputs. */
#define INTNET_FOURS 1024

/* Inputs that have a sign are stored with this added. */
#define INTNET_ZERO 128

/* Classes of neighbours by companded magnitude. */
#define INTNET_CLASSES 16

/* Ways to compute the same integers, the fastest last. */
typedef enum { INTNET_PORTABLE = 0, INTNET_AVX2, INTNET_VNNI, INTNET_PATHS } IntnetPath;

/* Whether this processor can run a path. */
int intnet_path_usable(IntnetPath path);

/* A convolution over `size` x `size` positions (1 or 3), a bias, a shift to the right. */
typedef struct {
    uint32_t size;
    uint32_t stride; /* of its input maps, at most 4 * INTNET_FOURS */
    uint32_t outputs;
    uint32_t groups;      /* outputs / INTNET_LANES, rounded up */
    const int8_t *weight; /* [groups][size * size][stride / 4][INTNET_LANES][4] */
    const int32_t *bias;  /* [groups * INTNET_LANES], 2^(shift - 1) for rounding within */
    const uint8_t *shift; /* [groups * INTNET_LANES], 0 to 14 */
    /* Of a 3x3 layer, as synth_conv_weights gives them for `stride` rounded up to a multiple of
     * SYNTH_LANES. NULL if there are none, or if 4 * 255 S is not below 2^31: sums are four times
     * as large on the way. */
    const int16_t *winograd;
} IntnetLayer;

size_t intnet_layer_scratch(const IntnetLayer *layer, size_t h, size_t w);

/* Results clamped to 0..255, as a map [h + 2][w + 2][out_stride], out_stride >= outputs. Channels
 * from `outputs` on are not written, nor are the outermost rows and columns: h may be some rows of
 * a larger map. */
void intnet_layer_map(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                      size_t w, uint8_t *out, size_t out_stride, void *scratch);

/* Results that are not clamped: int32 [cells][outputs]. */
void intnet_layer_sums(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                       size_t w, int32_t *out, void *scratch);

/* Fills the outermost rows and columns of a map with `stride` bytes for each position. */
void intnet_repeat_edges(uint8_t *map, size_t h, size_t w, size_t stride);

/* A map of `features` (the first `width` channels of another map) and companded q [n][cells]:
 * if with_sign, the n values with INTNET_ZERO added, then in any case their n magnitudes. */
void intnet_merge(const uint8_t *features, size_t features_stride, size_t width, const int32_t *q,
                  size_t n, const uint8_t compand[256], int with_sign, size_t h, size_t w,
                  uint8_t *out, size_t out_stride);

/* Adds to out [cells][outputs] the 3x3 prediction from v [h + 2][w + 2][inputs], a map of doubles,
 * by weight [blocks][9][inputs][INTNET_BLOCK]; zeros fill up the last block. */
void intnet_predict(const double *v, size_t inputs, const double *weight, size_t outputs, size_t h,
                    size_t w, IntnetPath path, double *out);

/* The arrays of the n channels of one symbol group. Sites and modes: formats/model.md, section 3.
 */
typedef struct {
    size_t n;
    const uint8_t *site;      /* [n], 0 to 3 */
    const int32_t *base;      /* [n] */
    const int16_t *base_mode; /* [8][n] */
    const int32_t *step;      /* [n] */
    const int32_t *gain;      /* [n], for low frequencies only */
    const uint8_t *aligned;   /* [8][n], for low frequencies only */
} IntnetGroupArrays;

/* The modes of the four sites of every cell, and whether each site is coded. */
typedef struct {
    const uint8_t *mode;   /* [4][cells] */
    const uint8_t *inside; /* [4][cells], 0 or 1 */
} IntnetSites;

/* Table indices [n][cells] from the sums of a `scales` layer [cells][n]. */
void intnet_indices(const IntnetGroupArrays *arrays, const IntnetSites *sites, const int32_t *sums,
                    size_t cells, uint8_t *index);

/* Table indices before the mode adds its part, in sixteenths, clamped to int16, [n][cells]: the
 * sums of a `scales` layer [cells][n] plus the base. Only encoders need them. */
void intnet_scores(const IntnetGroupArrays *arrays, const int32_t *sums, size_t cells,
                   int16_t *score);

/* Means [n][cells] from a linear prediction and the sums of a `means` layer, both [cells][n].
 * `predicted` [n][cells] is the part of them that the prediction gives in an aligned mode. */
void intnet_means(const IntnetGroupArrays *arrays, const IntnetSites *sites, const double *linear,
                  const int32_t *sums, size_t cells, int32_t *mean, int32_t *predicted);

/* What neighbours say of the n channels of the first symbol group. */
typedef struct {
    size_t n;
    const int16_t *weight;  /* [n], `near_mean` at the rate index */
    const int8_t *shift;    /* [n][INTNET_CLASSES], `near_shift` */
    const uint8_t *compand; /* [256], at most 127 */
} IntnetNeighbours;

/* Adds to the others of a chessboard what the symbols [n][cells] of its anchors say of them, to
 * their means [n][cells] and to the sums [cells][n] of their `scales` layer. Symbols of the others
 * are 0. */
void intnet_add_neighbours(const IntnetNeighbours *neighbours, const int16_t *symbols, size_t h,
                           size_t w, int32_t *mean, int32_t *sums);

/* Dequantises symbols [n][cells] with their means [n][cells] (NULL: all 0). Writes q [n][cells],
 * and the group's site of every cell of latent [2h][2w][channels], which begins at the group's
 * first channel. If v is not NULL, writes V to it, a map of doubles [h + 2][w + 2][n]. */
void intnet_dequantise(const IntnetGroupArrays *arrays, const IntnetSites *sites,
                       const int16_t *symbols, const int32_t *mean, size_t h, size_t w, int32_t *q,
                       int16_t *latent, size_t channels, double *v);

#endif
