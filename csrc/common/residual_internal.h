/* The probability model of residual.h, which the encoder and the decoder run in the same steps.
 *
 * Right shifts of negative numbers round down, as every compiler that builds this does it. */
#ifndef MVMIC_RESIDUAL_INTERNAL_H
#define MVMIC_RESIDUAL_INTERNAL_H

#include <stdlib.h>
#include <string.h>

#include "answers_internal.h"
#include "residual.h"
#include "residual_tables.h"

#define RESIDUAL_INLINE ANSWERS_INLINE

/* Neighbours in the plane: as many for green and gray, and fewer where other planes help. */
#define NEIGHBOURS 19
#define NEIGHBOURS_OF_COLOUR 12

/* A weight has 16 bits of fraction and is at most 8. */
#define WEIGHT_BITS 16
#define WEIGHT_MOST (8 << WEIGHT_BITS)

/* The fit forgets: a sum loses this share, 2^-11, with each sample. Its inputs are 2^9 at most, so
 * a sum stays within 2^30. */
#define FORGET 11
#define INPUT_BITS 9

/* What is added to a sum of squares, against weights that nothing holds. */
#define RIDGE 1024

/* Positions are sixty-fourths of a level. */
#define FINE 64

/* Logits are in 1/256. Those of single estimates are within 8, those of mixers within 11. */
#define LOGIT_MOST 2047
#define MIXED_MOST 2815

/* A context's probability has 22 bits above a count of 10 bits. */
#define COUNT_BITS 10
#define COUNT_MOST 250

#define MIXER_MOST (64 << 16)

/* Questions: is the distance 0? is it positive? Then those of size, by sign and number, and halves.
 */
enum { IS_OTHER = 0, IS_ABOVE = 1, SIZE_ABOVE = 2, SIZE_BELOW = 16, HALF = 30 };
#define SIZES 14
#define HALVES 2

/* Where the contexts of each set begin, as RESIDUAL_CONTEXTS counts them. */
static const int32_t SET_STARTS[RESIDUAL_SETS] = {0, 1024, 1624, 2224, 3248};

/* A sample, before it is known. */
typedef struct {
    int32_t inputs[RESIDUAL_INPUTS_MAX]; /* what the prediction sums, relative to the anchor */
    int32_t anchor;
    int32_t low; /* the range of the plane's value here */
    int32_t high;
    int32_t mean;  /* the prediction, fine */
    int32_t start; /* the prediction, rounded: the distance is counted in steps from here */
    int32_t step;
    int32_t up; /* the most steps that stay within the range */
    int32_t down;
    int32_t scale;   /* of errors around here, fine */
    int32_t inverse; /* 2^28 over the scale of the estimate */
    int widen;       /* sizes are asked about in groups of 2^widen */
    uint32_t *contexts[RESIDUAL_SETS];
    int32_t *mixers[2];
} Site;

/* A question that was asked, for learning from the answer. */
typedef struct {
    uint32_t *contexts[RESIDUAL_SETS];
    int32_t *mixers[2];
    int32_t logits[RESIDUAL_MIXED];
    int32_t mixed[2];
    uint32_t yes; /* the probability, in 1 to 2^16 - 1 */
} Question;

RESIDUAL_INLINE int bit_length(uint32_t value)
{
#if defined(__GNUC__) || defined(__clang__)
    return value == 0 ? 0 : 32 - __builtin_clz(value);
#else
    int length = 0;
    for (; value != 0; value >>= 1)
        length++;
    return length;
#endif
}

RESIDUAL_INLINE int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* A probability in 2^-16 of a logit. */
RESIDUAL_INLINE int32_t logistic(int32_t logit)
{
    int32_t at = clamp(logit, -3071, 3071) + 3072, i = at >> 4, part = at & 15;
    return (LOGISTIC[i] * (16 - part) + LOGISTIC[i + 1] * part) >> 4;
}

/* ln(1 + e^z) */
RESIDUAL_INLINE int32_t softplus(int32_t z)
{
    int32_t at = z + 3072, i = at >> 4, part = at & 15;
    if (z < -3071)
        return 0;
    if (z > 3071)
        return z;
    return (SOFTPLUS[i] * (16 - part) + SOFTPLUS[i + 1] * part) >> 4;
}

