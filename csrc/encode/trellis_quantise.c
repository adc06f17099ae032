#include "trellis_quantise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trellis.h"

/* The state from which a number with this last bit leads to `next`. */
static unsigned trellis_before(unsigned next, unsigned bit)
{
    unsigned state = 0;
    while (TRELLIS_NEXT[state][bit] != next)
        state++;
    return state;
}

/* The best candidates for a symbol in one of the quantisers, by the last bit of the number. */
typedef struct {
    double cost[2];
    int number[2];
} Choice;

/* For one symbol, the best way into each state. */
typedef struct {
    int16_t number[2][2]; /* by quantiser and last bit */
    uint8_t ways;         /* bit s: the last bit of the number before state s */
} Step;

static double cost_of(const TrellisCosts *costs, const float *bits, int number, int second,
                      double size, double price)
{
    int level = 2 * number - (number > 0) * second;
    double error = size - level * costs->spacing;
    size_t column = (size_t)number < costs->width ? (size_t)number : costs->width - 1;
    return bits[column] + price / 2 * error * error;
}

/* Of the nearest number below or at a position, the one before it, the one after it and 0. */
static Choice choose(const TrellisCosts *costs, int second, double size, unsigned table,
                     double price)
{
    Choice best;
    const float *bits = costs->bits + (table + (size_t)second * costs->second) * costs->width;
    double levels = size / costs->spacing;
    levels = levels < 2 * TRELLIS_NUMBER_MAX - 2 ? levels : 2 * TRELLIS_NUMBER_MAX - 2;
    int below = (int)((levels + second) / 2);
    int same = below & 1, other = !same;
    best.number[same] = below;
    best.cost[same] = cost_of(costs, bits, below, second, size, price);
    best.number[other] = below + 1;
    best.cost[other] = cost_of(costs, bits, below + 1, second, size, price);
    if (below == 0)
        return best;
    double cost = cost_of(costs, bits, below - 1, second, size, price);
    if (cost < best.cost[other]) {
        best.number[other] = below - 1;
        best.cost[other] = cost;
    }
    cost = cost_of(costs, bits, 0, second, size, price);
    if (cost < best.cost[0]) {
        best.number[0] = 0;
        best.cost[0] = cost;
    }
    return best;
}

/* Viterbi's algorithm. States come in pairs, 0 and 1, 2 and 3, ... The states of a pair have the
 * same quantiser and lead to the same two states, by numbers whose last bits differ. */
int trellis_quantise(const TrellisCosts *costs, const double *positions, const uint8_t *tables,
                     const double *prices, size_t n, int16_t *symbols)
{
    Step *steps = malloc((n + 1) * sizeof *steps);
    double cost[TRELLIS_STATES] = {0};
    if (steps == NULL)
        return 0;
    for (unsigned state = 1; state < TRELLIS_STATES; state++)
        cost[state] = INFINITY;
    for (size_t i = 0; i < n; i++) {
        double size = fabs(positions[i]), next[TRELLIS_STATES];
        Choice choices[2];
        unsigned ways = 0;
        for (int second = 0; second < 2; second++) {
            choices[second] = choose(costs, second, size, tables[i], prices[i]);
            for (unsigned bit = 0; bit < 2; bit++)
                steps[i].number[second][bit] = (int16_t)choices[second].number[bit];
        }
        for (unsigned state = 0; state < TRELLIS_STATES; state += 2) {
            const double *even_odd = choices[trellis_second(state)].cost;
            for (unsigned bit = 0; bit < 2; bit++) {
                unsigned to = TRELLIS_NEXT[state][bit];
                double first = cost[state] + even_odd[bit];
                double second = cost[state + 1] + even_odd[!bit];
                next[to] = second < first ? second : first;
                ways |= (second < first ? !bit : bit) << to;
            }
        }
        memcpy(cost, next, sizeof cost);
        steps[i].ways = (uint8_t)ways;
    }
    unsigned state = 0;
    for (unsigned other = 1; other < TRELLIS_STATES; other++)
        state = cost[other] < cost[state] ? other : state;
    for (size_t i = n; i-- > 0;) {
        unsigned bit = steps[i].ways >> state & 1;
        state = trellis_before(state, bit);
        int level = trellis_level(steps[i].number[trellis_second(state)][bit], state);
        symbols[i] = (int16_t)(positions[i] < 0 ? -level : level);
    }
    free(steps);
    return 1;
}
