#include <string.h>

#include "flatmap_internal.h"

/* As in rans_decode.c: a word is taken in below this. */
#define STATE_LOW ((uint64_t)1 << 32)

typedef struct {
    uint64_t state;
    const uint8_t *bytes;
    size_t left;
} Lane;

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