/* ln(e^d - 1), d >= 0; that of 0 is that of 1/256. */
RESIDUAL_INLINE int32_t log_expm1(int32_t d)
{
    int32_t i = (d >> 4) - 16, part = d & 15;
    if (d < 256)
        return LOG_EXPM1_NEAR[d];
    if (d > 3071)
        return d;
    return (LOG_EXPM1_FAR[i] * (16 - part) + LOG_EXPM1_FAR[i + 1] * part) >> 4;
}

/* The number of 0 to 4 of a signed error, by its size against the scale: 5/4 and 1/3 of it. */
RESIDUAL_INLINE int32_t class_of(int32_t error, int32_t scale)
{
    if (4 * error < -5 * scale)
        return 0;
    if (3 * error < -scale)
        return 1;
    if (3 * error <= scale)
        return 2;
    return 4 * error <= 5 * scale ? 3 : 4;
}

/* The number of 0 to 23 of a scale, two to the octave. */
RESIDUAL_INLINE int32_t level_of(int32_t scale)
{
    int length = bit_length((uint32_t)scale);
    int half = length > 1 ? scale >> (length - 2) & 1 : 0;
    return clamp(2 * length + half - 5, 0, RESIDUAL_SCALES - 1);
}

RESIDUAL_INLINE int32_t median_of(int32_t w, int32_t n, int32_t nw)
{
    int32_t least = w < n ? w : n, most = w < n ? n : w;
    return nw >= most ? least : nw <= least ? most : w + n - nw;
}

/* The sample at (x, y) of a plane, or the nearest. */
RESIDUAL_INLINE int32_t nearest(const Residual *work, const int32_t *plane, size_t y, size_t x,
                                int dy, int dx)
{
    size_t row = dy < 0 && y == 0 ? 0 : dy > 0 && y + 1 == work->height ? y : y + (size_t)dy;
    size_t column = dx < 0 && x == 0 ? 0 : dx > 0 && x + 1 == work->width ? x : x + (size_t)dx;
    return plane[row * work->width + column];
}

RESIDUAL_INLINE const int32_t *plane_of(const Residual *work, const int32_t *planes, unsigned plane)
{
    return planes + plane * work->height * work->width;
}

/* How many planes are known, of 1, 0, 2 in this order. */
RESIDUAL_INLINE unsigned known_of(const Residual *work, unsigned plane)
{
    return work->planes == 1 || plane == 1 ? 0 : plane == 0 ? 1 : 2;
}

RESIDUAL_INLINE int32_t *row_of(const Residual *work, int32_t *rows, size_t y)
{
    return rows + y % RESIDUAL_ROWS * (work->width + 2 * RESIDUAL_MARGIN) + RESIDUAL_MARGIN;
}

/* Begins a plane: its anchors, the rows above it, and its fit. */
RESIDUAL_INLINE void open_plane(Residual *work, unsigned plane)
{
    size_t width = work->width, pixels = width * work->height;
    unsigned known = known_of(work, plane);
    const int32_t *green = known ? plane_of(work, work->samples, 1) : NULL;
    const int32_t *base = work->base ? plane_of(work, work->base, plane) : NULL;
    int32_t middle = known ? 0 : (work->low + work->high + 1) >> 1;
    int32_t error = FINE + work->high - work->low;
    for (size_t i = 0; base && i < pixels; i++)
        work->anchors[i] = base[i] - (green ? green[i] : 0);
    for (size_t y = RESIDUAL_ROWS - 3; y < RESIDUAL_ROWS; y++) {
        int32_t *row = row_of(work, work->rows, y), *errors = row_of(work, work->errors, y);
        for (ptrdiff_t x = -RESIDUAL_MARGIN; x < (ptrdiff_t)width + RESIDUAL_MARGIN; x++) {
            size_t inside = x < 0 ? 0 : (size_t)x < width ? (size_t)x : width - 1;
            row[x] = base ? work->anchors[inside] : middle;
            errors[x] = error;
        }
    }
    memset(work->products, 0, sizeof work->products);
    memset(work->targets, 0, sizeof work->targets);
    memset(work->weights, 0, sizeof work->weights);
    work->inputs = known ? NEIGHBOURS_OF_COLOUR + 6 * known : NEIGHBOURS;
    if (base)
        work->inputs += known ? 4 : 8;
    else {
        /* N, NW and NE, relative to W. */
        work->weights[1] = 1 << (WEIGHT_BITS - 1);
        work->weights[2] = -(1 << (WEIGHT_BITS - 1));
        work->weights[3] = 1 << (WEIGHT_BITS - 2);
    }
    work->turn = 0;
    memset(work->contexts, 0, RESIDUAL_CONTEXTS * sizeof *work->contexts);
    for (size_t i = 0; i < RESIDUAL_MIXERS; i++) {
        int32_t *mixer = work->mixers + i * RESIDUAL_MIXED;
        mixer[0] = 40000;
        for (int k = 1; k <= RESIDUAL_SETS; k++)
            mixer[k] = 5600;
        mixer[RESIDUAL_MIXED - 1] = 0;
    }
}

