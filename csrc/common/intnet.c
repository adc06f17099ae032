#include "intnet.h"

#include <string.h>

#include "winograd.h"
#include "winograd_internal.h"

/* A tile is the sums of so many positions of a row, for so many groups of outputs. The kernels
 * below depend on these figures: TILE_CASES lists them, tile_avx2 takes positions three by three.
 */
#define TILE_POSITIONS 6
#define TILE_GROUPS 4

/* Positions that intnet_merge takes at once: as many values as a line of a cache has. */
#define MERGE_POSITIONS 16

/* These figures are part of every model: formats/model.md, and mvmic_codec/model/definition.py
 * in Python. A test runs both on extreme inputs. */
#define FRACTION_BITS 4
#define SPACING 12 /* of the levels of y, in sixteenths of a step */
#define TABLE_LAST 63
#define STEP_BITS 12
#define GAIN_BITS 20
#define LINEAR_BITS 12
#define WEIGHT_BITS 12
#define LATENT_BITS 3
#define CLASS_WIDTH 8 /* companded magnitudes of one class */
#define V_MAX ((int64_t)1 << 23)
#define MEAN_MAX ((int64_t)1 << 18)
#define DEEP_MEAN_MAX 127

int intnet_path_usable(IntnetPath path)
{
    switch (path) {
    case INTNET_PORTABLE: return 1;
#ifdef SYNTH_X86
    case INTNET_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case INTNET_VNNI:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
#endif
    default: return 0;
    }
}

/* Where the inputs of one tile lie: at[0] of the first tap of the first position. Channels are
 * taken four at a time. Fours that are zero all over the tile are left out: most of what a group
 * has decoded is zero. */
typedef struct {
    const uint8_t *at;
    size_t row;    /* bytes from one row of the map to the next */
    size_t stride; /* bytes from one position to the next */
    uint32_t size;
    uint32_t count;              /* of fours to take */
    uint16_t four[INTNET_FOURS]; /* their numbers, in rising order */
} Window;

/* Finds the fours that a tile of `positions` has to take. */
static void find_fours(Window *in, size_t positions)
{
    uint32_t any[INTNET_FOURS];
    uint32_t fours = (uint32_t)(in->stride / 4);
    memset(any, 0, fours * sizeof *any);
    for (uint32_t y = 0; y < in->size; y++)
        for (size_t x = 0; x < positions + in->size - 1; x++) {
            const uint8_t *bytes = in->at + y * in->row + x * in->stride;
            for (uint32_t k = 0; k < fours; k++) {
                uint32_t bits;
                memcpy(&bits, bytes + 4 * (size_t)k, 4);
                any[k] |= bits;
            }
        }
    in->count = 0;
    for (uint32_t k = 0; k < fours; k++) {
        in->four[in->count] = (uint16_t)k;
        in->count += any[k] != 0;
    }
}

/* The raw sums of `positions` times `groups` groups of outputs, weights of the groups
 * `group_pitch` bytes apart: sums[position][group][INTNET_LANES]. */
SYNTH_INLINE void tile_portable(const Window *in, const int8_t *weight, size_t group_pitch,
                                int positions, int groups, int32_t *sums)
{
    for (int p = 0; p < positions; p++)
        for (int g = 0; g < groups; g++) {
            int32_t total[INTNET_LANES] = {0};
            const int8_t *of_tap = weight + (size_t)g * group_pitch;
            for (uint32_t tap = 0; tap < in->size * in->size; tap++) {
                const uint8_t *x =
                    in->at + (tap / in->size) * in->row + (tap % in->size + (size_t)p) * in->stride;
                for (uint32_t k = 0; k < in->count; k++) {
                    const int8_t *w = of_tap + (size_t)in->four[k] * 4 * INTNET_LANES;
                    const uint8_t *v = x + (size_t)in->four[k] * 4;
                    for (int o = 0; o < INTNET_LANES; o++)
                        total[o] += v[0] * w[4 * o] + v[1] * w[4 * o + 1] + v[2] * w[4 * o + 2] +
                                    v[3] * w[4 * o + 3];
                }
                of_tap += in->stride * INTNET_LANES;
            }
            memcpy(sums + (p * groups + g) * INTNET_LANES, total, sizeof total);
        }
}

#ifdef SYNTH_X86

/* Four bytes of input meet four weights of each of eight outputs, as 16-bit integers: products
 * fit, and pairs of them are added in 32 bits. */
