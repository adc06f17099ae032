/*
 * flatmap.h: a map of which pixels have which flat colour, as one adaptive binary rANS lane.
 *
 * formats/flat.md describes the same format without code. In short: a map has a number 0 to
 * `colours` for every pixel, 0 for a pixel that is not flat. Decision 0 asks of every pixel whether
 * it is flat. Decision k asks of the flat pixels without a colour yet whether they have colour k.
 * Those left after decision colours - 1 have the last colour. A decision's probability is learned
 * on the way, from pixels with the same surroundings. If only some pixels can have a number, only
 * those are asked.
 *
 * As in rans.h, nothing allocates, and a lane starts from state 0 and is read from its end. Damaged
 * words may give a wrong map, but never an access outside of the buffers.
 */
#ifndef MVMIC_FLATMAP_H
#define MVMIC_FLATMAP_H

#include <stddef.h>
#include <stdint.h>

#include "answers.h"

/* Eight colours hold black, white and six shades of the edges of letters between them. */
#define FLATMAP_COLOURS_MAX 8

/* Ten neighbours, a bit each: enough for an edge's direction, few enough to be learned from the
 * thousand pixels of an edge. */
#define FLATMAP_CONTEXTS 1024

/* The map's cells have a border that is never set, so neighbours need no bounds checks. */
#define FLATMAP_MARGIN 2

/* The memory for encoding or decoding. cells has (width + 4) * (height + 4) bytes. */
typedef struct {
    size_t width;
    size_t height;
    const uint8_t *open; /* 1 where a pixel is asked, else 0; NULL if all are */
    unsigned colours;    /* 1 to FLATMAP_COLOURS_MAX */
    uint8_t *cells;
    AnswerContext *contexts; /* [FLATMAP_CONTEXTS] */
} Flatmap;

/* The number of decisions that code map. SIZE_MAX for a number above `colours`, or for one that is
 * not 0 where nothing is asked. Reads only sizes, open and colours of work. */
size_t flatmap_decisions(const Flatmap *work, const uint8_t *map);

/* Takes the decisions of a checked map in order: writes for each the 16-bit probability of a yes
 * times 2, plus the answer, to steps, which has room for flatmap_decisions(). */
void flatmap_model(Flatmap *work, const uint8_t *map, uint32_t *steps);

/* Codes steps, the last first, into words, which has room for count / 2 + 2 of them. Returns the
 * number of words. */
size_t flatmap_encode(const uint32_t *steps, size_t count, uint32_t *words);

/* Decodes a map of width * height numbers from count words, given as little-endian bytes. Returns
 * 0, or 1 if the words cannot be what an encoder wrote: the last is 0, or the lane does not end
 * where the map does. */
int flatmap_decode(Flatmap *work, const uint8_t *bytes, size_t count, uint8_t *map);

#endif
