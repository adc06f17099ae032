/*
 * flatmap.h: a map of which pixels have which flat colour, as one adaptive binary rANS lane.
 *
 * formats/flat.md describes the same format without code. In short: a map has a number 0 to
 * `colours` for every pixel, 0 for a pixel that is not flat. Decision 0 asks of every pixel whether
 * it is flat, decision k of those still in question whether they have colour k; what is left after
 * decision colours - 1 has the last colour. A decision's probability is learned on the way, from
 * pixels with the same surroundings. Where it is known that only some pixels can have a number,
 * only these are asked.
 *
 * As in rans.h nothing allocates, a lane starts from state 0 and is read from its end, and foreign
 * words may give a wrong map but no access outside of what was given.
 */
#ifndef MVMIC_FLATMAP_H
#define MVMIC_FLATMAP_H

#include <stddef.h>
#include <stdint.h>

/* Eight colours hold black, white and six shades of the edges of letters between them. */
#define FLATMAP_COLOURS_MAX 8

/* Ten neighbours, a bit each: enough for an edge's direction, few enough to be learned from the
 * thousand pixels of an edge. */
#define FLATMAP_CONTEXTS 1024

/* Probabilities of a coding step have 16 bits: a decision that is certain, as nearly all of a map
 * are, then costs 2^-16 bits. */
#define FLATMAP_PRECISION 16

/* The share of a new observation falls to 2 / (2 * 30 + 3): a probability remembers about the last
 * thirty pixels like this one. 30, 60, 120 and 250 were tried on validation images. */
#define FLATMAP_MEMORY 30

/* A border around the map's cells that is never set spares the neighbours' bounds checks. */
#define FLATMAP_MARGIN 2

/* Probability of "yes" in units of 2^-32, and how often it was asked, up to FLATMAP_MEMORY. */
typedef struct {
    uint32_t yes;
    uint32_t seen;
} FlatmapContext;

/* What both directions work on. cells has (width + 4) * (height + 4) bytes. */
typedef struct {
    size_t width;
    size_t height;
    const uint8_t *open; /* 1 where a pixel is asked, else 0; NULL if all are */
    unsigned colours;    /* 1 to FLATMAP_COLOURS_MAX */
    uint8_t *cells;
    FlatmapContext *contexts; /* [FLATMAP_CONTEXTS] */
} Flatmap;

/* Number of decisions that map takes. SIZE_MAX for a number above `colours`, or one that is not 0
 * where nothing is asked. Looks at no more of work than sizes, open and colours. */
size_t flatmap_decisions(const Flatmap *work, const uint8_t *map);

/* Takes the decisions of a checked map in order: writes for each the 16-bit probability of a yes
 * times 2, plus the answer, to steps, which has room for flatmap_decisions(). */
void flatmap_model(Flatmap *work, const uint8_t *map, uint32_t *steps);

/* Codes steps, the last first, into words, which has room for count / 2 + 2 words, and returns how
 * many words there are. */
size_t flatmap_encode(const uint32_t *steps, size_t count, uint32_t *words);

/* Decodes a map of width * height numbers from count words, given as little-endian bytes. Returns
 * 0, or 1 if the words cannot be what an encoder wrote: the last is 0, or the lane does not end
 * where the map does. */
int flatmap_decode(Flatmap *work, const uint8_t *bytes, size_t count, uint8_t *map);

#endif