/* What is left of column 0 is as what is above it. */
RESIDUAL_INLINE void open_row(Residual *work, size_t y)
{
    size_t above = y + RESIDUAL_ROWS - 1;
    int32_t *row = row_of(work, work->rows, y), *errors = row_of(work, work->errors, y);
    for (int x = 1; x <= RESIDUAL_MARGIN; x++) {
        row[-x] = row_of(work, work->rows, above)[0];
        errors[-x] = row_of(work, work->errors, above)[0];
    }
}

/* What is right of the last column is as the last. */
RESIDUAL_INLINE void close_row(Residual *work, size_t y)
{
    int32_t *row = row_of(work, work->rows, y), *errors = row_of(work, work->errors, y);
    for (size_t x = work->width; x < work->width + RESIDUAL_MARGIN; x++) {
        row[x] = row[work->width - 1];
        errors[x] = errors[work->width - 1];
    }
}

/* Rows y, y - 1, y - 2 and y - 3 at one column. */
typedef struct {
    const int32_t *at[RESIDUAL_ROWS];
} Column;

RESIDUAL_INLINE Column column_of(const Residual *work, int32_t *rows, size_t y, size_t x)
{
    Column column;
    for (size_t k = 0; k < RESIDUAL_ROWS; k++)
        column.at[k] = row_of(work, rows, y + RESIDUAL_ROWS - k) + x;
    return column;
}

/* The inputs of the prediction: the neighbours by distance, the base, then the planes before. */
RESIDUAL_INLINE void gather(const Residual *work, Site *site, const Column *v, unsigned plane,
                            size_t y, size_t x)
{
    static const signed char up[NEIGHBOURS] = {0, 1, 1, 1, 0, 2, 2, 2, 1, 1,
                                               2, 2, 0, 1, 1, 3, 3, 3, 2};
    static const signed char right[NEIGHBOURS] = {-1, 0, -1, 1,  -2, 0, 1,  -1, 2, -2,
                                                  -2, 2, -3, -3, 3,  0, -1, 1,  3};
    /* In (dy, dx). The planes before take the first six. */
    static const signed char around[8][2] = {{0, 1},   {1, 0},  {0, -1}, {-1, 0},
                                             {-1, -1}, {-1, 1}, {1, -1}, {1, 1}};
    unsigned known = known_of(work, plane), k = 0;
    int32_t *inputs = site->inputs, anchor = site->anchor;
    for (unsigned n = known ? NEIGHBOURS_OF_COLOUR : NEIGHBOURS; k < n; k++)
        inputs[k] = v->at[up[k]][right[k]] - anchor;
    if (work->base)
        for (unsigned j = 0; j < (known ? 4u : 8u); j++)
            inputs[k++] = nearest(work, work->anchors, y, x, around[j][0], around[j][1]) - anchor;
    for (unsigned p = 0; p < known; p++) {
        const int32_t *other = plane_of(work, work->samples, 1 - p);
        int32_t here = other[y * work->width + x];
        for (unsigned j = 0; j < 6; j++)
            inputs[k++] = nearest(work, other, y, x, around[j][0], around[j][1]) - here;
    }
}

