/*
 * answers.h: yes-or-no answers with learned probabilities, as one binary rANS lane.
 *
 * The maps of flatmap.h and the planes of plane.h are both such answers. formats/flat.md describes
 * the probabilities (section 2) and the lane (section 3) without code.
 */
#ifndef MVMIC_ANSWERS_H
#define MVMIC_ANSWERS_H

#include <stdint.h>

/* Probabilities of a coding step have 16 bits. A certain answer then costs 2^-16 bits, and nearly
 * all answers of a map are certain. */
#define ANSWERS_PRECISION 16

/* The share of a new observation falls to 2 / (2 * 30 + 3): a probability remembers about the last
 * thirty pixels like this one. 30, 60, 120 and 250 were tried on validation images. */
#define ANSWERS_MEMORY 30

/* Probability of "yes" in units of 2^-32, and how often it was asked, up to ANSWERS_MEMORY. */
typedef struct {
    uint32_t yes;
    uint32_t seen;
} AnswerContext;

#endif
