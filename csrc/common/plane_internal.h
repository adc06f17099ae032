/* The probability model of plane.h, which the encoder and the decoder run in the same steps. */
#ifndef MVMIC_PLANE_INTERNAL_H
#define MVMIC_PLANE_INTERNAL_H

#include <string.h>

#include "answers_internal.h"
#include "plane.h"

#define CANDIDATES 4

/* Three rows at one column: that of the pixel, and the two above. */
typedef struct {
    uint8_t *row;
    uint8_t *above;
    uint8_t *second;
} PlaneSite;

/* The candidates of a pixel that is not like its left neighbour. */
typedef struct {
    uint8_t candidates[CANDIDATES];
    uint8_t ruled_out[1 + CANDIDATES];
    unsigned count; /* of those that are ruled out */
    unsigned at;    /* of `candidates`, the one that is asked about */
    PlanePlace *place;
} PlaneChoice;

ANSWERS_INLINE unsigned bits_of(unsigned symbols)
{
    unsigned bits = 0;
    while (1u << bits < symbols)
        bits++;
    return bits;
}

/* Clears only what this number of symbols needs: small planes should not pay for large ones. */
static void begin(Plane *work)
{
    size_t contexts = PLANE_LEFT_CONTEXTS;
    if (work->symbols > 2) {
        size_t trees = work->ordered ? 4 : work->symbols;
        contexts += PLANE_CANDIDATE_CONTEXTS + (trees << bits_of(work->symbols));
        memset(work->places, 0, PLANE_PLACES * sizeof *work->places);
    }
    forget(work->contexts, contexts);
    memset(work->rows, 0, PLANE_ROWS * (work->width + 2 * PLANE_MARGIN));
}

/* Column 0 of row y. */
ANSWERS_INLINE PlaneSite site_of(const Plane *work, size_t y)
{
    uint8_t *first = work->rows + PLANE_MARGIN;
    size_t stride = work->width + 2 * PLANE_MARGIN;
    PlaneSite site;
    site.row = first + y % PLANE_ROWS * stride;
    site.above = first + (y + 2) % PLANE_ROWS * stride;
    site.second = first + (y + 1) % PLANE_ROWS * stride;
    return site;
}

ANSWERS_INLINE AnswerContext *left_context(const Plane *work, const PlaneSite *site)
{
    const uint8_t *row = site->row, *above = site->above, *second = site->second;
    unsigned left = row[-1];
    unsigned context = (unsigned)(above[0] == left) | (unsigned)(above[-1] == left) << 1 |
                       (unsigned)(above[1] == left) << 2 | (unsigned)(row[-2] == left) << 3 |
                       (unsigned)(second[0] == left) << 4 | (unsigned)(above[2] == left) << 5 |
                       (unsigned)(above[-2] == left) << 6 | (unsigned)(second[-1] == left) << 7 |
                       (unsigned)(second[1] == left) << 8 | (unsigned)(left == 0) << 9;
    return &work->contexts[context];
}

/* The place of these neighbours. Each byte of the sum reaches the upper bits of the product. */
ANSWERS_INLINE PlanePlace *place_of(const Plane *work, const PlaneSite *site)
{
    const uint8_t *row = site->row, *above = site->above;
    uint32_t four = (uint32_t)row[-1] | (uint32_t)above[0] << 8 | (uint32_t)above[-1] << 16 |
                    (uint32_t)above[1] << 24;
    uint32_t two = (uint32_t)row[-2] | (uint32_t)site->second[0] << 8;
    uint32_t hash = four * 0x9E3779B1u + two * 0x85EBCA6Bu;
    return &work->places[hash >> (32 - PLANE_MEMORY_BITS)];
}

ANSWERS_INLINE void open_choice(PlaneChoice *choice, const Plane *work, const PlaneSite *site)
{
    choice->place = place_of(work, site);
    choice->candidates[0] = choice->place->symbol;
    choice->candidates[1] = site->above[0];
    choice->candidates[2] = site->above[1];
    choice->candidates[3] = site->above[-1];
    choice->ruled_out[0] = site->row[-1];
    choice->count = 1;
    choice->at = choice->place->times == 0; /* nothing is remembered */
}

