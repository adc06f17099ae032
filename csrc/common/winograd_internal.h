/*
 * winograd_internal.h: the steps of a 3x3 convolution, for code that takes its sums.
 *
 *     Conv conv = conv_of(...);
 *     while (conv_next(&conv))
 *         for (size_t t = 0; t < conv.tiles; t++)
 *             for (size_t g = 0; g < conv.groups; g++)
 *                 ... conv_sums(&conv, t, g, sums);
 */
#ifndef MVMIC_WINOGRAD_INTERNAL_H
#define MVMIC_WINOGRAD_INTERNAL_H

#include "lanes_internal.h"

/* Bytes of scratch for the inputs and sums of a 3x3 layer. They have to stay in the cache of a
 * core, beside weights. */
#define CONV_BYTES (256 * 1024)

/* Elements between frequencies beyond what is used, so that sixteen of them do not fall into the
 * same few lines of a cache. */
#define APART 32

/* Tiles, of 2x2 results, that are computed at once. */
SYNTH_INLINE size_t conv_tiles(size_t inputs)
{
    size_t tiles =
        CONV_BYTES / (16 * (inputs * sizeof(int16_t) + GROUPS * LANES * sizeof(int32_t)));
    return tiles < POSITIONS ? POSITIONS : tiles / POSITIONS * POSITIONS;
}

/* Sixteen frequencies, `pitch` apart, of LANES channels of 4x4 positions. */
SYNTH_INLINE void transform_in(const int16_t *d, size_t row, size_t column,
                               int16_t *SYNTH_RESTRICT v, size_t pitch)
{
    int16_t b[4][4][LANES];
    for (size_t x = 0; x < 4; x++, d += column)
        SYNTH_VECTOR
    for (int k = 0; k < LANES; k++) {
        b[0][x][k] = (int16_t)(d[k] - d[2 * row + (size_t)k]);
        b[1][x][k] = (int16_t)(d[row + (size_t)k] + d[2 * row + (size_t)k]);
        b[2][x][k] = (int16_t)(d[2 * row + (size_t)k] - d[row + (size_t)k]);
        b[3][x][k] = (int16_t)(d[row + (size_t)k] - d[3 * row + (size_t)k]);
    }
    for (size_t y = 0; y < 4; y++, v += 4 * pitch)
        SYNTH_VECTOR
    for (size_t k = 0; k < LANES; k++) {
        v[k] = (int16_t)(b[y][0][k] - b[y][2][k]);
        v[pitch + k] = (int16_t)(b[y][1][k] + b[y][2][k]);
        v[2 * pitch + k] = (int16_t)(b[y][2][k] - b[y][1][k]);
        v[3 * pitch + k] = (int16_t)(b[y][1][k] - b[y][3][k]);
    }
}

/* Sums of 2x2 positions from sixteen frequencies, `pitch` apart. */
SYNTH_INLINE void transform_out(const int32_t *m, size_t pitch, int32_t sums[4][LANES])
{
    int32_t s[2][4][LANES];
    for (size_t x = 0; x < 4; x++, m += pitch)
        SYNTH_VECTOR
    for (size_t k = 0; k < LANES; k++) {
        int32_t odd = m[4 * pitch + k], even = m[8 * pitch + k];
        s[0][x][k] = add(add(m[k], odd), even);
        s[1][x][k] = subtract(subtract(odd, even), m[12 * pitch + k]);
    }
    for (int y = 0; y < 2; y++)
        SYNTH_VECTOR
    for (int k = 0; k < LANES; k++) {
        int32_t odd = s[y][1][k], even = s[y][2][k];
        sums[2 * y][k] = add(add(s[y][0][k], odd), even) >> 2;
        sums[2 * y + 1][k] = subtract(subtract(odd, even), s[y][3][k]) >> 2;
    }
}

