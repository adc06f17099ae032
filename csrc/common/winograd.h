/*
 * winograd.h: 3x3 convolutions by Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308).
 *
 * Its matrix G holds halves. They are doubled here, once for rows and once for columns, so that
 * weights are integers and sums four times as large.
 */
#ifndef MVMIC_WINOGRAD_H
#define MVMIC_WINOGRAD_H

#include <stddef.h>
#include <stdint.h>

/* Weights of a 3x3 layer [outputs][inputs][3][3], within +-3640, as a SynthLayer has them: out
 * [groups][16] blocks of `stride` inputs, an even number. */
void synth_conv_weights(const int16_t *weight, size_t outputs, size_t inputs, size_t stride,
                        int16_t *out);

size_t synth_conv_scratch(size_t inputs);

#endif