ANSWERS_INLINE int is_ruled_out(const PlaneChoice *choice, unsigned symbol)
{
    int found = 0;
    for (unsigned i = 0; i < choice->count; i++)
        found |= choice->ruled_out[i] == symbol;
    return found;
}

/* Moves on to the next candidate that has not been ruled out; 0 if there is none. */
ANSWERS_INLINE int find_candidate(PlaneChoice *choice)
{
    while (choice->at < CANDIDATES && is_ruled_out(choice, choice->candidates[choice->at]))
        choice->at++;
    return choice->at < CANDIDATES;
}

ANSWERS_INLINE void rule_out(PlaneChoice *choice)
{
    choice->ruled_out[choice->count++] = choice->candidates[choice->at++];
}

/* Whether a single symbol is left, so that nothing need be asked. */
ANSWERS_INLINE int is_certain(const Plane *work, const PlaneChoice *choice)
{
    return choice->count + 1 == work->symbols;
}

ANSWERS_INLINE AnswerContext *candidate_context(const Plane *work, const PlaneSite *site,
                                                const PlaneChoice *choice)
{
    const uint8_t *row = site->row, *above = site->above, *second = site->second;
    unsigned symbol = choice->candidates[choice->at], context;
    if (choice->at == 0)
        context = (unsigned)(above[0] == symbol) | (unsigned)(above[1] == symbol) << 1 |
                  (unsigned)(above[-1] == symbol) << 2 | (unsigned)(row[-2] == symbol) << 3 |
                  (unsigned)choice->place->times << 4;
    else
        context = (unsigned)(second[0] == symbol) | (unsigned)(row[-2] == symbol) << 1 |
                  (unsigned)(second[1] == symbol) << 2 | (unsigned)(second[-1] == symbol) << 3 |
                  (unsigned)(above[2] == symbol) << 4 | (unsigned)(above[-2] == symbol) << 5;
    return &work->contexts[PLANE_LEFT_CONTEXTS + 64 * choice->at + context];
}

ANSWERS_INLINE void remember(PlanePlace *place, unsigned symbol)
{
    if (place->times == 0 || place->symbol != symbol) {
        place->symbol = (uint8_t)symbol;
        place->times = 0;
    }
    if (place->times < 3)
        place->times++;
}

ANSWERS_INLINE unsigned distance(unsigned a, unsigned b)
{
    return a < b ? b - a : a - b;
}

ANSWERS_INLINE unsigned greater(unsigned a, unsigned b)
{
    return a < b ? b : a;
}

/* The contexts of an escape's tree, by the left symbol or, where symbols have an order, by how
 * lively the surroundings are. Node 0 is none. Trees by the left symbol took an eighth off palettes
 * of 256 colours on training images. */
ANSWERS_INLINE AnswerContext *tree_of(const Plane *work, const PlaneSite *site, unsigned bits)
{
    const uint8_t *above = site->above;
    size_t tree = site->row[-1];
    if (work->ordered) {
        unsigned steps =
            greater(distance(site->row[-1], above[-1]),
                    greater(distance(above[0], above[-1]), distance(above[0], above[1])));
        tree = (size_t)(steps > 1) + (steps > 4) + (steps > 12);
    }
    return work->contexts + PLANE_LEFT_CONTEXTS + PLANE_CANDIDATE_CONTEXTS + (tree << bits);
}

/* What an escape is relative to: left + above - above left, but between the first two. */
ANSWERS_INLINE unsigned prediction_of(const Plane *work, const PlaneSite *site)
{
    unsigned left = site->row[-1], above = site->above[0], corner = site->above[-1];
    unsigned high = greater(left, above), low = left + above - high;
    if (!work->ordered)
        return 0;
    return corner >= high ? low : corner <= low ? high : left + above - corner;
}

#endif