/* The mean size of errors around here, in parts of 32, and a floor. */
RESIDUAL_INLINE int32_t scale_of(const Residual *work, const Column *e)
{
    const int32_t *row = e->at[0], *above = e->at[1], *second = e->at[2];
    int32_t sum = 4 * abs(row[-1]) + 3 * abs(row[-2]) + abs(row[-3]);
    sum += 2 * abs(above[-2]) + 3 * abs(above[-1]) + 4 * abs(above[0]) + 4 * abs(above[1]);
    sum += 3 * abs(above[2]) + abs(above[3]);
    sum += 2 * abs(second[-1]) + 3 * abs(second[0]) + 2 * abs(second[1]);
    return ((sum + 16) >> 5) + 5 + work->bound;
}

/* The contexts of the five sets, and the two mixers. */
RESIDUAL_INLINE void choose(const Residual *work, Site *site, const Column *v, const Column *e,
                            unsigned plane, int32_t green)
{
    int32_t w = v->at[0][-1], n = v->at[1][0], nw = v->at[1][-1], ne = v->at[1][1];
    int32_t scale = site->scale, level = level_of(scale), range = work->high - work->low;
    int32_t part = (site->mean - site->start * FINE + FINE / 2) >> 4; /* 0 to 3 */
    int32_t west = class_of(e->at[0][-1], scale), north = class_of(e->at[1][0], scale);
    int32_t edge = class_of(median_of(w, n, nw) * FINE - site->mean, scale);
    int known = known_of(work, plane) != 0, wide = bit_length((uint32_t)range);
    int32_t activity = abs(w - nw) + abs(n - nw) + abs(n - ne);
    int32_t value = site->start - (known ? -range : work->low);
    int32_t keys[RESIDUAL_SETS];
    keys[0] = value >> (wide > 10 ? wide - 10 : 0);
    keys[1] = ((west * 5 + north) * 4 + part) * 6 + level / 4;
    keys[2] = (edge * 5 + class_of(e->at[1][1], scale)) * RESIDUAL_SCALES + level;
    if (known)
        keys[3] = site->start + green - work->low;
    else
        keys[3] = bit_length((uint32_t)(activity / site->step)) * RESIDUAL_SCALES + level;
    keys[4] = class_of(e->at[1][-1], scale) * 25 + class_of(e->at[0][-2], scale) * 5 +
              class_of(e->at[2][0], scale);
    for (int i = 0; i < RESIDUAL_SETS; i++)
        site->contexts[i] = work->contexts + RESIDUAL_QUESTIONS * (SET_STARTS[i] + keys[i]);
    site->mixers[0] = work->mixers + RESIDUAL_MIXED * RESIDUAL_QUESTIONS * level;
    site->mixers[1] = work->mixers + RESIDUAL_MIXED * RESIDUAL_QUESTIONS *
                                         (RESIDUAL_SCALES + west * 4 + level / 6);
}

/* Predicts a sample. */
RESIDUAL_INLINE void open_site(const Residual *work, Site *site, unsigned plane, size_t y, size_t x)
{
    Column v = column_of(work, work->rows, y, x), e = column_of(work, work->errors, y, x);
    size_t at = y * work->width + x;
    int32_t green = known_of(work, plane) ? plane_of(work, work->samples, 1)[at] : 0;
    int64_t sum = 0, mean, least, most;
    site->low = work->low - green;
    site->high = work->high - green;
    site->anchor = work->base ? work->anchors[at] : v.at[0][-1];
    gather(work, site, &v, plane, y, x);
    for (unsigned j = 0; j < work->inputs; j++)
        sum += (int64_t)work->weights[j] * site->inputs[j];
    mean = (int64_t)site->anchor * FINE + ((sum + 512) >> (WEIGHT_BITS - 6));
    least = site->low * FINE;
    most = site->high * FINE;
    site->mean = (int32_t)(mean < least ? least : mean > most ? most : mean);
    site->start = (site->mean + FINE / 2) >> 6;
    site->step = 2 * work->bound + 1;
    site->up = (site->high - site->start + work->bound) / site->step;
    site->down = (site->start - site->low + work->bound) / site->step;
    site->scale = scale_of(work, &e);
    site->inverse = (1 << 28) / ((site->scale * 5 >> 3) + (work->bound ? 8 * site->step : 0) + 1);
    site->widen = 0;
    while (site->scale >> site->widen > 3 * FINE * site->step)
        site->widen++;
    choose(work, site, &v, &e, plane, green);
}

