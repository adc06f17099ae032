#include "synthesis.h"

#include <string.h>

#include "winograd_internal.h"

/* Positions that a 1x1 layer takes at once, a multiple of POSITIONS. */
#define DENSE_POSITIONS 48

/* These figures are part of every model: formats/model.md. */
#define AREA 256       /* coefficients of a block */
#define BLOCK 16       /* its rows and columns */
#define MODES 8        /* of blocks */
#define CHROMA_MAX 512 /* channels of y */
#define LIMIT 8191     /* of inputs of a convolution */
#define PLANE_MAX (1 << 23)
#define ROTATION_BITS 14
#define SPREAD_BITS 16
#define DCT_BITS 13
#define ROW_BITS 14
#define COLUMN_BITS 7    /* 14 of the matrix less 7 that planes have more than rows */
#define SHRINK_BITS 2    /* from a stream to the inputs of `up` and `leave` */
#define UNSHUFFLE_BITS 9 /* from planes to the inputs of `inject` */
#define QUAD_BITS 8
#define MEAN_BITS 26
#define SAMPLE_BITS 42

/* ---- from the latent to coefficients ---- */

size_t synth_rotate_scratch(void)
{
    return SCRATCH(
        DENSE_POSITIONS * sizeof(size_t) + 2 * DENSE_POSITIONS * CHROMA_MAX * sizeof(int16_t) +
        GROUPS * CHROMA_MAX * LANES * sizeof(int16_t) +
        2 * GROUPS * DENSE_POSITIONS * LANES * sizeof(int32_t) + 2 * CHROMA_MAX * sizeof(int16_t));
}

/* A matrix, and the channels of y that it takes: two spans. */
typedef struct {
    size_t start[2], count[2];
    size_t inputs; /* count[0] + count[1], rounded up to even */
    size_t groups;
    const int16_t *weight; /* [groups] blocks */
} Turn;

/* A sum of 32 bits holds so much of y times entries of 2^14. */
#define TAME (1 << 17)

/* Writes the part of a Turn to x, of `n` sites that lie y_pitch apart in y and x_pitch in x. */
SYNTH_INLINE void rotate_sites(const Turn *turn, SynthPath path, const int16_t *y, size_t y_pitch,
                               const size_t *site, size_t n, int16_t *x, size_t x_pitch,
                               void *scratch)
{
    Gemm *gemm = synth_gemm_of(path);
    size_t inputs = turn->inputs;
    int16_t *v = take(&scratch, DENSE_POSITIONS * inputs * sizeof *v);
    int16_t *high = take(&scratch, DENSE_POSITIONS * inputs * sizeof *high);
    int16_t *u = take(&scratch, GROUPS * inputs * LANES * sizeof *u);
    int32_t *m = take(&scratch, 2 * GROUPS * DENSE_POSITIONS * LANES * sizeof *m);
    int16_t *any = take(&scratch, inputs * sizeof *any);
    uint16_t *pair = take(&scratch, (inputs / 2) * sizeof *pair);

    int wild = 0;
    memset(any, 0, inputs * sizeof *any);
    for (size_t t = 0; t < n; t++) {
        int16_t *row = v + t * inputs;
        row[inputs - 1] = 0;
        for (size_t s = 0; s < 2; s++)
            memcpy(row + s * turn->count[0], y + site[t] * y_pitch + turn->start[s],
                   turn->count[s] * sizeof *row);
        int32_t size = 0;
        for (size_t k = 0; k < inputs; k++) {
            any[k] |= row[k];
            size += row[k] < 0 ? -row[k] : row[k];
        }
        wild |= size >= TAME;
    }
    /* Most of y is zero: pairs of channels that are zero at all these sites are left out. */
    size_t pairs = 0;
    for (size_t k = 0; k < inputs / 2; k++) {
        pair[pairs] = (uint16_t)k;
        pairs += (any[2 * k] | any[2 * k + 1]) != 0;
    }
    for (size_t t = 0; t < n; t++)
        for (size_t k = 0; k < pairs; k++)
            memcpy(v + 2 * (t * pairs + k), v + t * inputs + 2 * pair[k], 2 * sizeof *v);
    /* Sums of wild sites may exceed 32 bits. In two halves they do not. */
    if (wild)
        for (size_t k = 0; k < n * 2 * pairs; k++) {
            high[k] = (int16_t)((v[k] + 128) >> 8);
            v[k] = (int16_t)(v[k] - 256 * high[k]);
        }

    size_t block = 2 * LANES * pairs, sums = DENSE_POSITIONS * LANES;
    for (size_t group = 0; group < turn->groups; group += GROUPS) {
        for (size_t g = 0; g < GROUPS; g++)
            for (size_t k = 0; k < pairs; k++)
                memcpy(u + g * block + 2 * LANES * k,
                       turn->weight + (group + g) * inputs * LANES + (size_t)2 * LANES * pair[k],
                       2 * LANES * sizeof *u);
        gemm(v, n, 2 * pairs, u, block, GROUPS, m, sums);
        if (wild)
            gemm(high, n, 2 * pairs, u, block, GROUPS, m + GROUPS * sums, sums);
        for (size_t t = 0; t < n; t++) {
            int16_t *out = x + site[t] * x_pitch + group * LANES;
            for (size_t g = 0; g < GROUPS; g++) {
                const int32_t *total = m + g * sums + t * LANES;
                if (wild) {
                    SYNTH_VECTOR
                    for (size_t k = 0; k < LANES; k++) {
                        int64_t sum = total[k] + (int64_t)total[GROUPS * sums + k] * 256;
                        sum = (sum + (1 << (ROTATION_BITS - 1))) >> ROTATION_BITS;
                        sum = sum < INT16_MIN ? INT16_MIN : sum;
                        out[g * LANES + k] = (int16_t)(sum > INT16_MAX ? INT16_MAX : sum);
                    }
                } else {
                    SYNTH_VECTOR
                    for (size_t k = 0; k < LANES; k++)
                        out[g * LANES + k] = to_int16(divide(total[k], ROTATION_BITS));
                }
            }
        }
    }
}

