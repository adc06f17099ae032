/* The trellis of dependent quantisation: formats/ans.md, section 4.
 *
 * A coded symbol is a level of one of two quantisers, each of twice the spacing: the even numbers,
 * or the odd numbers and 0. The levels before it decide which quantiser it is. The code is
 * Ungerboeck's of eight states (Channel coding with multilevel/phase signals, 1982). Its subsets
 * are those of VVC's dependent quantisation. */

#ifndef MVMIC_TRELLIS_H
#define MVMIC_TRELLIS_H

#include <stdint.h>

#define TRELLIS_STATES 8

/* A level is 2 k or 2 k - sign(k), and an int16. */
#define TRELLIS_LEVEL_MAX 32767
#define TRELLIS_NUMBER_MAX 16383

/* The state after a symbol of number k, by the state before and k mod 2. */
static const uint8_t TRELLIS_NEXT[TRELLIS_STATES][2] = {{0, 2}, {2, 0}, {4, 6}, {6, 4},
                                                        {5, 7}, {7, 5}, {1, 3}, {3, 1}};

/* Whether a state has the second quantiser: 0 or 1. */
static inline unsigned trellis_second(unsigned state)
{
    return state >> 2;
}

static inline int trellis_level(int number, unsigned state)
{
    int sign = (number > 0) - (number < 0);
    int level = 2 * number - sign * (int)trellis_second(state);
    level = level > TRELLIS_LEVEL_MAX ? TRELLIS_LEVEL_MAX : level;
    return level < -TRELLIS_LEVEL_MAX ? -TRELLIS_LEVEL_MAX : level;
}

#endif
