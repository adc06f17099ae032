#include "winograd.h"

#include <string.h>

#include "winograd_internal.h"

/* Three weights of a row or column, `pitch` apart, to four of Winograd's, doubled, LANES apart. */
SYNTH_INLINE void to_winograd(const int16_t *in, size_t pitch, int16_t *SYNTH_RESTRICT out)
{
    SYNTH_VECTOR
    for (size_t k = 0; k < LANES; k++) {
        int16_t first = in[k], middle = in[pitch + k], last = in[2 * pitch + k];
        int16_t both = (int16_t)(first + last);
        out[k] = (int16_t)(2 * first);
        out[LANES + k] = (int16_t)(both + middle);
        out[2 * LANES + k] = (int16_t)(both - middle);
        out[3 * LANES + k] = (int16_t)(2 * last);
    }
}

/* Inputs whose weights are read at once: those of one output lie side by side. */
#define INPUTS 16

/* [3][3] weights of LANES outputs to [4][4]. */
SYNTH_INLINE void to_frequencies(const int16_t *plain, int16_t *SYNTH_RESTRICT out)
{
    int16_t tall[12 * LANES];
    for (size_t x = 0; x < 3; x++)
        to_winograd(plain + x * LANES, 3 * LANES, tall + 4 * x * LANES);
    for (size_t y = 0; y < 4; y++)
        to_winograd(tall + y * LANES, 4 * LANES, out + 4 * y * LANES);
}

void synth_conv_weights(const int16_t *weight, size_t outputs, size_t inputs, size_t stride,
                        int16_t *out)
{
    size_t block = stride * LANES, groups = (outputs + LANES - 1) / LANES;
    for (size_t group = 0; group < groups; group++, out += 16 * block)
        for (size_t first = 0; first < stride; first += INPUTS) {
            int16_t plain[INPUTS * 9 * LANES] = {0};
            size_t known = first < inputs ? smaller(INPUTS, inputs - first) : 0;
            size_t lanes = smaller(LANES, outputs - group * LANES);
            for (size_t lane = 0; lane < lanes; lane++) {
                const int16_t *from = weight + ((group * LANES + lane) * inputs + first) * 9;
                for (size_t k = 0; k < known * 9; k++)
                    plain[k * LANES + lane] = from[k];
            }
            for (size_t i = 0; i < smaller(INPUTS, stride - first); i += 2) {
                int16_t even[16 * LANES], odd[16 * LANES];
                to_frequencies(plain + i * 9 * LANES, even);
                to_frequencies(plain + (i + 1) * 9 * LANES, odd);
                for (size_t f = 0; f < 16; f++) {
                    int16_t *to = out + f * block + (first + i) * LANES;
                    SYNTH_VECTOR
                    for (size_t k = 0; k < LANES; k++) {
                        to[2 * k] = even[f * LANES + k];
                        to[2 * k + 1] = odd[f * LANES + k];
                    }
                }
            }
        }
}

size_t synth_conv_scratch(size_t inputs)
{
    size_t tiles = conv_tiles(inputs);
    return SCRATCH(16 * (tiles * inputs + APART) * sizeof(int16_t) +
                   GROUPS * 16 * (tiles * LANES + APART) * sizeof(int32_t));
}