SYNTH_INLINE void rotate_rows(const SynthRotation *rotation, SynthPath path, const int16_t *y,
                              const uint8_t *modes, size_t n, int16_t *x, void *scratch)
{
    size_t chroma = rotation->chroma, near_luma = rotation->near_luma;
    size_t y_pitch = AREA + chroma, x_pitch = chroma == 0 ? AREA : 3 * AREA;
    size_t *site = take(&scratch, DENSE_POSITIONS * sizeof *site);
    Turn luma = {.start = {0, near_luma + rotation->near_chroma},
                 .count = {near_luma, AREA - near_luma},
                 .inputs = AREA,
                 .groups = AREA / LANES};
    for (unsigned mode = 0; mode < MODES; mode++) {
        luma.weight = rotation->luma + (size_t)mode * AREA * AREA;
        for (size_t at = 0; at < n;) {
            size_t found = 0;
            for (; at < n && found < DENSE_POSITIONS; at++)
                if (modes[at] == mode)
                    site[found++] = at;
            if (found != 0)
                rotate_sites(&luma, path, y, y_pitch, site, found, x, x_pitch, scratch);
        }
    }
    if (chroma == 0)
        return;
    Turn other = {.start = {near_luma, AREA + rotation->near_chroma},
                  .count = {rotation->near_chroma, chroma - rotation->near_chroma},
                  .inputs = ROUND_UP(chroma, 2),
                  .groups = 2 * AREA / LANES,
                  .weight = rotation->of_chroma};
    for (size_t first = 0; first < n; first += DENSE_POSITIONS) {
        size_t found = smaller(DENSE_POSITIONS, n - first);
        for (size_t t = 0; t < found; t++)
            site[t] = first + t;
        rotate_sites(&other, path, y, y_pitch, site, found, x + AREA, x_pitch, scratch);
    }
}

SYNTH_FUNCTION(rotate,
               (const SynthRotation *rotation, SynthPath path, const int16_t *y,
                const uint8_t *modes, size_t n, int16_t *x, void *scratch),
               (rotation, path, y, modes, n, x, scratch))

/* ---- the linear picture ---- */

/* Blocks whose rows are transformed at once; with 16 rows each, a multiple of POSITIONS. */
#define DCT_BLOCKS 6

size_t synth_linear_rows_scratch(size_t w)
{
    return SCRATCH(2 * DCT_BLOCKS * AREA * sizeof(int16_t) + DCT_BLOCKS * AREA * sizeof(int32_t) +
                   GROUPS * POSITIONS * LANES * sizeof(int32_t) +
                   (w * AREA + POSITIONS * BLOCK) * sizeof(int16_t) +
                   (w + POSITIONS) * LANES * sizeof(int32_t));
}