__attribute__((target("avx2"))) SYNTH_INLINE void tile_avx2(const Window *in, const int8_t *weight,
                                                            size_t group_pitch, int positions,
                                                            int groups, int32_t *sums)
{
    for (int g = 0; g < groups; g++)
        for (int first = 0; first < positions; first += 3) {
            __m256i total[3][4];
            const int8_t *of_tap = weight + (size_t)g * group_pitch;
            int n = positions < 3 ? positions : 3;
            SYNTH_UNROLL
            for (int p = 0; p < n; p++)
                for (int k = 0; k < 4; k++)
                    total[p][k] = _mm256_setzero_si256();
            for (uint32_t tap = 0; tap < in->size * in->size; tap++) {
                const uint8_t *x = in->at + (tap / in->size) * in->row +
                                   (tap % in->size + (size_t)first) * in->stride;
                for (uint32_t i = 0; i < in->count; i++) {
                    size_t c = (size_t)in->four[i] * 4;
                    const int8_t *w = of_tap + c * INTNET_LANES;
                    __m256i v[4];
                    SYNTH_UNROLL
                    for (int k = 0; k < 4; k++)
                        v[k] = _mm256_cvtepi8_epi16(
                            _mm_loadu_si128((const __m128i *)(const void *)(w + 16 * k)));
                    SYNTH_UNROLL
                    for (int p = 0; p < n; p++) {
                        int32_t four;
                        memcpy(&four, x + (size_t)p * in->stride + c, 4);
                        __m256i u =
                            _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
                        SYNTH_UNROLL
                        for (int k = 0; k < 4; k++)
                            total[p][k] = _mm256_add_epi32(total[p][k], _mm256_madd_epi16(u, v[k]));
                    }
                }
                of_tap += in->stride * INTNET_LANES;
            }
            SYNTH_UNROLL
            for (int p = 0; p < n; p++) {
                int32_t *out = sums + ((first + p) * groups + g) * INTNET_LANES;
                SYNTH_UNROLL
                for (int k = 0; k < 2; k++) {
                    __m256i pairs = _mm256_hadd_epi32(total[p][2 * k], total[p][2 * k + 1]);
                    _mm256_storeu_si256((__m256i *)(void *)(out + 8 * k),
                                        _mm256_permute4x64_epi64(pairs, 0xD8));
                }
            }
        }
}

/* One instruction for what tile_avx2 does in many: unsigned times signed bytes, four products
 * added to a 32-bit sum, without saturation. */
__attribute__((target("avx512f,avx512vnni"))) SYNTH_INLINE void
tile_vnni(const Window *in, const int8_t *weight, size_t group_pitch, int positions, int groups,
          int32_t *sums)
{
    __m512i total[TILE_POSITIONS][TILE_GROUPS];
    SYNTH_UNROLL
    for (int p = 0; p < positions; p++) {
        SYNTH_UNROLL
        for (int g = 0; g < groups; g++)
            total[p][g] = _mm512_setzero_si512();
    }
    for (uint32_t tap = 0; tap < in->size * in->size; tap++) {
        const uint8_t *x = in->at + (tap / in->size) * in->row + (tap % in->size) * in->stride;
        for (uint32_t i = 0; i < in->count; i++) {
            size_t c = (size_t)in->four[i] * 4;
            const int8_t *w = weight + c * INTNET_LANES;
            __m512i v[TILE_GROUPS];
            SYNTH_UNROLL
            for (int g = 0; g < groups; g++)
                v[g] = _mm512_loadu_si512(w + (size_t)g * group_pitch);
            SYNTH_UNROLL
            for (int p = 0; p < positions; p++) {
                int32_t four;
                memcpy(&four, x + (size_t)p * in->stride + c, 4);
                __m512i u = _mm512_set1_epi32(four);
                SYNTH_UNROLL
                for (int g = 0; g < groups; g++)
                    total[p][g] = _mm512_dpbusd_epi32(total[p][g], u, v[g]);
            }
        }
        weight += in->stride * INTNET_LANES;
    }
    SYNTH_UNROLL
    for (int p = 0; p < positions; p++) {
        SYNTH_UNROLL
        for (int g = 0; g < groups; g++)
            _mm512_storeu_si512(sums + (p * groups + g) * INTNET_LANES, total[p][g]);
    }
}

#endif

