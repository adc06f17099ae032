#include "flatmap_internal.h"

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
        forget(work->contexts, FLATMAP_CONTEXTS);
        for (size_t y = 0; y < work->height; y++) {
            uint8_t *cells = row_of(work, y);
            const uint8_t *colours = map + y * work->width;
            for (size_t x = 0; x < work->width; x++) {
                if (!(cells[x] & CELL_ASKED))
                    continue;
                unsigned answer = decision == 0 ? colours[x] != 0 : colours[x] == decision;
                AnswerContext *context = &work->contexts[context_of(cells + x, stride, all)];
                *steps++ = step_of(context, answer);
                cells[x] |= (uint8_t)answer;
            }
        }
        carry_on(work, decision);
    }
}

size_t flatmap_encode(const uint32_t *steps, size_t count, uint32_t *words)
{
    return encode_steps(steps, count, words);
}
