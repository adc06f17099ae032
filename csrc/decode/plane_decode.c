#include "plane_internal.h"

/* No symbol: the lane says what an encoder never does. */
#define DAMAGED PLANE_SYMBOLS_MAX

/* The symbol at a position in the order 0, -1, 1, -2, 2, ... from the prediction on. */
ANSWERS_INLINE unsigned unfold(unsigned position, unsigned prediction, unsigned symbols)
{
    unsigned up = position % 2 == 0 ? position / 2 : symbols - (position + 1) / 2;
    return prediction + up < symbols ? prediction + up : prediction + up - symbols;
}

static unsigned decode_escape(Plane *work, const PlaneSite *site, const PlaneChoice *choice,
                              AnswerLane *lane)
{
    unsigned bits = bits_of(work->symbols), node = 1, value;
    AnswerContext *tree = tree_of(work, site, bits);
    while (node >> bits == 0)
        node = 2 * node + answer_of(lane, &tree[node]);
    value = node - (1u << bits);
    if (value >= work->symbols)
        return DAMAGED;
    if (work->ordered)
        value = unfold(value, prediction_of(work, site), work->symbols);
    return is_ruled_out(choice, value) ? DAMAGED : value;
}

/* The only symbol that has not been ruled out. */
static unsigned certain_symbol(const PlaneChoice *choice)
{
    unsigned symbol = 0;
    while (is_ruled_out(choice, symbol))
        symbol++;
    return symbol;
}

/* A pixel that is not like the one on its left, one of three symbols or more. */
static unsigned decode_choice(Plane *work, const PlaneSite *site, AnswerLane *lane)
{
    unsigned symbol = DAMAGED, answer = 0;
    PlaneChoice choice;
    open_choice(&choice, work, site);
    while (!answer && !is_certain(work, &choice) && find_candidate(&choice)) {
        symbol = choice.candidates[choice.at];
        answer = answer_of(lane, candidate_context(work, site, &choice));
        rule_out(&choice);
    }
    if (!answer)
        symbol = is_certain(work, &choice) ? certain_symbol(&choice)
                                           : decode_escape(work, site, &choice, lane);
    if (symbol != DAMAGED)
        remember(choice.place, symbol);
    return symbol;
}

int plane_decode(Plane *work, const uint8_t *bytes, size_t count, uint8_t *plane)
{
    AnswerLane lane;
    if (open_lane(&lane, bytes, count))
        return 1;
    if (work->symbols == 1) {
        memset(plane, 0, work->width * work->height);
        return ends_wrong(&lane);
    }
    begin(work);
    for (size_t y = 0; y < work->height; y++) {
        PlaneSite site = site_of(work, y);
        for (size_t x = 0; x < work->width; x++) {
            unsigned symbol = site.row[-1];
            if (!answer_of(&lane, left_context(work, &site))) {
                symbol = work->symbols == 2 ? 1 - symbol : decode_choice(work, &site, &lane);
                if (symbol == DAMAGED)
                    return 1;
            }
            *site.row++ = (uint8_t)symbol;
            site.above++;
            site.second++;
        }
        memcpy(plane + y * work->width, site.row - work->width, work->width);
    }
    return ends_wrong(&lane);
}