/* Instances whose loops have constant counts; few positions are taken one by one. */
#define TILE_CASES(kernel)                                                                         \
    switch (groups) {                                                                              \
    case 1: one ? kernel(in, w, pitch, 1, 1, sums) : kernel(in, w, pitch, 6, 1, sums); break;      \
    case 2: one ? kernel(in, w, pitch, 1, 2, sums) : kernel(in, w, pitch, 6, 2, sums); break;      \
    case 3: one ? kernel(in, w, pitch, 1, 3, sums) : kernel(in, w, pitch, 6, 3, sums); break;      \
    default: one ? kernel(in, w, pitch, 1, 4, sums) : kernel(in, w, pitch, 6, 4, sums); break;     \
    }

typedef void Tile(const Window *in, const int8_t *w, size_t pitch, int one, int groups,
                  int32_t *sums);

static void cases_portable(const Window *in, const int8_t *w, size_t pitch, int one, int groups,
                           int32_t *sums)
{
    TILE_CASES(tile_portable)
}

#ifdef SYNTH_X86
__attribute__((target("avx2"))) static void
cases_avx2(const Window *in, const int8_t *w, size_t pitch, int one, int groups, int32_t *sums)
{
    TILE_CASES(tile_avx2)
}

__attribute__((target("avx512f,avx512vnni"))) static void
cases_vnni(const Window *in, const int8_t *w, size_t pitch, int one, int groups, int32_t *sums)
{
    TILE_CASES(tile_vnni)
}
#endif

static Tile *tile_of(IntnetPath path)
{
#ifdef SYNTH_X86
    if (path == INTNET_VNNI)
        return cases_vnni;
    if (path == INTNET_AVX2)
        return cases_avx2;
#endif
    (void)path;
    return cases_portable;
}

/* Right shifts of negative integers round down in every compiler that we know; the tests look. */
SYNTH_INLINE int64_t divide64(int64_t x, int bits)
{
    return (x + ((int64_t)1 << (bits - 1))) >> bits;
}

SYNTH_INLINE int64_t clamp64(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Takes a tile's sums: `y`, `x0` say where it starts, `count` how many positions it has, `group`,
 * `groups` which outputs. */
typedef void Finish(const IntnetLayer *layer, const int32_t *sums, size_t y, size_t x0, int count,
                    uint32_t group, int groups, size_t w, void *out, size_t out_stride);

/* All tiles of the grid; the last one of a row may overlap the one before it. */
SYNTH_INLINE void run_tiles(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                            size_t w, Finish *finish, void *out, size_t out_stride)
{
    Tile *tile = tile_of(path);
    int32_t sums[TILE_POSITIONS * TILE_GROUPS * INTNET_LANES];
    size_t pitch = (size_t)layer->size * layer->size * layer->stride * INTNET_LANES;
    Window in = {.row = (w + 2) * layer->stride, .stride = layer->stride, .size = layer->size};
    size_t skip = layer->size == 1 ? in.row + in.stride : 0; /* 1x1 looks at the middle */
    int count = w < TILE_POSITIONS ? 1 : TILE_POSITIONS;
    for (uint32_t group = 0; group < layer->groups; group += TILE_GROUPS) {
        int groups =
            layer->groups - group < TILE_GROUPS ? (int)(layer->groups - group) : TILE_GROUPS;
        const int8_t *weight = layer->weight + group * pitch;
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x += (size_t)count) {
                size_t x0 = x + (size_t)count > w ? w - (size_t)count : x;
                in.at = map + skip + y * in.row + x0 * in.stride;
                find_fours(&in, (size_t)count);
                tile(&in, weight, pitch, count == 1, groups, sums);
                finish(layer, sums, y, x0, count, group, groups, w, out, out_stride);
            }
    }
}

#if INTNET_LANES != LANES
#error "groups of outputs are those of winograd.h"
#endif

/* Winograd's algorithm knows no zeros, and still is faster, but for VNNI. It takes rows and columns
 * in pairs. */
static int by_winograd(const IntnetLayer *layer, size_t h, size_t w)
{
    return layer->winograd != NULL && h % 2 == 0 && w % 2 == 0;
}

size_t intnet_layer_scratch(const IntnetLayer *layer, size_t h, size_t w)
{
    size_t stride = ROUND_UP(layer->stride, LANES);
    if (!by_winograd(layer, h, w))
        return 1;
    return SCRATCH((h + 2) * (w + 2) * stride * sizeof(int16_t)) + synth_conv_scratch(stride);
}

