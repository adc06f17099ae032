/*
 * float_conv.h: 3x3 convolutions of floats by 16-bit products, for encoders alone.
 *
 * An encoder may do as it likes, so nothing here is part of the format. The products are those of
 * synthesis, which are several times as fast as products of floats. A map is that of synthesis.h.
 * *Floats* are [rows][w][stride], stride as that of a map.
 *
 * A function computes `count` rows. Pointers to maps lead to the row above the first of these, all
 * others to the first row itself.
 */
#ifndef MVMIC_FLOAT_CONV_H
#define MVMIC_FLOAT_CONV_H

#include "gemm.h"

/* Inputs of a layer are within +-NARROW_MAX. Fewer bits for them leave more for weights: both share
 * 32 bits. */
#define NARROW_MAX 4095

/* Floats times `scale`, rounded and clamped to +-NARROW_MAX, or to 0..NARROW_MAX if `relu`. */
void synth_narrow(SynthPath path, const float *in, float scale, int relu, size_t stride, size_t w,
                  size_t count, int16_t *out);

typedef struct {
    size_t inputs;         /* stride of the input map */
    size_t groups;         /* outputs / SYNTH_LANES, rounded up */
    const int16_t *weight; /* as synth_conv_weights gives them; sum |weight| NARROW_MAX < 2^29 */
    const float *unit;     /* [groups * SYNTH_LANES] of sums, as the next */
    const float *bias;
} FloatLayer;

/* bias + sum unit / scale, added to `out` if `add`. w and count are even; scratch has the size that
 * synth_conv_scratch says. */
void synth_float_conv(const FloatLayer *layer, SynthPath path, const int16_t *in, float scale,
                      int add, size_t w, size_t count, float *out, void *scratch);

#endif