/* Two rows of LANES values each as the pairs of a block of weights. */
SYNTH_INLINE void interleave(const int16_t *a, const int16_t *b, int16_t *SYNTH_RESTRICT out)
{
    SYNTH_VECTOR
    for (int k = 0; k < LANES; k++) {
        out[2 * k] = a[k];
        out[2 * k + 1] = b[k];
    }
}

/* Samples of `blocks` blocks side by side, whose coefficients lie `pitch` apart: 16 rows from
 * `out` on, out_pitch apart. */
SYNTH_INLINE void inverse_dct(const SynthLinear *linear, Gemm *gemm, const int16_t *x, size_t pitch,
                              size_t blocks, int16_t *out, size_t out_pitch, void *scratch)
{
    int16_t *v = take(&scratch, DCT_BLOCKS * AREA * sizeof *v);
    int16_t *u = take(&scratch, DCT_BLOCKS * AREA * sizeof *u);
    int32_t *m = take(&scratch, DCT_BLOCKS * AREA * sizeof *m);
    int32_t *sums = take(&scratch, GROUPS * POSITIONS * LANES * sizeof *sums);
    for (size_t b = 0; b < blocks; b++)
        memcpy(v + b * AREA, x + b * pitch, AREA * sizeof *v);
    gemm(v, blocks * BLOCK, BLOCK, linear->dct_block, 0, 1, m, 0);
    for (size_t row = 0; row < blocks * BLOCK; row += 2) {
        int16_t p[2][LANES];
        SYNTH_VECTOR
        for (int k = 0; k < LANES; k++) {
            p[0][k] = to_int16(divide(m[row * LANES + (size_t)k], DCT_BITS));
            p[1][k] = to_int16(divide(m[(row + 1) * LANES + (size_t)k], DCT_BITS));
        }
        interleave(p[0], p[1], u + row * LANES);
    }
    for (size_t b = 0; b < blocks; b += GROUPS) {
        int groups = (int)smaller(GROUPS, blocks - b);
        gemm(linear->dct_rows, BLOCK, BLOCK, u + b * AREA, AREA, groups, sums, POSITIONS * LANES);
        for (int g = 0; g < groups; g++)
            for (size_t i = 0; i < BLOCK; i++) {
                const int32_t *total = sums + ((size_t)g * POSITIONS + i) * LANES;
                int16_t *row = out + i * out_pitch + (b + (size_t)g) * BLOCK;
                SYNTH_VECTOR
                for (int k = 0; k < LANES; k++)
                    row[k] = to_int16(divide(total[k], DCT_BITS));
            }
    }
}

SYNTH_INLINE void linear_rows_rows(const SynthLinear *linear, SynthPath path, const int16_t *x,
                                   size_t planes, size_t w, size_t count, int16_t *out,
                                   size_t pitch, void *scratch)
{
    Gemm *gemm = synth_gemm_of(path);
    size_t columns = BLOCK * w;
    /* A GEMM may look POSITIONS windows past the last row. */
    int16_t *rows = take(&scratch, (BLOCK * columns + POSITIONS * BLOCK) * sizeof *rows);
    int32_t *m = take(&scratch, ((w + POSITIONS) * LANES) * sizeof *m);
    for (size_t y = 0; y < count; y++)
        for (size_t c = 0; c < planes; c++) {
            const int16_t *blocks = x + (y * w * planes + c) * AREA;
            int16_t *to = out + c * pitch + y * BLOCK * columns;
            for (size_t b = 0; b < w; b += DCT_BLOCKS)
                inverse_dct(linear, gemm, blocks + b * planes * AREA, planes * AREA,
                            smaller(DCT_BLOCKS, w - b), rows + b * BLOCK, columns, scratch);
            for (size_t i = 0; i < BLOCK; i++, to += columns) {
                const int16_t *row = rows + i * columns;
                memcpy(to, row, BLOCK / 2 * sizeof *to);
                /* The windows around borders lie one after the other: as rows of a matrix. */
                gemm(row + BLOCK / 2, w - 1, BLOCK, linear->borders_block, 0, 1, m, 0);
                for (size_t k = 0; k < (w - 1) * BLOCK; k++)
                    to[BLOCK / 2 + k] = to_int16(divide(m[k], ROW_BITS));
                memcpy(to + columns - BLOCK / 2, row + columns - BLOCK / 2, BLOCK / 2 * sizeof *to);
            }
        }
}