/* The product of 16-bit matrices that goes with a path. */
SYNTH_INLINE SynthPath products_of(IntnetPath path)
{
#ifdef SYNTH_ARM
    (void)path;
    return SYNTH_NEON;
#else
    return path == INTNET_PORTABLE ? SYNTH_PORTABLE : SYNTH_AVX2;
#endif
}

SYNTH_INLINE void run_winograd(const IntnetLayer *layer, IntnetPath path, const uint8_t *map,
                               size_t h, size_t w, Finish *finish, void *out, size_t out_stride,
                               void *scratch)
{
    size_t narrow = layer->stride, stride = ROUND_UP(narrow, LANES), all = (h + 2) * (w + 2);
    int16_t *wide = take(&scratch, all * stride * sizeof *wide), *to = wide;
    for (size_t place = 0; place < all; place++, map += narrow, to += stride) {
        for (size_t c = 0; c < narrow; c++)
            to[c] = map[c];
        memset(to + narrow, 0, (stride - narrow) * sizeof *to);
    }
    Conv conv =
        conv_of(layer->winograd, stride, layer->groups, products_of(path), wide, 0, w, h, scratch);
    while (conv_next(&conv)) {
        Place at = place_of(conv.first, conv.columns);
        for (size_t t = 0; t < conv.tiles; t++, advance(&at))
            for (size_t g = 0; g < conv.groups; g++) {
                int32_t sums[4][LANES];
                conv_sums(&conv, t, g, sums);
                for (size_t k = 0; k < 4; k++)
                    finish(layer, sums[k], 2 * at.y + k / 2, 2 * at.x + k % 2, 1,
                           (uint32_t)(conv.group + g), 1, w, out, out_stride);
            }
    }
}

SYNTH_INLINE void run_layer(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                            size_t w, Finish *finish, void *out, size_t out_stride, void *scratch)
{
    if (by_winograd(layer, h, w))
        run_winograd(layer, path, map, h, w, finish, out, out_stride, scratch);
    else
        run_tiles(layer, path, map, h, w, finish, out, out_stride);
}

SYNTH_INLINE int32_t result(const IntnetLayer *layer, uint32_t output, int32_t sum)
{
    return (sum + layer->bias[output]) >> layer->shift[output];
}

