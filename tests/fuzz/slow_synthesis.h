/*
 * slow_synthesis.h: synthesis as formats/model.md, section 9, has it, for fuzz_synthesis.c alone.
 *
 * One number after the other, in 64 bits, without blocks, frequencies or a right shift. The shapes
 * are those of synthesis.h, the names those of formats/model.md.
 */
#ifndef MVMIC_SLOW_SYNTHESIS_H
#define MVMIC_SLOW_SYNTHESIS_H

#include <stddef.h>
#include <stdint.h>

/* A layer with zeros for the channels that fill up a map's stride. */
typedef struct {
    size_t inputs, outputs, taps; /* 9 taps of 3x3, or 1 */
    int16_t *weight;              /* [outputs][inputs][taps] */
    int32_t *bias, *factor, *offset;
} SlowLayer;

static int64_t slow_clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

static int16_t slow_int16(int64_t x)
{
    return (int16_t)slow_clamp(x, -32768, 32767);
}

static int16_t slow_limit(int64_t x)
{
    return (int16_t)slow_clamp(x, -8191, 8191);
}

/* floor(x / 2^bits + 1/2) */
static int64_t slow_rnd(int64_t x, int bits)
{
    int64_t whole = (int64_t)1 << bits;
    x += whole / 2;
    return x / whole - (x % whole < 0);
}

/* All of it where bits is 0. */
static int32_t slow_narrow(int64_t x, int bits)
{
    int64_t most = (1 << (15 - bits)) - 1;
    x = bits == 0 ? x : slow_rnd(x, bits);
    return (int32_t)(x > most ? most : x);
}

static int64_t slow_rq(int64_t x, int32_t factor)
{
    return slow_rnd(x * factor, 32);
}

/* A map's position (y, x). */
static size_t slow_place(size_t y, size_t x, size_t w, size_t stride)
{
    return ((y + 1) * (w + 2) + x + 1) * stride;
}

static int16_t slow_turned(const int16_t *matrix, size_t outputs, const int16_t *x, size_t n,
                           size_t o)
{
    int64_t sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += (int64_t)matrix[k * outputs + o] * x[k];
    return slow_int16(slow_rnd(sum, 14));
}

/* luma [8][256][256], matrix [chroma][512] */
static void slow_rotate(const int16_t *luma, const int16_t *matrix, size_t near_luma,
                        size_t near_chroma, size_t chroma, const int16_t *y, const uint8_t *modes,
                        size_t n, int16_t *x)
{
    int16_t of_luma[256], of_chroma[512];
    for (size_t site = 0; site < n; site++) {
        for (size_t k = 0; k < near_luma; k++)
            of_luma[k] = *y++;
        for (size_t k = 0; k < near_chroma; k++)
            of_chroma[k] = *y++;
        for (size_t k = near_luma; k < 256; k++)
            of_luma[k] = *y++;
        for (size_t k = near_chroma; k < chroma; k++)
            of_chroma[k] = *y++;
        for (size_t o = 0; o < 256; o++)
            *x++ = slow_turned(luma + modes[site] * 65536u, 256, of_luma, 256, o);
        for (size_t o = 0; o < 512 && chroma != 0; o++)
            *x++ = slow_turned(matrix, 512, of_chroma, chroma, o);
    }
}

/* One block: R [16][16] of X [16][16]. A by rows u. */
static void slow_dct(const int16_t *a, const int16_t *x, int16_t *r)
{
    int64_t p[16][16];
    for (size_t v = 0; v < 16; v++)
        for (size_t j = 0; j < 16; j++) {
            int64_t sum = 0;
            for (size_t u = 0; u < 16; u++)
                sum += (int64_t)a[16 * u + j] * x[16 * v + u];
            p[v][j] = slow_int16(slow_rnd(sum, 13));
        }
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 16; j++) {
            int64_t sum = 0;
            for (size_t v = 0; v < 16; v++)
                sum += a[16 * v + i] * p[v][j];
            r[16 * i + j] = slow_int16(slow_rnd(sum, 13));
        }
}