SYNTH_FUNCTION(linear_rows,
               (const SynthLinear *linear, SynthPath path, const int16_t *x, size_t planes,
                size_t w, size_t count, int16_t *out, size_t pitch, void *scratch),
               (linear, path, x, planes, w, count, out, pitch, scratch))

size_t synth_linear_columns_scratch(void)
{
    return SCRATCH(GROUPS * BLOCK * LANES * sizeof(int16_t) +
                   GROUPS * POSITIONS * LANES * sizeof(int32_t));
}

SYNTH_INLINE void linear_columns_rows(const SynthLinear *linear, SynthPath path,
                                      const int16_t *rows, size_t pitch, const SynthPlanes *out,
                                      void *scratch)
{
    Gemm *gemm = synth_gemm_of(path);
    size_t columns = out->columns;
    int16_t *u = take(&scratch, GROUPS * BLOCK * LANES * sizeof *u);
    int32_t *m = take(&scratch, GROUPS * POSITIONS * LANES * sizeof *m);
    for (size_t c = 0; c < out->planes; c++)
        for (size_t x = 0; x < columns; x += GROUPS * LANES) {
            int groups = (int)smaller(GROUPS, (columns - x) / LANES);
            for (int g = 0; g < groups; g++)
                for (size_t k = 0; k < BLOCK; k += 2) {
                    const int16_t *row = rows + c * pitch + k * columns + x + (size_t)g * LANES;
                    interleave(row, row + columns, u + ((size_t)g * BLOCK + k) * LANES);
                }
            gemm(linear->borders_rows, BLOCK, BLOCK, u, BLOCK * LANES, groups, m,
                 POSITIONS * LANES);
            for (int g = 0; g < groups; g++)
                for (size_t i = 0; i < BLOCK; i++) {
                    const int32_t *total = m + ((size_t)g * POSITIONS + i) * LANES;
                    int32_t *to = out->at + c * out->pitch + i * columns + x + (size_t)g * LANES;
                    SYNTH_VECTOR
                    for (int k = 0; k < LANES; k++)
                        to[k] = divide(total[k], COLUMN_BITS);
                }
        }
}

SYNTH_FUNCTION(linear_columns,
               (const SynthLinear *linear, SynthPath path, const int16_t *rows, size_t pitch,
                const SynthPlanes *out, void *scratch),
               (linear, path, rows, pitch, out, scratch))

void synth_linear_edge(const int16_t *rows, size_t pitch, const SynthPlanes *out, size_t count)
{
    for (size_t c = 0; c < out->planes; c++)
        for (size_t k = 0; k < count * out->columns; k++)
            out->at[c * out->pitch + k] = rows[c * pitch + k] * (1 << COLUMN_BITS);
}

/* ---- 1x1 layers ---- */

size_t synth_dense_scratch(size_t inputs)
{
    return SCRATCH(DENSE_POSITIONS * inputs * sizeof(int16_t) +
                   GROUPS * DENSE_POSITIONS * LANES * sizeof(int32_t));
}

SYNTH_INLINE void enter16_rows(const SynthLayer *layer, SynthPath path, const int32_t *spread,
                               const int16_t *x, const uint8_t *modes, size_t w, size_t count,
                               int16_t *out, void *scratch)
{
    Gemm *gemm = synth_gemm_of(path);
    size_t inputs = layer->inputs, outputs = layer->groups * LANES;
    int16_t *v = take(&scratch, DENSE_POSITIONS * inputs * sizeof *v);
    int32_t *m = take(&scratch, GROUPS * DENSE_POSITIONS * LANES * sizeof *m);
    for (size_t first = 0; first < w * count; first += DENSE_POSITIONS) {
        size_t n = smaller(DENSE_POSITIONS, w * count - first);
        for (size_t t = 0; t < n; t++)
            for (size_t k = 0; k < inputs; k++) {
                /* rnd(x spread, 16) in two parts, of 32 bits each. */
                int32_t value = x[(first + t) * inputs + k];
                int32_t high = spread[k] >> SPREAD_BITS, low = spread[k] & ((1 << SPREAD_BITS) - 1);
                int32_t e = value * high + divide(value * low, SPREAD_BITS);
                v[t * inputs + k] = (int16_t)clamp(e, -LIMIT, LIMIT);
            }
        for (size_t group = 0; group < layer->groups; group += GROUPS) {
            size_t groups = smaller(GROUPS, layer->groups - group);
            gemm(v, n, inputs, layer->weight + group * inputs * LANES, inputs * LANES, (int)groups,
                 m, DENSE_POSITIONS * LANES);
            Place at = place_of(first, w);
            for (size_t t = 0; t < n; t++, advance(&at))
                for (size_t g = 0; g < groups; g++) {
                    size_t o = (group + g) * LANES;
                    const int32_t *total = m + (g * DENSE_POSITIONS + t) * LANES;
                    const int32_t *bias = layer->bias + modes[first + t] * outputs + o;
                    const int32_t *factor = layer->factor + o, *offset = layer->offset + o;
                    int16_t *to = out + in_map(at.y, at.x, w) * outputs + o;
                    SYNTH_VECTOR
                    for (int k = 0; k < LANES; k++)
                        to[k] = to_int16(requantise(total[k] + bias[k], factor[k]) + offset[k]);
                }
        }
    }
}