static void finish_map(const IntnetLayer *layer, const int32_t *sums, size_t y, size_t x0,
                       int count, uint32_t group, int groups, size_t w, void *out,
                       size_t out_stride)
{
    uint32_t first = group * INTNET_LANES;
    uint32_t most = (uint32_t)groups * INTNET_LANES;
    uint32_t n = layer->outputs - first < most ? layer->outputs - first : most;
    for (int p = 0; p < count; p++, sums += most) {
        uint8_t *bytes =
            (uint8_t *)out + ((y + 1) * (w + 2) + x0 + (size_t)p + 1) * out_stride + first;
        for (uint32_t o = 0; o < n; o++) {
            int32_t value = result(layer, first + o, sums[o]);
            bytes[o] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
    }
}

static void finish_sums(const IntnetLayer *layer, const int32_t *sums, size_t y, size_t x0,
                        int count, uint32_t group, int groups, size_t w, void *out,
                        size_t out_stride)
{
    uint32_t first = group * INTNET_LANES;
    uint32_t most = (uint32_t)groups * INTNET_LANES;
    uint32_t n = layer->outputs - first < most ? layer->outputs - first : most;
    for (int p = 0; p < count; p++, sums += most) {
        int32_t *values = (int32_t *)out + (y * w + x0 + (size_t)p) * out_stride + first;
        for (uint32_t o = 0; o < n; o++)
            values[o] = result(layer, first + o, sums[o]);
    }
}

#ifdef SYNTH_X86
__attribute__((target("avx2"))) static void layer_map_avx2(const IntnetLayer *layer,
                                                           IntnetPath path, const uint8_t *map,
                                                           size_t h, size_t w, uint8_t *out,
                                                           size_t out_stride, void *scratch)
{
    run_layer(layer, path, map, h, w, finish_map, out, out_stride, scratch);
}

__attribute__((target("avx2"))) static void layer_sums_avx2(const IntnetLayer *layer,
                                                            IntnetPath path, const uint8_t *map,
                                                            size_t h, size_t w, int32_t *out,
                                                            void *scratch)
{
    run_layer(layer, path, map, h, w, finish_sums, out, layer->outputs, scratch);
}
#endif

void intnet_layer_map(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                      size_t w, uint8_t *out, size_t out_stride, void *scratch)
{
#ifdef SYNTH_X86
    if (path != INTNET_PORTABLE) {
        layer_map_avx2(layer, path, map, h, w, out, out_stride, scratch);
        return;
    }
#endif
    run_layer(layer, path, map, h, w, finish_map, out, out_stride, scratch);
}

void intnet_layer_sums(const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h,
                       size_t w, int32_t *out, void *scratch)
{
#ifdef SYNTH_X86
    if (path != INTNET_PORTABLE) {
        layer_sums_avx2(layer, path, map, h, w, out, scratch);
        return;
    }
#endif
    run_layer(layer, path, map, h, w, finish_sums, out, layer->outputs, scratch);
}

void intnet_repeat_edges(uint8_t *map, size_t h, size_t w, size_t stride)
{
    size_t row = (w + 2) * stride;
    for (size_t y = 1; y <= h; y++) {
        uint8_t *at = map + y * row;
        memcpy(at, at + stride, stride);
        memcpy(at + (w + 1) * stride, at + w * stride, stride);
    }
    memcpy(map, map + row, row);
    memcpy(map + (h + 1) * row, map + h * row, row);
}

void intnet_merge(const uint8_t *features, size_t features_stride, size_t width, const int32_t *q,
                  size_t n, const uint8_t compand[256], int with_sign, size_t h, size_t w,
                  uint8_t *out, size_t out_stride)
{
    size_t cells = h * w;
    for (size_t y = 0; y < h; y++)
        for (size_t first = 0; first < w; first += MERGE_POSITIONS) {
            size_t count = smaller(MERGE_POSITIONS, w - first);
            size_t at = (y + 1) * (w + 2) + first + 1;
            uint8_t *bytes = out + at * out_stride;
            for (size_t x = 0; x < count; x++)
                memcpy(bytes + x * out_stride, features + (at + x) * features_stride, width);
            bytes += width;
            for (size_t c = 0; c < n; c++, bytes++) {
                const int32_t *value = q + c * cells + y * w + first;
                for (size_t x = 0; x < count; x++) {
                    int32_t size = value[x] < 0 ? -value[x] : value[x];
                    uint8_t magnitude = size == 0 ? 0 : compand[size > 255 ? 255 : size];
                    uint8_t *to = bytes + x * out_stride;
                    if (with_sign) {
                        *to = (uint8_t)(INTNET_ZERO + (value[x] < 0 ? -magnitude : magnitude));
                        to += n;
                    }
                    *to = magnitude;
                }
            }
        }
    intnet_repeat_edges(out, h, w, out_stride);
}

void intnet_indices(const IntnetGroupArrays *arrays, const IntnetSites *sites, const int32_t *sums,
                    size_t cells, uint8_t *index)
{
    size_t n = arrays->n;
    for (size_t c = 0; c < n; c++, index += cells) {
        const uint8_t *mode = sites->mode + arrays->site[c] * cells;
        const uint8_t *inside = sites->inside + arrays->site[c] * cells;
        for (size_t cell = 0; cell < cells; cell++) {
            int32_t e =
                sums[cell * n + c] + arrays->base[c] + arrays->base_mode[mode[cell] * n + c];
            int32_t table = (e + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS;
            table = table < 0 ? 0 : table > TABLE_LAST ? TABLE_LAST : table;
            index[cell] = (uint8_t)(table * inside[cell]);
        }
    }
}

void intnet_scores(const IntnetGroupArrays *arrays, const int32_t *sums, size_t cells,
                   int16_t *score)
{
    size_t n = arrays->n;
    for (size_t c = 0; c < n; c++, score += cells)
        for (size_t cell = 0; cell < cells; cell++)
            score[cell] =
                (int16_t)clamp64(sums[cell * n + c] + arrays->base[c], INT16_MIN, INT16_MAX);
}

void intnet_means(const IntnetGroupArrays *arrays, const IntnetSites *sites, const double *linear,
                  const int32_t *sums, size_t cells, int32_t *mean, int32_t *predicted)
{
    size_t n = arrays->n;
    for (size_t c = 0; c < n; c++, mean += cells, predicted += cells) {
        const uint8_t *mode = sites->mode + arrays->site[c] * cells;
        for (size_t cell = 0; cell < cells; cell++) {
            int64_t deep = clamp64(sums[cell * n + c], -DEEP_MEAN_MAX, DEEP_MEAN_MAX);
            int64_t scaled = divide64((int64_t)linear[cell * n + c], LINEAR_BITS);
            /* Beyond twice MEAN_MAX the sum is MEAN_MAX whatever `deep` is. */
            int64_t from_linear =
                clamp64(divide64(scaled * arrays->gain[c], GAIN_BITS), -2 * MEAN_MAX, 2 * MEAN_MAX);
            int64_t m = from_linear * arrays->aligned[mode[cell] * n + c] + deep;
            predicted[cell] = (int32_t)from_linear;
            mean[cell] = (int32_t)clamp64(m, -MEAN_MAX, MEAN_MAX);
        }
    }
}

/* The sum of the four neighbours of (y, x), without those that lie outside; if `sizes`, that of
 * their magnitudes. */
static int32_t beside(const int16_t *symbols, size_t h, size_t w, size_t y, size_t x, int sizes)
{
    const int16_t *at = symbols + y * w + x;
    int32_t four[4] = {y > 0 ? at[-(ptrdiff_t)w] : 0, y + 1 < h ? at[w] : 0, x > 0 ? at[-1] : 0,
                       x + 1 < w ? at[1] : 0};
    int32_t sum = 0;
    for (int k = 0; k < 4; k++)
        sum += sizes && four[k] < 0 ? -four[k] : four[k];
    return sum;
}

void intnet_add_neighbours(const IntnetNeighbours *neighbours, const int16_t *symbols, size_t h,
                           size_t w, int32_t *mean, int32_t *sums)
{
    size_t n = neighbours->n, cells = h * w;
    for (size_t c = 0; c < n; c++, symbols += cells, mean += cells)
        for (size_t y = 0; y < h; y++)
            for (size_t x = (y + 1) % 2; x < w; x += 2) {
                size_t cell = y * w + x;
                int64_t r = (int64_t)SPACING * beside(symbols, h, w, y, x, 0);
                int64_t more = divide64(neighbours->weight[c] * r, WEIGHT_BITS + FRACTION_BITS);
                int64_t size = divide64((int64_t)SPACING * beside(symbols, h, w, y, x, 1), 2);
                size_t of_class = 0; /* of magnitude 0, whatever the table says */
                if (size > 0)
                    of_class = neighbours->compand[size > 255 ? 255 : size] / CLASS_WIDTH;
                mean[cell] = (int32_t)clamp64(mean[cell] + more, -MEAN_MAX, MEAN_MAX);
                sums[cell * n + c] +=
                    neighbours->shift[c * INTNET_CLASSES + of_class] * (1 << FRACTION_BITS);
            }
}

void intnet_dequantise(const IntnetGroupArrays *arrays, const IntnetSites *sites,
                       const int16_t *symbols, const int32_t *mean, size_t h, size_t w, int32_t *q,
                       int16_t *latent, size_t channels, double *v)
{
    size_t n = arrays->n;
    /* Row by row: what is written lies far apart, and should stay in cache. */
    for (size_t y = 0; y < h; y++)
        for (size_t c = 0; c < n; c++) {
            unsigned site = arrays->site[c];
            const uint8_t *mode = sites->mode + site * h * w + y * w;
            int16_t *to = latent + ((2 * y + site / 2) * 2 * w + site % 2) * channels + c;
            size_t at = (c * h + y) * w;
            for (size_t x = 0; x < w; x++, at++, to += 2 * channels) {
                q[at] = symbols[at] * SPACING + (mean == NULL ? 0 : mean[at]);
                int64_t value = divide64((int64_t)q[at] * arrays->step[c], STEP_BITS);
                *to = (int16_t)clamp64(divide64(value, FRACTION_BITS - LATENT_BITS), INT16_MIN,
                                       INT16_MAX);
                if (v != NULL) {
                    int same = arrays->aligned[mode[x] * n + c];
                    v[((y + 1) * (w + 2) + x + 1) * n + c] =
                        same ? (double)clamp64(value, -V_MAX, V_MAX) : 0.0;
                }
            }
        }
    if (v != NULL)
        intnet_repeat_edges((uint8_t *)v, h, w, n * sizeof *v);
}
