#include "intnet.h"
#include "lanes_internal.h"

/* Positions of a row that are computed at once. */
#define POSITIONS_AT_ONCE 6

/* Adds the prediction of `n` outputs, one block, of `positions` positions of a row to `out`, whose
 * positions are `pitch` apart. `in` is the first tap of the first position. */
SYNTH_INLINE void predict_block(const double *in, size_t row, size_t inputs, const double *weight,
                                size_t n, size_t positions, double *out, size_t pitch)
{
    for (size_t p = 0; p < positions; p++)
        for (int tap = 0; tap < 9; tap++) {
            const double *x = in + (size_t)(tap / 3) * row + ((size_t)(tap % 3) + p) * inputs;
            const double *v = weight + (size_t)tap * inputs * INTNET_BLOCK;
            for (size_t c = 0; c < inputs; c++, v += INTNET_BLOCK)
                for (size_t o = 0; o < n; o++)
                    out[p * pitch + o] += x[c] * v[o];
        }
}

/* One kernel for both widths of vectors, by a prefix of intrinsics: `positions` times `vectors`
 * sums of a whole block stay in registers while all inputs pass by. */
#define PREDICT_TILE(Vector, prefix, width)                                                        \
    enum { vectors = INTNET_BLOCK / (width) };                                                     \
    Vector total[POSITIONS_AT_ONCE][vectors];                                                      \
    SYNTH_UNROLL                                                                                   \
    for (int p = 0; p < positions; p++) {                                                          \
        SYNTH_UNROLL                                                                               \
        for (int k = 0; k < vectors; k++)                                                          \
            total[p][k] = prefix##_loadu_pd(out + (size_t)p * pitch + k * (width));                \
    }                                                                                              \
    for (int tap = 0; tap < 9; tap++) {                                                            \
        const double *x = in + (size_t)(tap / 3) * row + (size_t)(tap % 3) * inputs;               \
        for (size_t c = 0; c < inputs; c++, weight += INTNET_BLOCK) {                              \
            Vector v[vectors];                                                                     \
            SYNTH_UNROLL                                                                           \
            for (int k = 0; k < vectors; k++)                                                      \
                v[k] = prefix##_loadu_pd(weight + k * (width));                                    \
            SYNTH_UNROLL                                                                           \
            for (int p = 0; p < positions; p++) {                                                  \
                Vector u = prefix##_set1_pd(x[(size_t)p * inputs + c]);                            \
                SYNTH_UNROLL                                                                       \
                for (int k = 0; k < vectors; k++)                                                  \
                    total[p][k] = prefix##_fmadd_pd(u, v[k], total[p][k]);                         \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    SYNTH_UNROLL                                                                                   \
    for (int p = 0; p < positions; p++) {                                                          \
        SYNTH_UNROLL                                                                               \
        for (int k = 0; k < vectors; k++)                                                          \
            prefix##_storeu_pd(out + (size_t)p * pitch + k * (width), total[p][k]);                \
    }

typedef void PredictTile(const double *in, size_t row, size_t inputs, const double *weight, int one,
                         double *out, size_t pitch);

#ifdef SYNTH_X86
__attribute__((target("avx2,fma"))) SYNTH_INLINE void
tile_of_predict_avx2(const double *in, size_t row, size_t inputs, const double *weight,
                     int positions, double *out, size_t pitch)
{
    PREDICT_TILE(__m256d, _mm256, 4)
}

__attribute__((target("avx512f"))) SYNTH_INLINE void
tile_of_predict_avx512(const double *in, size_t row, size_t inputs, const double *weight,
                       int positions, double *out, size_t pitch)
{
    PREDICT_TILE(__m512d, _mm512, 8)
}

__attribute__((target("avx2,fma"))) static void predict_avx2(const double *in, size_t row,
                                                             size_t inputs, const double *weight,
                                                             int one, double *out, size_t pitch)
{
    if (one)
        tile_of_predict_avx2(in, row, inputs, weight, 1, out, pitch);
    else
        tile_of_predict_avx2(in, row, inputs, weight, POSITIONS_AT_ONCE, out, pitch);
}

__attribute__((target("avx512f"))) static void predict_avx512(const double *in, size_t row,
                                                              size_t inputs, const double *weight,
                                                              int one, double *out, size_t pitch)
{
    if (one)
        tile_of_predict_avx512(in, row, inputs, weight, 1, out, pitch);
    else
        tile_of_predict_avx512(in, row, inputs, weight, POSITIONS_AT_ONCE, out, pitch);
}
#endif

static void predict_portable(const double *in, size_t row, size_t inputs, const double *weight,
                             int one, double *out, size_t pitch)
{
    predict_block(in, row, inputs, weight, INTNET_BLOCK, one ? 1 : POSITIONS_AT_ONCE, out, pitch);
}

static PredictTile *predict_tile_of(IntnetPath path)
{
#ifdef SYNTH_X86
    if (path == INTNET_VNNI)
        return predict_avx512;
    if (path == INTNET_AVX2)
        return predict_avx2;
#endif
    (void)path;
    return predict_portable;
}

void intnet_predict(const double *v, size_t inputs, const double *weight, size_t outputs, size_t h,
                    size_t w, IntnetPath path, double *out)
{
    PredictTile *tile = predict_tile_of(path);
    size_t row = (w + 2) * inputs, block = 9 * inputs * INTNET_BLOCK;
    /* The weights of a block stay in cache while all positions pass by. */
    for (size_t o = 0; o < outputs; o += INTNET_BLOCK, weight += block)
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w;) {
                /* Sums are added to what is there: tiles must not overlap. */
                size_t positions = w - x < POSITIONS_AT_ONCE ? 1 : POSITIONS_AT_ONCE;
                const double *in = v + y * row + x * inputs;
                double *at = out + (y * w + x) * outputs + o;
                if (outputs - o < INTNET_BLOCK)
                    predict_block(in, row, inputs, weight, outputs - o, positions, at, outputs);
                else
                    tile(in, row, inputs, weight, positions == 1, at, outputs);
                x += positions;
            }
}