SYNTH_FUNCTION(enter16,
               (const SynthLayer *layer, SynthPath path, const int32_t *spread, const int16_t *x,
                const uint8_t *modes, size_t w, size_t count, int16_t *out, void *scratch),
               (layer, path, spread, x, modes, w, count, out, scratch))

size_t synth_enter8_scratch(size_t inputs)
{
    return SCRATCH(DENSE_POSITIONS * (inputs + (size_t)4 * 3 * 64) * sizeof(int16_t) +
                   2 * GROUPS * DENSE_POSITIONS * LANES * sizeof(int32_t));
}

/* Inputs [64 planes] of `inject` from the 8x8 samples of each plane at one position at 1/8. */
SYNTH_INLINE void unshuffle(const SynthPlanes *planes, size_t y, size_t x, int16_t *out)
{
    for (size_t c = 0; c < planes->planes; c++)
        for (size_t i = 0; i < 8; i++, out += 8) {
            const int32_t *row =
                planes->at + c * planes->pitch + (8 * y + i) * planes->columns + 8 * x;
            for (int j = 0; j < 8; j++)
                out[j] = (int16_t)clamp(divide(row[j], UNSHUFFLE_BITS), -LIMIT, LIMIT);
        }
}

SYNTH_INLINE void enter8_rows(const SynthLayer *up, const SynthLayer *inject, SynthPath path,
                              const int16_t *in, const SynthPlanes *planes, size_t w, size_t count,
                              int16_t *out, void *scratch)
{
    Gemm *gemm = synth_gemm_of(path);
    size_t inputs = up->inputs, samples = inject->inputs, outputs = inject->groups * LANES;
    int16_t *v = take(&scratch, DENSE_POSITIONS * inputs * sizeof *v);
    int16_t *s = take(&scratch, 4 * DENSE_POSITIONS * samples * sizeof *s);
    int32_t *m_up = take(&scratch, GROUPS * DENSE_POSITIONS * LANES * sizeof *m_up);
    int32_t *m_in = take(&scratch, GROUPS * DENSE_POSITIONS * LANES * sizeof *m_in);
    for (size_t first = 0; first < w * count; first += DENSE_POSITIONS) {
        size_t n = smaller(DENSE_POSITIONS, w * count - first);
        Place at = place_of(first, w);
        for (size_t t = 0; t < n; t++, advance(&at)) {
            for (size_t k = 0; k < inputs; k += LANES)
                shrink(in + in_map(at.y, at.x, w) * inputs + k, SHRINK_BITS, v + t * inputs + k);
            for (size_t part = 0; part < 4; part++)
                unshuffle(planes, 2 * at.y + part / 2, 2 * at.x + part % 2,
                          s + (part * DENSE_POSITIONS + t) * samples);
        }
        for (size_t group = 0; group < inject->groups; group += GROUPS)
            for (size_t part = 0; part < 4; part++) {
                size_t groups = smaller(GROUPS, inject->groups - group);
                size_t of_part = part * inject->groups + group;
                gemm(v, n, inputs, up->weight + of_part * inputs * LANES, inputs * LANES,
                     (int)groups, m_up, DENSE_POSITIONS * LANES);
                gemm(s + part * DENSE_POSITIONS * samples, n, samples,
                     inject->weight + group * samples * LANES, samples * LANES, (int)groups, m_in,
                     DENSE_POSITIONS * LANES);
                at = place_of(first, w);
                for (size_t t = 0; t < n; t++, advance(&at)) {
                    size_t to_place = in_map(2 * at.y + part / 2, 2 * at.x + part % 2, 2 * w);
                    for (size_t g = 0; g < groups; g++) {
                        const int32_t *a = m_up + (g * DENSE_POSITIONS + t) * LANES;
                        const int32_t *b = m_in + (g * DENSE_POSITIONS + t) * LANES;
                        const int32_t *a_factor = up->factor + (of_part + g) * LANES;
                        const int32_t *b_factor = inject->factor + (group + g) * LANES;
                        const int32_t *offset = up->offset + (of_part + g) * LANES;
                        int16_t *to = out + to_place * outputs + (group + g) * LANES;
                        SYNTH_VECTOR
                        for (int k = 0; k < LANES; k++)
                            to[k] = to_int16(requantise(a[k], a_factor[k]) +
                                             requantise(b[k], b_factor[k]) + offset[k]);
                    }
                }
            }
    }
}

