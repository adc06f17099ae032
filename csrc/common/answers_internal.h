/* The steps of answers.h, which encoders and decoders share. */
#ifndef MVMIC_ANSWERS_INTERNAL_H
#define MVMIC_ANSWERS_INTERNAL_H

#include <stddef.h>

#include "answers.h"

#if defined(__GNUC__) || defined(__clang__)
#define ANSWERS_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define ANSWERS_INLINE static __forceinline
#else
#define ANSWERS_INLINE static inline
#endif

/* As in rans_decode.c: a word is taken in below this. */
#define STATE_LOW ((uint64_t)1 << 32)

ANSWERS_INLINE void forget(AnswerContext *contexts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        contexts[i].yes = (uint32_t)1 << 31;
        contexts[i].seen = 0;
    }
}

/* Probability of a yes in 1 to 2^16 - 1: neither answer may be impossible. */
ANSWERS_INLINE uint32_t probability_of(const AnswerContext *context)
{
    uint32_t yes = context->yes >> (32 - ANSWERS_PRECISION);
    return yes + (yes == 0);
}

/* Nearly all contexts have been asked often. A compiler divides by a constant without a division.
 */
ANSWERS_INLINE uint32_t share_of(uint32_t probability, uint32_t seen)
{
    uint64_t twice = (uint64_t)probability * 2;
    if (seen == ANSWERS_MEMORY)
        return (uint32_t)(twice / (2 * ANSWERS_MEMORY + 3));
    return (uint32_t)(twice / (2 * seen + 3));
}

ANSWERS_INLINE void learn(AnswerContext *context, unsigned answer)
{
    if (answer)
        context->yes += share_of(UINT32_MAX - context->yes, context->seen);
    else
        context->yes -= share_of(context->yes, context->seen);
    context->seen += context->seen < ANSWERS_MEMORY;
}

/* A coding step, to be coded later: the 16-bit probability of a yes times 2, plus the answer. */
ANSWERS_INLINE uint32_t step_of(AnswerContext *context, unsigned answer)
{
    uint32_t step = probability_of(context) << 1 | answer;
    learn(context, answer);
    return step;
}

/* Codes steps, the last first, onto a lane with this state, into words, which has room for
 * count / 2 + 2 of them. Returns the number of words. */
ANSWERS_INLINE size_t encode_onto(uint64_t *lane, const uint32_t *steps, size_t count,
                                  uint32_t *words)
{
    uint64_t state = *lane;
    size_t written = 0;
    while (count--) {
        uint32_t yes = steps[count] >> 1, no = (1u << ANSWERS_PRECISION) - yes;
        uint32_t freq = steps[count] & 1 ? yes : no, start = steps[count] & 1 ? no : 0;
        if (state >> (64 - ANSWERS_PRECISION) >= freq) {
            words[written++] = (uint32_t)state;
            state >>= 32;
        }
        state = ((state / freq) << ANSWERS_PRECISION) + state % freq + start;
    }
    *lane = state;
    return written;
}

/* A whole lane of steps. Room and return value as for encode_onto. */
ANSWERS_INLINE size_t encode_steps(const uint32_t *steps, size_t count, uint32_t *words)
{
    uint64_t state = 0;
    size_t written = encode_onto(&state, steps, count, words);
    for (; state != 0; state >>= 32)
        words[written++] = (uint32_t)state;
    return written;
}

/* A lane that is read from its end: `left` words, as little-endian bytes. */
typedef struct {
    uint64_t state;
    const uint8_t *bytes;
    size_t left;
} AnswerLane;

ANSWERS_INLINE void refill(AnswerLane *lane)
{
    const uint8_t *word = lane->bytes + 4 * --lane->left;
    lane->state = lane->state << 32 | (uint32_t)word[3] << 24 | (uint32_t)word[2] << 16 |
                  (uint32_t)word[1] << 8 | word[0];
}

/* Opens a lane of count words. Returns 0, or 1 for a last word of 0, which no encoder writes. */
ANSWERS_INLINE int open_lane(AnswerLane *lane, const uint8_t *bytes, size_t count)
{
    lane->state = 0;
    lane->bytes = bytes;
    lane->left = count;
    for (int i = 0; i < 2 && lane->left != 0; i++)
        refill(lane);
    return count != 0 && (bytes[4 * count - 1] | bytes[4 * count - 2] | bytes[4 * count - 3] |
                          bytes[4 * count - 4]) == 0;
}

/* The next answer, given the probability of a yes in 2^-16. */
ANSWERS_INLINE unsigned take_answer(AnswerLane *lane, uint32_t yes)
{
    uint32_t no = (1u << ANSWERS_PRECISION) - yes;
    uint32_t slot = (uint32_t)lane->state & ((1u << ANSWERS_PRECISION) - 1);
    unsigned answer = slot >= no;
    uint32_t freq = answer ? yes : no, start = answer ? no : 0;
    lane->state = (lane->state >> ANSWERS_PRECISION) * freq + slot - start;
    if (lane->state < STATE_LOW && lane->left != 0)
        refill(lane);
    return answer;
}

ANSWERS_INLINE unsigned answer_of(AnswerLane *lane, AnswerContext *context)
{
    unsigned answer = take_answer(lane, probability_of(context));
    learn(context, answer);
    return answer;
}

/* Whether the lane does not end with its last answer. Nor are words left when the state is 0: while
 * there are any, a step begins at 2^32 or above and ends above 2^16, so a state of 0 has none
 * behind it. */
ANSWERS_INLINE int ends_wrong(const AnswerLane *lane)
{
    return lane->state != 0;
}

#endif