/* Asks a question, given the estimate of its logit. */
RESIDUAL_INLINE void ask(const Residual *work, const Site *site, Question *question, int number,
                         int32_t estimate)
{
    int64_t sums[2] = {0, 0};
    question->logits[0] = clamp(estimate, -LOGIT_MOST, LOGIT_MOST);
    for (int i = 0; i < RESIDUAL_SETS; i++) {
        uint32_t *context = site->contexts[i] + number;
        if (*context == 0) /* it was never asked */
            *context = (uint32_t)logistic(clamp(estimate, -1800, 1800)) << 16;
        question->contexts[i] = context;
        question->logits[1 + i] = work->logits[*context >> 20];
    }
    question->logits[RESIDUAL_MIXED - 1] = 96;
    for (int m = 0; m < 2; m++) {
        int32_t *mixer = question->mixers[m] = site->mixers[m] + RESIDUAL_MIXED * number;
        for (int i = 0; i < RESIDUAL_MIXED; i++)
            sums[m] += (int64_t)mixer[i] * question->logits[i];
        question->mixed[m] = clamp((int32_t)(sums[m] >> 16), -MIXED_MOST, MIXED_MOST);
    }
    question->yes =
        (uint32_t)clamp(logistic((question->mixed[0] + question->mixed[1]) >> 1), 1, 65535);
}

/* Learns the answer, 0 or 1. */
RESIDUAL_INLINE void learn_from(const Residual *work, const Question *question, unsigned answer)
{
    for (int m = 0; m < 2; m++) {
        int32_t error = 4 * ((int32_t)(answer << 16) - logistic(question->mixed[m]));
        int32_t *mixer = question->mixers[m];
        for (int i = 0; i < RESIDUAL_MIXED; i++) {
            int32_t change = (int32_t)(((int64_t)question->logits[i] * error + 65536) >> 17);
            mixer[i] = clamp(mixer[i] + change, -MIXER_MOST, MIXER_MOST);
        }
    }
    for (int i = 0; i < RESIDUAL_SETS; i++) {
        uint32_t context = *question->contexts[i], count = context & ((1 << COUNT_BITS) - 1);
        int32_t yes = (int32_t)(context >> COUNT_BITS);
        int32_t target = answer ? (1 << 22) - 1 : 0;
        yes += (int32_t)(((int64_t)(target - yes) * work->shares[count]) >> 16);
        count += count < COUNT_MOST;
        *question->contexts[i] = (uint32_t)yes << COUNT_BITS | count;
    }
}

/* How far a position is from the prediction, as a logit. */
RESIDUAL_INLINE int32_t logit_at(const Site *site, int32_t position)
{
    int64_t logit = ((int64_t)(position - site->mean) * site->inverse) >> 20;
    return logit < -4000 ? -4000 : logit > 4000 ? 4000 : (int32_t)logit;
}

/* The near edge of the size of a distance, as a logit that grows with it. */
RESIDUAL_INLINE int32_t edge_of(const Site *site, int32_t sign, int32_t size)
{
    int32_t half = site->step * (FINE / 2);
    return sign * logit_at(site, site->start * FINE + sign * (2 * size - 1) * half);
}

/* The estimates of logits: is the distance not 0? */
RESIDUAL_INLINE int32_t estimate_other(const Residual *work, const Site *site)
{
    int32_t yes = logistic(-edge_of(site, 1, 1)) + logistic(-edge_of(site, -1, 1));
    return work->logits[clamp(yes >> 4, 0, 4095)];
}

/* Is it positive, if not 0? */
RESIDUAL_INLINE int32_t estimate_above(const Site *site)
{
    return softplus(edge_of(site, -1, 1)) - softplus(edge_of(site, 1, 1));
}

/* Is its size `top` or more, if it is `size` or more? */
RESIDUAL_INLINE int32_t estimate_size(const Site *site, int32_t sign, int32_t size, int32_t top)
{
    int32_t near = edge_of(site, sign, size), far = edge_of(site, sign, top);
    return softplus(-near) - log_expm1(far - near);
}