SYNTH_FUNCTION(enter8,
               (const SynthLayer *up, const SynthLayer *inject, SynthPath path, const int16_t *in,
                const SynthPlanes *planes, size_t w, size_t count, int16_t *out, void *scratch),
               (up, inject, path, in, planes, w, count, out, scratch))

SYNTH_INLINE void leave8_rows(const SynthLayer *layer, SynthPath path, const int16_t *in, size_t w,
                              size_t count, const SynthPlanes *planes, void *scratch)
{
    Gemm *gemm = synth_gemm_of(path);
    size_t inputs = layer->inputs;
    int16_t *v = take(&scratch, DENSE_POSITIONS * inputs * sizeof *v);
    int32_t *m = take(&scratch, GROUPS * DENSE_POSITIONS * LANES * sizeof *m);
    for (size_t first = 0; first < w * count; first += DENSE_POSITIONS) {
        size_t n = smaller(DENSE_POSITIONS, w * count - first);
        Place at = place_of(first, w);
        for (size_t t = 0; t < n; t++, advance(&at))
            for (size_t k = 0; k < inputs; k += LANES)
                shrink(in + in_map(at.y, at.x, w) * inputs + k, SHRINK_BITS, v + t * inputs + k);
        for (size_t group = 0; group < layer->groups; group += GROUPS) {
            gemm(v, n, inputs, layer->weight + group * inputs * LANES, inputs * LANES, GROUPS, m,
                 DENSE_POSITIONS * LANES);
            at = place_of(first, w);
            for (size_t t = 0; t < n; t++, advance(&at))
                for (size_t g = 0; g < GROUPS; g++) {
                    /* A group is two rows of the 8x8 samples of a plane. */
                    size_t o = (group + g) * LANES, c = o / 64, i = o % 64 / 8;
                    const int32_t *total = m + (g * DENSE_POSITIONS + t) * LANES;
                    const int32_t *bias = layer->bias + o, *factor = layer->factor + o;
                    int32_t *row = planes->at + c * planes->pitch +
                                   (8 * at.y + i) * planes->columns + 8 * at.x;
                    int32_t sample[LANES];
                    memcpy(sample, row, 8 * sizeof *row);
                    memcpy(sample + 8, row + planes->columns, 8 * sizeof *row);
                    SYNTH_VECTOR
                    for (int k = 0; k < LANES; k++)
                        sample[k] =
                            clamp(add(sample[k], requantise(add(total[k], bias[k]), factor[k])),
                                  -PLANE_MAX, PLANE_MAX);
                    memcpy(row, sample, 8 * sizeof *row);
                    memcpy(row + planes->columns, sample + 8, 8 * sizeof *row);
                }
        }
    }
}

SYNTH_FUNCTION(leave8,
               (const SynthLayer *layer, SynthPath path, const int16_t *in, size_t w, size_t count,
                const SynthPlanes *planes, void *scratch),
               (layer, path, in, w, count, planes, scratch))

/* ---- 3x3 layers ---- */

/* What becomes of sums. */
typedef enum { RELU, ADD, LEAVE } Kind;

typedef struct {
    Kind kind;
    int32_t top;  /* RELU */
    int16_t *map; /* RELU and ADD */
    const SynthPlanes *planes;
} Output;

