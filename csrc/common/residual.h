/*
 * residual.h: what an image differs from its base, exactly or up to a bound, as one lane of
 * answers.
 *
 * formats/residual.md describes the same format without code. In short: a sample is predicted from
 * its neighbours, from the base and from the planes before it, by weights that are fitted on the
 * way. Questions then narrow the distance from the prediction down. Each has a probability that a
 * small network mixes from what such questions were answered before.
 *
 * As in rans.h, nothing allocates, and a lane starts from state 0 and is read from its end. Damaged
 * words may give wrong samples, but never an access outside of the buffers. All is done in
 * integers, and no order of additions matters.
 */
#ifndef MVMIC_RESIDUAL_H
#define MVMIC_RESIDUAL_H

#include <stddef.h>
#include <stdint.h>

#include "answers.h"

#define RESIDUAL_PLANES_MAX 3

/* Rows have a margin, so neighbours need no bounds checks: three columns, and three rows above. */
#define RESIDUAL_MARGIN 3
#define RESIDUAL_ROWS 4

/* Inputs of the prediction: neighbours in the plane, in the base and in other planes. */
#define RESIDUAL_INPUTS_MAX 32

/* Questions that have probabilities of their own, and scales of the error that choose a mixer. */
#define RESIDUAL_QUESTIONS 32
#define RESIDUAL_SCALES 24

/* Five sets of contexts, and what a mixer sums: the model's estimate, theirs, and a constant. */
#define RESIDUAL_SETS 5
#define RESIDUAL_CONTEXTS ((size_t)RESIDUAL_QUESTIONS * (1024 + 600 + 600 + 1024 + 125))
#define RESIDUAL_MIXED (1 + RESIDUAL_SETS + 1)
#define RESIDUAL_MIXERS ((size_t)2 * RESIDUAL_SCALES * RESIDUAL_QUESTIONS)

/* No sample has more answers. 18 bits of distance take at most 40 questions of size, and 18 more.
 */
#define RESIDUAL_ANSWERS_MOST 64

#define RESIDUAL_BOUND_MAX 32767

/* The memory for encoding or decoding. The caller sets all above the line. */
typedef struct {
    size_t width;
    size_t height;
    unsigned planes; /* 1, or 3: red, green, blue */
    int32_t bound;   /* no sample is off by more; 0 to RESIDUAL_BOUND_MAX */
    int32_t low;     /* the range of samples: within -32768 to 65535, and at most 65536 values, */
    int32_t high;    /* or 256 in three planes */
    const int32_t *base; /* [planes][height][width], in low to high; NULL if there is none */
    const uint8_t *mask; /* [height][width]: 0 where samples are those of the base; or NULL */
    int32_t *samples;    /* [planes][height][width] */
    int32_t *anchors;    /* [height][width], if there is a base */
    int32_t *rows;       /* [RESIDUAL_ROWS][width + 2 * RESIDUAL_MARGIN] */
    int32_t *errors;     /* the same */
    uint32_t *contexts;  /* [RESIDUAL_CONTEXTS] */
    int32_t *mixers;     /* [RESIDUAL_MIXERS][RESIDUAL_MIXED] */

    /* Of a plane: its fit. Products and targets are weighted sums over the samples so far. */
    int32_t products[RESIDUAL_INPUTS_MAX][RESIDUAL_INPUTS_MAX];
    int32_t targets[RESIDUAL_INPUTS_MAX];
    int32_t weights[RESIDUAL_INPUTS_MAX];
    unsigned inputs;
    unsigned turn;
    /* Of all planes: tables. */
    int16_t logits[4096];
    uint16_t shares[256];
} Residual;

/* Begins an image. */
void residual_begin(Residual *work);

/* Takes the answers of a row in order. `samples` holds the image; those of the row become what a
 * decoder has. Rows come one after the other, all of a plane before the next plane: 1, 0, 2 of
 * three. Writes for each answer the 16-bit probability of a yes times 2, plus the answer, to steps,
 * which has room for RESIDUAL_ANSWERS_MOST * width. Returns their number. */
size_t residual_model_row(Residual *work, unsigned plane, size_t y, uint32_t *steps);

/* Codes steps, the last first, into words, which has room for count / 2 + 2 of them. `lane` is the
 * state of the lane: 0 at first, and left over at the end, a word at a time, the low one first.
 * Returns the number of words. */
size_t residual_encode(const uint32_t *steps, size_t count, uint64_t *lane, uint32_t *words);

/* Decodes all samples from count words, given as little-endian bytes. Returns 0, or 1 if the words
 * cannot be what an encoder wrote: samples may then be as they were. */
int residual_decode(Residual *work, const uint8_t *bytes, size_t count);

#endif
