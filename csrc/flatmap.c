#include "flatmap.h"

#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define FLATMAP_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define FLATMAP_INLINE static __forceinline
#else
#define FLATMAP_INLINE static inline
#endif

/* Bits of a cell. */
#define CELL_YES 1u      /* this decision was answered with yes */
#define CELL_ASKED 2u    /* this decision is asked of this pixel */

/* As in rans.c: a word is taken in below this. */
#define STATE_LOW ((uint64_t)1 << 32)

typedef struct {
    uint64_t state;
    const uint8_t *bytes;
    size_t left;
} Lane;

FLATMAP_INLINE size_t stride_of(const Flatmap *work)
{
    return work->width + 2 * FLATMAP_MARGIN;
}

FLATMAP_INLINE uint8_t *row_of(const Flatmap *work, size_t y)
{
    return work->cells + (y + FLATMAP_MARGIN) * stride_of(work) + FLATMAP_MARGIN;
}

/* The surroundings of a cell: six answers already given, then four more of them where all pixels are
 * asked, else whether the decision is asked of the four nearest, which is known on all sides. */
FLATMAP_INLINE unsigned context_of(const uint8_t *cell, ptrdiff_t stride, int all)
{
    unsigned near = (cell[-1] & 1u) | (cell[-stride] & 1u) << 1 | (cell[-stride - 1] & 1u) << 2 |
                    (cell[-stride + 1] & 1u) << 3 | (cell[-2] & 1u) << 4 |
                    (cell[-2 * stride] & 1u) << 5;
    if (all)
        return near | (cell[-stride + 2] & 1u) << 6 | (cell[-stride - 2] & 1u) << 7 |
               (cell[-2 * stride - 1] & 1u) << 8 | (cell[-2 * stride + 1] & 1u) << 9;
    return near | (cell[1] & 2u) << 5 | (cell[stride] & 2u) << 6 | (cell[-1] & 2u) << 7 |
           (cell[-stride] & 2u) << 8;
}

/* Probability of a yes in 1 to 2^16 - 1: neither answer may be impossible. */
FLATMAP_INLINE uint32_t probability_of(const FlatmapContext *context)
{
    uint32_t yes = context->yes >> (32 - FLATMAP_PRECISION);
    return yes + (yes == 0);
}

FLATMAP_INLINE void learn(FlatmapContext *context, unsigned answer)
{
    uint32_t share = 2 * context->seen + 3;
    if (answer)
        context->yes += (uint32_t)((uint64_t)(UINT32_MAX - context->yes) * 2 / share);
    else
        context->yes -= (uint32_t)((uint64_t)context->yes * 2 / share);
    context->seen += context->seen < FLATMAP_MEMORY;
}

/* Decision 0 asked of every pixel that is open. */
static void begin(Flatmap *work)
{
    memset(work->cells, 0, stride_of(work) * (work->height + 2 * FLATMAP_MARGIN));
    for (size_t y = 0; y < work->height; y++) {
        uint8_t *cells = row_of(work, y);
        for (size_t x = 0; x < work->width; x++)
            cells[x] = work->open == NULL || work->open[y * work->width + x] ? CELL_ASKED : 0;
    }
}

static void forget(Flatmap *work)
{
    for (size_t i = 0; i < FLATMAP_CONTEXTS; i++) {
        work->contexts[i].yes = (uint32_t)1 << 31;
        work->contexts[i].seen = 0;
    }
}

/* After decision 0 the pixels with a yes are asked further, after the others those with a no. */
static void carry_on(Flatmap *work, unsigned decision)
{
    unsigned wanted = decision == 0 ? CELL_ASKED | CELL_YES : CELL_ASKED;
    for (size_t y = 0; y < work->height; y++) {
        uint8_t *cells = row_of(work, y);
        for (size_t x = 0; x < work->width; x++)
            cells[x] = cells[x] == wanted ? CELL_ASKED : 0;
    }
}

size_t flatmap_decisions(const Flatmap *work, const uint8_t *map)
{
    unsigned colours = work->colours;
    size_t count = 0;
    for (size_t i = 0; i < work->width * work->height; i++) {
        unsigned colour = map[i], open = work->open == NULL || work->open[i];
        if (colour > colours || (colour != 0 && !open))
            return SIZE_MAX;
        count += open + (colour < colours ? colour : colours - 1);
    }
    return count;
}

