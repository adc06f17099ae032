/*
 * plane.h: a plane of few values, such as an alpha channel, a mask, labels or palette indices, as
 * one lane of answers.
 *
 * formats/plane.md describes the same format without code. In short: a pixel first answers whether
 * it equals its left neighbour, and nearly always does. If not, it is asked about up to four more
 * candidates, and if it is none of them its value is spelled out bit by bit. All probabilities are
 * learned on the way.
 *
 * As in rans.h, nothing allocates, and a lane starts from state 0 and is read from its end. Damaged
 * words may give a wrong plane, but never an access outside of the buffers.
 */
#ifndef MVMIC_PLANE_H
#define MVMIC_PLANE_H

#include <stddef.h>
#include <stdint.h>

#include "answers.h"

/* A symbol is a byte. */
#define PLANE_SYMBOLS_MAX 256

/* Contexts of the first question, ten bits each; of the four candidates, six bits each; and of the
 * nodes of an escape's tree, one tree for each symbol on the left. */
#define PLANE_LEFT_CONTEXTS 1024
#define PLANE_CANDIDATE_CONTEXTS (4 * 64)
#define PLANE_CONTEXTS                                                                             \
    (PLANE_LEFT_CONTEXTS + PLANE_CANDIDATE_CONTEXTS + PLANE_SYMBOLS_MAX * PLANE_SYMBOLS_MAX)

/* Symbols are remembered by their neighbours: 2^16 places hold the outlines of a page of text. With
 * 2^14 text took a tenth more. */
#define PLANE_MEMORY_BITS 16
#define PLANE_PLACES ((size_t)1 << PLANE_MEMORY_BITS)

/* Rows have a border of zeros, so neighbours need no bounds checks. */
#define PLANE_MARGIN 2
#define PLANE_ROWS 3

/* What stood last between the same neighbours, and how often in a row, up to 3; 0 is never. */
typedef struct {
    uint8_t symbol;
    uint8_t times;
} PlanePlace;

/* The memory for encoding or decoding. */
typedef struct {
    size_t width;
    size_t height;
    unsigned symbols;        /* 1 to PLANE_SYMBOLS_MAX */
    int ordered;             /* whether symbols that are close are alike */
    uint8_t *rows;           /* [PLANE_ROWS][width + 2 * PLANE_MARGIN] */
    PlanePlace *places;      /* [PLANE_PLACES] */
    AnswerContext *contexts; /* [PLANE_CONTEXTS] */
} Plane;

/* No fewer than the answers that code plane; SIZE_MAX for a symbol that is too large. Reads only
 * sizes and symbols of work. At most 13 for each pixel. */
size_t plane_answers_most(const Plane *work, const uint8_t *plane);

/* Takes the answers of a checked plane in order: writes for each the 16-bit probability of a yes
 * times 2, plus the answer, to steps, which has room for plane_answers_most(). Returns their
 * number. */
size_t plane_model(Plane *work, const uint8_t *plane, uint32_t *steps);

/* Codes steps, the last first, into words, which has room for count / 2 + 2 of them. Returns the
 * number of words. */
size_t plane_encode(const uint32_t *steps, size_t count, uint32_t *words);

/* Decodes a plane of width * height symbols from count words, given as little-endian bytes. Returns
 * 0, or 1 if the words cannot be what an encoder wrote. The plane is then filled in part only. */
int plane_decode(Plane *work, const uint8_t *bytes, size_t count, uint8_t *plane);

#endif