/* Sample i of the 16 around a border, which lie `pitch` apart. */
static int64_t slow_border(const int16_t *b, const int16_t *r, size_t pitch, size_t i)
{
    int64_t sum = 0;
    for (size_t k = 0; k < 16; k++)
        sum += (int64_t)b[16 * i + k] * r[k * pitch];
    return sum;
}

/* `plain`, the planes [planes][16 h][16 w] before the filter. */
static void slow_linear_rows(const int16_t *a, const int16_t *b, const int16_t *x, size_t planes,
                             size_t h, size_t w, int16_t *plain, int16_t *out)
{
    size_t columns = 16 * w;
    for (size_t site = 0; site < h * w; site++)
        for (size_t c = 0; c < planes; c++) {
            int16_t r[256];
            slow_dct(a, x + (site * planes + c) * 256, r);
            for (size_t k = 0; k < 256; k++)
                plain[(c * 16 * h + site / w * 16 + k / 16) * columns + site % w * 16 + k % 16] =
                    r[k];
        }
    for (size_t row = 0; row < planes * 16 * h; row++)
        for (size_t at = 0; at < columns; at++) {
            const int16_t *r = plain + row * columns;
            size_t border = (at + 8) / 16, i = (at + 8) % 16;
            out[row * columns + at] =
                border == 0 || border == w
                    ? r[at]
                    : slow_int16(slow_rnd(slow_border(b, r + 16 * border - 8, 1, i), 14));
        }
}

/* The same of columns: S from [planes][16 h][columns]. */
static void slow_linear_columns(const int16_t *b, const int16_t *rows, size_t planes, size_t h,
                                size_t columns, int32_t *out)
{
    for (size_t c = 0; c < planes; c++, rows += 16 * h * columns)
        for (size_t y = 0; y < 16 * h; y++)
            for (size_t x = 0; x < columns; x++) {
                size_t border = (y + 8) / 16, i = (y + 8) % 16;
                *out++ =
                    border == 0 || border == h
                        ? rows[y * columns + x] * 128
                        : (int32_t)slow_rnd(
                              slow_border(b, rows + (16 * border - 8) * columns + x, columns, i),
                              7);
            }
}

/* rq of the sum of output o over x [inputs][taps] and its bias. */
static int64_t slow_scaled(const SlowLayer *layer, const int32_t *x, size_t o, int64_t bias)
{
    int64_t sum = bias;
    size_t n = layer->inputs * layer->taps;
    for (size_t k = 0; k < n; k++)
        sum += (int64_t)layer->weight[o * n + k] * x[k];
    return slow_rq(sum, layer->factor[o]);
}

static void slow_enter16(const SlowLayer *layer, const int32_t *spread, const int16_t *x,
                         const uint8_t *modes, size_t h, size_t w, int16_t *map)
{
    int32_t e[768];
    for (size_t site = 0; site < h * w; site++, x += layer->inputs) {
        for (size_t k = 0; k < layer->inputs; k++)
            e[k] = slow_limit(slow_rnd((int64_t)x[k] * spread[k], 16));
        for (size_t o = 0; o < layer->outputs; o++)
            map[slow_place(site / w, site % w, w, layer->outputs) + o] =
                slow_int16(slow_scaled(layer, e, o, layer->bias[modes[site] * layer->outputs + o]) +
                           layer->offset[o]);
    }
}

/* scaled(L, narrow(x, bits)) of a map: [h][w][outputs]. */
static void slow_conv(const SlowLayer *layer, const int16_t *map, int bits, size_t h, size_t w,
                      int32_t *out)
{
    int32_t x[224 * 9];
    for (size_t site = 0; site < h * w; site++) {
        for (size_t c = 0; c < layer->inputs; c++)
            for (size_t k = 0; k < 9; k++)
                x[9 * c + k] = slow_narrow(
                    map[((site / w + k / 3) * (w + 2) + site % w + k % 3) * layer->inputs + c],
                    bits);
        for (size_t o = 0; o < layer->outputs; o++)
            *out++ = (int32_t)slow_scaled(layer, x, o, layer->bias[o]);
    }
}