/* Takes LANES sums of one position, of outputs from o on. */
SYNTH_INLINE void finish(const SynthLayer *layer, const Output *to, const int32_t *sums, size_t o,
                         size_t w, size_t y, size_t x)
{
    const int32_t *bias = layer->bias + o, *factor = layer->factor + o, *offset = layer->offset + o;
    if (to->kind == LEAVE) {
        const SynthPlanes *planes = to->planes;
        int32_t result[LANES];
        SYNTH_VECTOR
        for (int k = 0; k < LANES; k++)
            result[k] = requantise(sums[k] + bias[k], factor[k]);
        for (size_t c = 0; c < planes->planes; c++)
            for (size_t i = 0; i < 2; i++) {
                int32_t *at =
                    planes->at + c * planes->pitch + (2 * y + i) * planes->columns + 2 * x;
                at[0] = add(at[0], result[4 * c + 2 * i]);
                at[1] = add(at[1], result[4 * c + 2 * i + 1]);
            }
        return;
    }
    int16_t *SYNTH_RESTRICT out = to->map + in_map(y, x, w) * layer->groups * LANES + o;
    if (to->kind == RELU) {
        SYNTH_VECTOR
        for (int k = 0; k < LANES; k++) {
            int32_t value = requantise(sums[k] + bias[k], factor[k]) + offset[k];
            out[k] = (int16_t)clamp(value, 0, to->top);
        }
    } else {
        SYNTH_VECTOR
        for (int k = 0; k < LANES; k++)
            out[k] = to_int16(out[k] + requantise(sums[k] + bias[k], factor[k]));
    }
}

SYNTH_INLINE void convolve(const SynthLayer *layer, SynthPath path, const int16_t *in, int shift,
                           size_t w, size_t count, Output to, void *scratch)
{
    Conv conv =
        conv_of(layer->weight, layer->inputs, layer->groups, path, in, shift, w, count, scratch);
    while (conv_next(&conv)) {
        Place at = place_of(conv.first, conv.columns);
        for (size_t t = 0; t < conv.tiles; t++, advance(&at))
            for (size_t g = 0; g < conv.groups; g++) {
                int32_t sums[4][LANES];
                conv_sums(&conv, t, g, sums);
                for (size_t k = 0; k < 4; k++)
                    finish(layer, &to, sums[k], (conv.group + g) * LANES, w, 2 * at.y + k / 2,
                           2 * at.x + k % 2);
            }
    }
}

SYNTH_INLINE void conv_relu_rows(const SynthLayer *layer, SynthPath path, const int16_t *in,
                                 int shift, int32_t top, size_t w, size_t count, int16_t *out,
                                 void *scratch)
{
    Output to = {.kind = RELU, .top = top, .map = out};
    convolve(layer, path, in, shift, w, count, to, scratch);
}

SYNTH_FUNCTION(conv_relu,
               (const SynthLayer *layer, SynthPath path, const int16_t *in, int shift, int32_t top,
                size_t w, size_t count, int16_t *out, void *scratch),
               (layer, path, in, shift, top, w, count, out, scratch))

SYNTH_INLINE void conv_add_rows(const SynthLayer *layer, SynthPath path, const int16_t *in,
                                int shift, size_t w, size_t count, int16_t *stream, void *scratch)
{
    Output to = {.kind = ADD, .map = stream};
    convolve(layer, path, in, shift, w, count, to, scratch);
}

SYNTH_FUNCTION(conv_add,
               (const SynthLayer *layer, SynthPath path, const int16_t *in, int shift, size_t w,
                size_t count, int16_t *stream, void *scratch),
               (layer, path, in, shift, w, count, stream, scratch))

SYNTH_INLINE void conv_leave_rows(const SynthLayer *layer, SynthPath path, const int16_t *in,
                                  int shift, size_t w, size_t count, const SynthPlanes *planes,
                                  void *scratch)
{
    Output to = {.kind = LEAVE, .planes = planes};
    convolve(layer, path, in, shift, w, count, to, scratch);
}

SYNTH_FUNCTION(conv_leave,
               (const SynthLayer *layer, SynthPath path, const int16_t *in, int shift, size_t w,
                size_t count, const SynthPlanes *planes, void *scratch),
               (layer, path, in, shift, w, count, planes, scratch))

/* ---- into the post-filter, and to samples ---- */

size_t synth_quads_scratch(size_t w)
{
    return SCRATCH(2 * (w + 2) * sizeof(int32_t));
}

/* The mean of `sum` over n squares of four samples each. */
SYNTH_INLINE int32_t mean_of(int32_t sum, int n)
{
    int64_t reciprocal = ((1 << MEAN_BITS) + 2 * n) / (4 * n);
    return (int32_t)((reciprocal * sum + (1 << (MEAN_BITS - 1))) >> MEAN_BITS);
}