void flatmap_model(Flatmap *work, const uint8_t *map, uint32_t *steps)
{
    ptrdiff_t stride = (ptrdiff_t)stride_of(work);
    begin(work);
    for (unsigned decision = 0; decision < work->colours; decision++) {
        int all = decision == 0 && work->open == NULL;
        forget(work);
        for (size_t y = 0; y < work->height; y++) {
            uint8_t *cells = row_of(work, y);
            const uint8_t *colours = map + y * work->width;
            for (size_t x = 0; x < work->width; x++) {
                if (!(cells[x] & CELL_ASKED))
                    continue;
                unsigned answer = decision == 0 ? colours[x] != 0 : colours[x] == decision;
                FlatmapContext *context = &work->contexts[context_of(cells + x, stride, all)];
                *steps++ = probability_of(context) << 1 | answer;
                learn(context, answer);
                cells[x] |= (uint8_t)answer;
            }
        }
        carry_on(work, decision);
    }
}

size_t flatmap_encode(const uint32_t *steps, size_t count, uint32_t *words)
{
    uint64_t state = 0;
    size_t written = 0;
    while (count--) {
        uint32_t yes = steps[count] >> 1, no = (1u << FLATMAP_PRECISION) - yes;
        uint32_t freq = steps[count] & 1 ? yes : no, start = steps[count] & 1 ? no : 0;
        if (state >> (64 - FLATMAP_PRECISION) >= freq) {
            words[written++] = (uint32_t)state;
            state >>= 32;
        }
        state = ((state / freq) << FLATMAP_PRECISION) + state % freq + start;
    }
    for (; state != 0; state >>= 32)
        words[written++] = (uint32_t)state;
    return written;
}

FLATMAP_INLINE void refill(Lane *lane)
{
    const uint8_t *word = lane->bytes + 4 * --lane->left;
    lane->state = lane->state << 32 | (uint32_t)word[3] << 24 | (uint32_t)word[2] << 16 |
                  (uint32_t)word[1] << 8 | word[0];
}

FLATMAP_INLINE unsigned answer_of(Lane *lane, uint32_t yes)
{
    uint32_t no = (1u << FLATMAP_PRECISION) - yes;
    uint32_t slot = (uint32_t)lane->state & ((1u << FLATMAP_PRECISION) - 1);
    unsigned answer = slot >= no;
    uint32_t freq = answer ? yes : no, start = answer ? no : 0;
    lane->state = (lane->state >> FLATMAP_PRECISION) * freq + slot - start;
    if (lane->state < STATE_LOW && lane->left != 0)
        refill(lane);
    return answer;
}

int flatmap_decode(Flatmap *work, const uint8_t *bytes, size_t count, uint8_t *map)
{
    ptrdiff_t stride = (ptrdiff_t)stride_of(work);
    Lane lane = {0, bytes, count};
    for (int i = 0; i < 2 && lane.left != 0; i++)
        refill(&lane);
    if (count != 0 && (bytes[4 * count - 1] | bytes[4 * count - 2] | bytes[4 * count - 3] |
                       bytes[4 * count - 4]) == 0)
        return 1;
    begin(work);
    memset(map, 0, work->width * work->height);
    for (unsigned decision = 0; decision < work->colours; decision++) {
        int all = decision == 0 && work->open == NULL;
        forget(work);
        for (size_t y = 0; y < work->height; y++) {
            uint8_t *cells = row_of(work, y), *colours = map + y * work->width;
            for (size_t x = 0; x < work->width; x++) {
                if (!(cells[x] & CELL_ASKED))
                    continue;
                FlatmapContext *context = &work->contexts[context_of(cells + x, stride, all)];
                unsigned answer = answer_of(&lane, probability_of(context));
                learn(context, answer);
                cells[x] |= (uint8_t)answer;
                /* Flat: the last colour, unless a later decision says otherwise. */
                if (answer)
                    colours[x] = (uint8_t)(decision == 0 ? work->colours : decision);
            }
        }
        carry_on(work, decision);
    }
    /* Nor are words left then: while there are any, a step begins at 2^32 or above and ends above
     * 2^16, so a state of 0 has none behind it. */
    return lane.state != 0;
}