/* Is its size `middle` or more, if it is `size` to top - 1? */
RESIDUAL_INLINE int32_t estimate_half(const Site *site, int32_t sign, int32_t size, int32_t middle,
                                      int32_t top)
{
    int32_t a = edge_of(site, sign, size), b = edge_of(site, sign, middle);
    int32_t c = edge_of(site, sign, top);
    return b - a + log_expm1(c - b) - log_expm1(b - a) + softplus(a) - softplus(c);
}

/* The probability of a half that nothing is learned about. */
RESIDUAL_INLINE uint32_t plain_half(int32_t estimate)
{
    return (uint32_t)logistic(clamp(estimate, -1200, 1200));
}

/* Corrects a share of the weights, each by one step of Gauss and Seidel. */
RESIDUAL_INLINE void refine(Residual *work)
{
    unsigned n = work->inputs;
    for (unsigned i = work->turn; i < n; i += 4) {
        const int32_t *row = work->products[i];
        int64_t rest = (int64_t)work->targets[i] * (1 << WEIGHT_BITS), weight = work->weights[i];
        uint32_t square = (uint32_t)row[i] + RIDGE, mantissa;
        int shift = bit_length(square) - 8;
        for (unsigned j = 0; j < n; j++)
            rest -= (int64_t)row[j] * work->weights[j];
        rest -= RIDGE * weight;
        mantissa = square >> shift; /* 128 to 255 */
        weight += ((rest >> shift) * (65536 / mantissa)) >> 16;
        work->weights[i] = (int32_t)(weight < -WEIGHT_MOST  ? -WEIGHT_MOST
                                     : weight > WEIGHT_MOST ? WEIGHT_MOST
                                                            : weight);
    }
    work->turn = (work->turn + 1) % 4;
}

/* Adds a sample to the fit, scaled so that noise counts alike everywhere, and edges less. */
RESIDUAL_INLINE void fit(Residual *work, const Site *site, int32_t value)
{
    int32_t target = value - site->anchor, most = abs(target);
    int16_t scaled[RESIDUAL_INPUTS_MAX] = {0};
    unsigned n = work->inputs, wide = (n + 7) & ~7u; /* whole vectors; past the last input is 0 */
    int by_scale = INPUT_BITS - bit_length((uint32_t)site->scale), shift;
    for (unsigned j = 0; j < n; j++)
        most = abs(site->inputs[j]) > most ? abs(site->inputs[j]) : most;
    shift = INPUT_BITS - bit_length((uint32_t)most);
    shift = by_scale < shift ? by_scale : shift;
    for (unsigned j = 0; j < n; j++)
        scaled[j] =
            (int16_t)(shift >= 0 ? site->inputs[j] * (1 << shift) : site->inputs[j] >> -shift);
    target = shift >= 0 ? target * (1 << shift) : target >> -shift;
    for (unsigned i = 0; i < n; i++) {
        int32_t *row = work->products[i];
        int16_t input = scaled[i];
        for (unsigned j = 0; j < wide; j++)
            row[j] += input * scaled[j] - (row[j] >> FORGET);
        work->targets[i] += input * target - (work->targets[i] >> FORGET);
    }
    refine(work);
}

/* Takes in a sample, given the plane's value. */
RESIDUAL_INLINE void close_site(Residual *work, const Site *site, unsigned plane, size_t y,
                                size_t x, int32_t value)
{
    row_of(work, work->rows, y)[x] = value;
    row_of(work, work->errors, y)[x] = value * FINE - site->mean;
    work->samples[(plane * work->height + y) * work->width + x] = value + work->low - site->low;
    fit(work, site, value);
}

/* A sample that is that of the base: nothing is asked or learned. */
RESIDUAL_INLINE void skip_site(Residual *work, unsigned plane, size_t y, size_t x)
{
    size_t at = y * work->width + x;
    int32_t *errors = row_of(work, work->errors, y);
    row_of(work, work->rows, y)[x] = work->anchors[at];
    errors[x] = errors[(ptrdiff_t)x - 1];
    work->samples[plane * work->height * work->width + at] = plane_of(work, work->base, plane)[at];
}

#endif