/* A convolution under way. */
typedef struct {
    Gemm *gemm;
    const int16_t *in, *weight;
    int shift;
    size_t inputs, all_groups, columns, all_tiles, most;
    int16_t *v;
    int32_t *m;
    /* At hand: tiles from `first` on, and groups of outputs from `group` on. */
    size_t first, tiles, group, groups;
} Conv;

/* Elements between frequencies of v and m. */
SYNTH_INLINE size_t v_pitch_of(const Conv *conv)
{
    return conv->most * conv->inputs + APART;
}

SYNTH_INLINE size_t m_pitch_of(const Conv *conv)
{
    return conv->most * LANES + APART;
}

/* `weight` is that of synth_conv_weights for so many groups of outputs; `in` is a map of w columns.
 * Both w and the number of rows, `count`, are even. `shift` as for synth_conv_relu. */
SYNTH_INLINE Conv conv_of(const int16_t *weight, size_t inputs, size_t groups, SynthPath path,
                          const int16_t *in, int shift, size_t w, size_t count, void *scratch)
{
    Conv conv = {
        .gemm = synth_gemm_of(path),
        .in = in,
        .weight = weight,
        .shift = shift,
        .inputs = inputs,
        .all_groups = groups,
        .columns = w / 2,
        .all_tiles = w / 2 * (count / 2),
        .most = conv_tiles(inputs),
        .group = groups,
    };
    conv.v = take(&scratch, 16 * v_pitch_of(&conv) * sizeof *conv.v);
    conv.m = take(&scratch, GROUPS * 16 * m_pitch_of(&conv) * sizeof *conv.m);
    return conv;
}

/* The frequencies of the tiles at hand. */
SYNTH_INLINE void conv_transform(const Conv *conv)
{
    size_t inputs = conv->inputs, row = (2 * conv->columns + 2) * inputs, pitch = v_pitch_of(conv);
    Place at = place_of(conv->first, conv->columns);
    for (size_t t = 0; t < conv->tiles; t++, advance(&at)) {
        const int16_t *d = conv->in + 2 * (at.y * row + at.x * inputs);
        for (size_t c = 0; c < inputs; c += LANES) {
            int16_t patch[4 * 4 * LANES], *v = conv->v + t * inputs + c;
            for (size_t k = 0; k < 16 && conv->shift != 0; k++)
                if (conv->shift == 2)
                    shrink(d + k / 4 * row + k % 4 * inputs + c, 2, patch + k * LANES);
                else
                    shrink(d + k / 4 * row + k % 4 * inputs + c, 3, patch + k * LANES);
            if (conv->shift == 0)
                transform_in(d + c, row, inputs, v, pitch);
            else
                transform_in(patch, 4 * LANES, LANES, v, pitch);
        }
    }
}

/* Computes the next sums. Returns 0 after the last. */
SYNTH_INLINE int conv_next(Conv *conv)
{
    conv->group += GROUPS;
    if (conv->group >= conv->all_groups) {
        conv->first += conv->tiles;
        if (conv->first == conv->all_tiles)
            return 0;
        conv->tiles = smaller(conv->most, conv->all_tiles - conv->first);
        conv->group = 0;
        conv_transform(conv);
    }
    conv->groups = smaller(GROUPS, conv->all_groups - conv->group);
    size_t block = conv->inputs * LANES, v_pitch = v_pitch_of(conv), m_pitch = m_pitch_of(conv);
    const int16_t *u = conv->weight + conv->group * 16 * block;
    for (size_t f = 0; f < 16; f++)
        conv->gemm(conv->v + f * v_pitch, conv->tiles, conv->inputs, u + f * block, 16 * block,
                   (int)conv->groups, conv->m + f * m_pitch, 16 * m_pitch);
    return 1;
}

/* LANES sums of each of the 2x2 positions of a tile at hand, of group g at hand. */
SYNTH_INLINE void conv_sums(const Conv *conv, size_t t, size_t g, int32_t sums[4][LANES])
{
    size_t pitch = m_pitch_of(conv);
    transform_out(conv->m + g * 16 * pitch + t * LANES, pitch, sums);
}

#endif
