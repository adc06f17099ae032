#include "residual_internal.h"

static uint32_t *answer(const Residual *work, const Site *site, int number, int32_t estimate,
                        unsigned yes, uint32_t *steps)
{
    Question question;
    ask(work, site, &question, number, estimate);
    learn_from(work, &question, yes);
    *steps = question.yes << 1 | yes;
    return steps + 1;
}

/* The answers that find a size among those of `size` to top - 1. */
static uint32_t *model_halves(const Residual *work, const Site *site, int32_t sign, int32_t size,
                              int32_t low, int32_t top, uint32_t *steps)
{
    for (int depth = 0; top - low > 1; depth++) {
        int32_t middle = (low + top) / 2, estimate = estimate_half(site, sign, low, middle, top);
        unsigned yes = size >= middle;
        if (depth < HALVES)
            steps = answer(work, site, HALF + depth, estimate, yes, steps);
        else
            *steps++ = plain_half(estimate) << 1 | yes;
        if (yes)
            low = middle;
        else
            top = middle;
    }
    return steps;
}

/* The answers that find a distance, which is not 0. */
static uint32_t *model_size(const Residual *work, const Site *site, int32_t distance,
                            uint32_t *steps)
{
    int32_t sign = distance > 0 ? 1 : -1, size = abs(distance);
    int32_t most = sign > 0 ? site->up : site->down, low = 1, width = 1 << site->widen;
    if (site->up > 0 && site->down > 0)
        steps = answer(work, site, IS_ABOVE, estimate_above(site), sign > 0, steps);
    for (int number = 0; low + width <= most; number++) {
        int32_t top = low + width, estimate = estimate_size(site, sign, low, top);
        int question = (sign > 0 ? SIZE_ABOVE : SIZE_BELOW) + (number < SIZES ? number : SIZES - 1);
        steps = answer(work, site, question, estimate, size >= top, steps);
        if (size < top)
            return model_halves(work, site, sign, size, low, top, steps);
        low = top;
        width *= number >= 3 && number % 2 == 1 ? 2 : 1;
    }
    return model_halves(work, site, sign, size, low, most + 1, steps);
}

size_t residual_model_row(Residual *work, unsigned plane, size_t y, uint32_t *steps)
{
    const uint32_t *first = steps;
    const int32_t *row = work->samples + (plane * work->height + y) * work->width;
    if (y == 0)
        open_plane(work, plane);
    open_row(work, y);
    for (size_t x = 0; x < work->width; x++) {
        Site site;
        int32_t error, distance, value;
        if (work->mask && !work->mask[y * work->width + x]) {
            skip_site(work, plane, y, x);
            continue;
        }
        open_site(work, &site, plane, y, x);
        error = row[x] + site.low - work->low - site.start;
        distance =
            error > 0 ? (error + work->bound) / site.step : -((work->bound - error) / site.step);
        if (site.up > 0 || site.down > 0)
            steps =
                answer(work, &site, IS_OTHER, estimate_other(work, &site), distance != 0, steps);
        if (distance != 0)
            steps = model_size(work, &site, distance, steps);
        value = clamp(site.start + distance * site.step, site.low, site.high);
        close_site(work, &site, plane, y, x, value);
    }
    close_row(work, y);
    return (size_t)(steps - first);
}

size_t residual_encode(const uint32_t *steps, size_t count, uint64_t *lane, uint32_t *words)
{
    return encode_onto(lane, steps, count, words);
}
