#include "plane_internal.h"

size_t plane_answers_most(const Plane *work, const uint8_t *plane)
{
    size_t pixels = work->width * work->height, changes = 0;
    unsigned too_large = 0;
    for (size_t y = 0; y < work->height; y++, plane += work->width) {
        unsigned left = 0;
        for (size_t x = 0; x < work->width; x++) {
            too_large |= plane[x] >= work->symbols;
            changes += plane[x] != left;
            left = plane[x];
        }
    }
    if (too_large)
        return SIZE_MAX;
    if (work->symbols == 1)
        return 0;
    return pixels + (work->symbols == 2 ? 0 : changes * (CANDIDATES + bits_of(work->symbols)));
}

/* The position of a symbol in the order 0, -1, 1, -2, 2, ... from the prediction on. */
ANSWERS_INLINE unsigned fold(unsigned symbol, unsigned prediction, unsigned symbols)
{
    unsigned up = symbol < prediction ? symbol + symbols - prediction : symbol - prediction;
    return 2 * up < symbols ? 2 * up : 2 * (symbols - up) - 1;
}

static uint32_t *model_escape(Plane *work, const PlaneSite *site, uint32_t *steps)
{
    unsigned value = site->row[0], bits = bits_of(work->symbols), node = 1;
    AnswerContext *tree = tree_of(work, site, bits);
    if (work->ordered)
        value = fold(value, prediction_of(work, site), work->symbols);
    while (bits--) {
        unsigned bit = value >> bits & 1;
        *steps++ = step_of(&tree[node], bit);
        node = 2 * node + bit;
    }
    return steps;
}

/* The answers of a pixel that is not like the one on its left, one of three symbols or more. */
static uint32_t *model_choice(Plane *work, const PlaneSite *site, uint32_t *steps)
{
    unsigned symbol = site->row[0], answer = 0;
    PlaneChoice choice;
    open_choice(&choice, work, site);
    while (!answer && !is_certain(work, &choice) && find_candidate(&choice)) {
        answer = choice.candidates[choice.at] == symbol;
        *steps++ = step_of(candidate_context(work, site, &choice), answer);
        rule_out(&choice);
    }
    remember(choice.place, symbol);
    return answer || is_certain(work, &choice) ? steps : model_escape(work, site, steps);
}

size_t plane_model(Plane *work, const uint8_t *plane, uint32_t *steps)
{
    const uint32_t *first = steps;
    if (work->symbols == 1)
        return 0;
    begin(work);
    for (size_t y = 0; y < work->height; y++) {
        PlaneSite site = site_of(work, y);
        memcpy(site.row, plane + y * work->width, work->width);
        for (size_t x = 0; x < work->width; x++) {
            unsigned answer = site.row[0] == site.row[-1];
            *steps++ = step_of(left_context(work, &site), answer);
            if (!answer && work->symbols != 2)
                steps = model_choice(work, &site, steps);
            site.row++;
            site.above++;
            site.second++;
        }
    }
    return (size_t)(steps - first);
}

size_t plane_encode(const uint32_t *steps, size_t count, uint32_t *words)
{
    return encode_steps(steps, count, words);
}
