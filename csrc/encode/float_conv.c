#include "float_conv.h"

#include "winograd_internal.h"

SYNTH_INLINE void narrow_rows(SynthPath path, const float *in, float scale, int relu, size_t stride,
                              size_t w, size_t count, int16_t *out)
{
    float low = relu ? 0.0F : -(float)NARROW_MAX, high = (float)NARROW_MAX;
    (void)path;
    for (size_t y = 0; y < count; y++)
        for (size_t x = 0; x < w; x++, in += stride) {
            int16_t *SYNTH_RESTRICT to = out + in_map(y, x, w) * stride;
            for (size_t c = 0; c < stride; c += LANES)
                SYNTH_VECTOR
            for (size_t k = 0; k < LANES; k++) {
                float value = in[c + k] * scale;
                /* Not-a-numbers become `low`. */
                value = value > low ? value : low;
                value = value < high ? value : high;
                to[c + k] = (int16_t)(int32_t)(value + (value < 0.0F ? -0.5F : 0.5F));
            }
        }
}

SYNTH_FUNCTION(narrow,
               (SynthPath path, const float *in, float scale, int relu, size_t stride, size_t w,
                size_t count, int16_t *out),
               (path, in, scale, relu, stride, w, count, out))

SYNTH_INLINE void float_conv_rows(const FloatLayer *layer, SynthPath path, const int16_t *in,
                                  float scale, int add, size_t w, size_t count, float *out,
                                  void *scratch)
{
    Conv conv =
        conv_of(layer->weight, layer->inputs, layer->groups, path, in, 0, w, count, scratch);
    float step = 1.0F / scale;
    while (conv_next(&conv)) {
        Place at = place_of(conv.first, conv.columns);
        for (size_t t = 0; t < conv.tiles; t++, advance(&at))
            for (size_t g = 0; g < conv.groups; g++) {
                int32_t sums[4][LANES];
                size_t o = (conv.group + g) * LANES;
                const float *unit = layer->unit + o, *bias = layer->bias + o;
                conv_sums(&conv, t, g, sums);
                for (size_t i = 0; i < 4; i++) {
                    size_t place = (2 * at.y + i / 2) * w + 2 * at.x + i % 2;
                    float *SYNTH_RESTRICT to = out + place * layer->groups * LANES + o;
                    SYNTH_VECTOR
                    for (size_t k = 0; k < LANES; k++) {
                        float value = (float)sums[i][k] * unit[k] * step + bias[k];
                        to[k] = add ? to[k] + value : value;
                    }
                }
            }
    }
}

SYNTH_FUNCTION(float_conv,
               (const FloatLayer *layer, SynthPath path, const int16_t *in, float scale, int add,
                size_t w, size_t count, float *out, void *scratch),
               (layer, path, in, scale, add, w, count, out, scratch))