/* `up` has four times the outputs of `inject`, by 2 i + j; planes [planes][16 h][16 w]. */
static void slow_enter8(const SlowLayer *up, const SlowLayer *inject, const int16_t *map,
                        const int32_t *planes, size_t h, size_t w, int16_t *out)
{
    int32_t a[224], p[192];
    for (size_t y = 0; y < 2 * h; y++)
        for (size_t x = 0; x < 2 * w; x++) {
            for (size_t k = 0; k < up->inputs; k++)
                a[k] = slow_narrow(map[slow_place(y / 2, x / 2, w, up->inputs) + k], 2);
            for (size_t k = 0; k < inject->inputs; k++)
                p[k] = slow_limit(slow_rnd(
                    planes[(k / 64 * 16 * h + 8 * y + k % 64 / 8) * 16 * w + 8 * x + k % 8], 9));
            for (size_t o = 0; o < inject->outputs; o++) {
                size_t of_up = (y % 2 * 2 + x % 2) * inject->outputs + o;
                out[slow_place(y, x, 2 * w, inject->outputs) + o] =
                    slow_int16(slow_scaled(up, a, of_up, 0) + up->offset[of_up] +
                               slow_scaled(inject, p, o, 0));
            }
        }
}

/* Planes [planes][8 h][8 w]. */
static void slow_leave8(const SlowLayer *layer, const int16_t *map, size_t h, size_t w,
                        int32_t *planes)
{
    int32_t b[224];
    for (size_t site = 0; site < h * w; site++) {
        for (size_t k = 0; k < layer->inputs; k++)
            b[k] = slow_narrow(map[slow_place(site / w, site % w, w, layer->inputs) + k], 2);
        for (size_t o = 0; o < layer->outputs; o++) {
            int32_t *at = planes + (o / 64 * 8 * h + site / w * 8 + o % 64 / 8) * 8 * w +
                          site % w * 8 + o % 8;
            *at = (int32_t)slow_clamp(*at + slow_scaled(layer, b, o, layer->bias[o]), -(1 << 23),
                                      1 << 23);
        }
    }
}

/* Four samples of a plane, or their sum. */
static int32_t slow_quad(const int32_t *plane, size_t y, size_t x, size_t w, size_t k)
{
    return plane[(2 * y + k / 2) * 2 * w + 2 * x + k % 2];
}

/* d of planes [planes][2 h][2 w] to the first channels of a map. */
static void slow_quads(const int32_t *planes, size_t count, size_t h, size_t w, int16_t *map,
                       size_t stride)
{
    for (size_t c = 0; c < count; c++, planes += 2 * h * 2 * w)
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++) {
                int64_t total = 0, n = 0;
                for (size_t b = y == 0 ? 0 : y - 1; b <= y + 1 && b < h; b++)
                    for (size_t a = x == 0 ? 0 : x - 1; a <= x + 1 && a < w; a++, n++)
                        for (size_t k = 0; k < 4; k++)
                            total += slow_quad(planes, b, a, w, k);
                int64_t around = slow_rnd(total * (((1 << 26) + 2 * n) / (4 * n)), 26);
                for (size_t k = 0; k < 4; k++)
                    map[slow_place(y, x, w, stride) + 4 * c + k] =
                        slow_limit(slow_rnd(slow_quad(planes, y, x, w, k) - around, 8));
            }
}

/* One sample from the planes' values at its place, `pitch` apart. */
static int64_t slow_sample(const int32_t *matrix, const int32_t *at, size_t pitch, size_t planes,
                           int32_t low, int32_t levels)
{
    int64_t z = (int64_t)1 << 41;
    for (size_t c = 0; c < planes; c++)
        z += (int64_t)matrix[c] * at[c * pitch];
    return low + slow_rnd(slow_clamp(z, 0, (int64_t)1 << 42) * levels, 42);
}

#endif
