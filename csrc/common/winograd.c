#include "winograd.h"

#include <string.h>

#include "winograd_internal.h"

/* Three weights of a row or column to four of Winograd's, doubled. */
static void to_winograd(const int32_t in[3], int32_t out[4])
{
    out[0] = 2 * in[0];
    out[1] = in[0] + in[1] + in[2];
    out[2] = in[0] - in[1] + in[2];
    out[3] = 2 * in[2];
}

static void numerators(const int16_t weight[9], int32_t out[16])
{
    int32_t tall[3][4];
    for (int x = 0; x < 3; x++) {
        int32_t column[3] = {weight[x], weight[3 + x], weight[6 + x]};
        to_winograd(column, tall[x]);
    }
    for (int y = 0; y < 4; y++) {
        int32_t row[3] = {tall[0][y], tall[1][y], tall[2][y]};
        to_winograd(row, out + 4 * y);
    }
}

void synth_conv_weights(const int16_t *weight, size_t outputs, size_t inputs, size_t stride,
                        int16_t *out)
{
    size_t block = stride * SYNTH_LANES;
    size_t groups = (outputs + SYNTH_LANES - 1) / SYNTH_LANES;
    for (size_t group = 0; group < groups; group++, out += 16 * block)
        for (size_t pair = 0; pair < stride / 2; pair++) {
            int16_t part[16][SYNTH_LANES][2] = {0};
            for (size_t lane = 0; lane < SYNTH_LANES; lane++)
                for (size_t k = 0; k < 2; k++) {
                    size_t o = group * SYNTH_LANES + lane, i = 2 * pair + k;
                    int32_t u[16];
                    if (o >= outputs || i >= inputs)
                        continue;
                    numerators(weight + (o * inputs + i) * 9, u);
                    for (int f = 0; f < 16; f++)
                        part[f][lane][k] = (int16_t)u[f];
                }
            for (size_t f = 0; f < 16; f++)
                memcpy(out + f * block + pair * 2 * SYNTH_LANES, part[f], sizeof part[f]);
        }
}

size_t synth_conv_scratch(size_t inputs)
{
    size_t tiles = conv_tiles(inputs);
    return SCRATCH(16 * (tiles * inputs + APART) * sizeof(int16_t) +
                   GROUPS * 16 * (tiles * LANES + APART) * sizeof(int32_t));
}
