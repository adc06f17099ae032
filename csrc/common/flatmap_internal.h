/* The probability model of flatmap.h, which the encoder and the decoder run in the same steps. */
#ifndef MVMIC_FLATMAP_INTERNAL_H
#define MVMIC_FLATMAP_INTERNAL_H

#include <string.h>

#include "answers_internal.h"
#include "flatmap.h"

/* Bits of a cell. */
#define CELL_YES 1u   /* this decision was answered with yes */
#define CELL_ASKED 2u /* this decision is asked of this pixel */

ANSWERS_INLINE size_t stride_of(const Flatmap *work)
{
    return work->width + 2 * FLATMAP_MARGIN;
}

ANSWERS_INLINE uint8_t *row_of(const Flatmap *work, size_t y)
{
    return work->cells + (y + FLATMAP_MARGIN) * stride_of(work) + FLATMAP_MARGIN;
}

/* The surroundings of a cell: six answers already given, and four more bits. If all pixels are
 * asked, these are four more answers. Else they say whether the four nearest pixels are asked,
 * which is known on all sides. */
ANSWERS_INLINE unsigned context_of(const uint8_t *cell, ptrdiff_t stride, int all)
{
    unsigned answers = (cell[-1] & 1u) | (cell[-stride] & 1u) << 1 | (cell[-stride - 1] & 1u) << 2 |
                       (cell[-stride + 1] & 1u) << 3 | (cell[-2] & 1u) << 4 |
                       (cell[-2 * stride] & 1u) << 5;
    if (all)
        return answers | (cell[-stride + 2] & 1u) << 6 | (cell[-stride - 2] & 1u) << 7 |
               (cell[-2 * stride - 1] & 1u) << 8 | (cell[-2 * stride + 1] & 1u) << 9;
    return answers | (cell[1] & 2u) << 5 | (cell[stride] & 2u) << 6 | (cell[-1] & 2u) << 7 |
           (cell[-stride] & 2u) << 8;
}

/* Decision 0 is asked of every pixel that is open. */
static void begin(Flatmap *work)
{
    memset(work->cells, 0, stride_of(work) * (work->height + 2 * FLATMAP_MARGIN));
    for (size_t y = 0; y < work->height; y++) {
        uint8_t *cells = row_of(work, y);
        for (size_t x = 0; x < work->width; x++)
            cells[x] = work->open == NULL || work->open[y * work->width + x] ? CELL_ASKED : 0;
    }
}

/* Which pixels the next decision asks: after decision 0 those with a yes, later those with a no. */
static void carry_on(Flatmap *work, unsigned decision)
{
    unsigned wanted = decision == 0 ? CELL_ASKED | CELL_YES : CELL_ASKED;
    for (size_t y = 0; y < work->height; y++) {
        uint8_t *cells = row_of(work, y);
        for (size_t x = 0; x < work->width; x++)
            cells[x] = cells[x] == wanted ? CELL_ASKED : 0;
    }
}

#endif
