#include <string.h>

#include "flatmap_internal.h"

int flatmap_decode(Flatmap *work, const uint8_t *bytes, size_t count, uint8_t *map)
{
    ptrdiff_t stride = (ptrdiff_t)stride_of(work);
    AnswerLane lane;
    if (open_lane(&lane, bytes, count))
        return 1;
    begin(work);
    memset(map, 0, work->width * work->height);
    for (unsigned decision = 0; decision < work->colours; decision++) {
        int all = decision == 0 && work->open == NULL;
        forget(work->contexts, FLATMAP_CONTEXTS);
        for (size_t y = 0; y < work->height; y++) {
            uint8_t *cells = row_of(work, y), *colours = map + y * work->width;
            for (size_t x = 0; x < work->width; x++) {
                if (!(cells[x] & CELL_ASKED))
                    continue;
                AnswerContext *context = &work->contexts[context_of(cells + x, stride, all)];
                unsigned answer = answer_of(&lane, context);
                cells[x] |= (uint8_t)answer;
                /* Flat: the last colour, unless a later decision says otherwise. */
                if (answer)
                    colours[x] = (uint8_t)(decision == 0 ? work->colours : decision);
            }
        }
        carry_on(work, decision);
    }
    return ends_wrong(&lane);
}