SYNTH_INLINE void quads_rows(SynthPath path, const SynthPlanes *planes, int above, int below,
                             size_t w, size_t count, int16_t *out, size_t stride, void *scratch)
{
    size_t columns = planes->columns;
    int32_t *sums =
        take(&scratch, (w + 2) * sizeof *sums); /* of the squares above each other, zeros around */
    int32_t *means = take(&scratch, w * sizeof *means);
    (void)path;
    sums[0] = sums[w + 1] = 0;
    for (size_t y = 0; y < count; y++)
        for (size_t c = 0; c < planes->planes; c++) {
            int up = y > 0 || above, down = y + 1 < count || below, rows = 1 + up + down;
            const int32_t *at = planes->at + c * planes->pitch + 2 * y * columns;
            memset(sums + 1, 0, w * sizeof *sums);
            for (int k = -up; k <= down; k++) {
                const int32_t *a = at + (ptrdiff_t)columns * 2 * k, *b = a + columns;
                for (size_t x = 0; x < w; x++)
                    sums[x + 1] = add(
                        sums[x + 1], add(add(a[2 * x], a[2 * x + 1]), add(b[2 * x], b[2 * x + 1])));
            }
            for (size_t x = 0; x < w; x++)
                means[x] = mean_of(add(add(sums[x], sums[x + 1]), sums[x + 2]), 3 * rows);
            /* At the sides there are fewer squares. */
            int squares = w == 1 ? 1 : 2;
            means[0] = mean_of(add(sums[1], sums[2]), squares * rows);
            means[w - 1] = mean_of(add(sums[w - 1], sums[w]), squares * rows);
            int16_t *to = out + ((y + 1) * (w + 2) + 1) * stride + 4 * c;
            for (size_t x = 0; x < w; x++, to += stride)
                for (size_t k = 0; k < 4; k++) {
                    int32_t sample = at[k / 2 * columns + 2 * x + k % 2];
                    to[k] = (int16_t)clamp(divide(subtract(sample, means[x]), QUAD_BITS), -LIMIT,
                                           LIMIT);
                }
        }
}

SYNTH_FUNCTION(quads,
               (SynthPath path, const SynthPlanes *planes, int above, int below, size_t w,
                size_t count, int16_t *out, size_t stride, void *scratch),
               (path, planes, above, below, w, count, out, stride, scratch))

/* Samples that are computed before they are stored. */
#define RUN 64

/* Sample k of `n` positions, from those of all planes, `pitch` apart. */
SYNTH_INLINE void mix(const SynthSamples *samples, const int32_t *at, size_t pitch, size_t planes,
                      size_t k, size_t n, int32_t *SYNTH_RESTRICT out)
{
    const int64_t one = (int64_t)1 << SAMPLE_BITS;
    for (size_t x = 0; x < n; x++) {
        int64_t z = one / 2;
        for (size_t c = 0; c < planes; c++)
            z += (int64_t)samples->matrix[k][c] * at[c * pitch + x];
        z = z < 0 ? 0 : z;
        z = z > one ? one : z;
        uint64_t level =
            ((uint64_t)z * (uint32_t)samples->levels + (uint64_t)one / 2) >> SAMPLE_BITS;
        out[x] = samples->low + (int32_t)level;
    }
}

SYNTH_INLINE void samples_rows(const SynthSamples *samples, SynthPath path,
                               const SynthPlanes *planes, size_t width, size_t count, void *out)
{
    size_t step = planes->planes;
    (void)path;
    for (size_t y = 0; y < count; y++)
        for (size_t first = 0; first < width; first += RUN)
            for (size_t k = 0; k < step; k++) {
                size_t n = smaller(RUN, width - first), to = (y * width + first) * step + k;
                const int32_t *at = planes->at + y * planes->columns + first;
                int32_t value[RUN];
                if (step == 1)
                    mix(samples, at, planes->pitch, 1, k, n, value);
                else
                    mix(samples, at, planes->pitch, 3, k, n, value);
                for (size_t x = 0; x < n; x++)
                    if (samples->bytes == 1)
                        ((uint8_t *)out)[to + x * step] = (uint8_t)value[x];
                    else if (samples->bytes == 2)
                        ((uint16_t *)out)[to + x * step] = (uint16_t)value[x];
                    else
                        ((int32_t *)out)[to + x * step] = value[x];
            }
}

SYNTH_FUNCTION(samples,
               (const SynthSamples *samples, SynthPath path, const SynthPlanes *planes,
                size_t width, size_t count, void *out),
               (samples, path, planes, width, count, out))
