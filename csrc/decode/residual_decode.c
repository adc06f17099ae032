#include "residual_internal.h"

static unsigned answer(const Residual *work, const Site *site, AnswerLane *lane, int number,
                       int32_t estimate)
{
    Question question;
    unsigned yes;
    ask(work, site, &question, number, estimate);
    yes = take_answer(lane, question.yes);
    learn_from(work, &question, yes);
    return yes;
}

/* A size of low to top - 1. */
static int32_t decode_halves(const Residual *work, const Site *site, AnswerLane *lane, int32_t sign,
                             int32_t low, int32_t top)
{
    for (int depth = 0; top - low > 1; depth++) {
        int32_t middle = (low + top) / 2, estimate = estimate_half(site, sign, low, middle, top);
        unsigned yes = depth < HALVES ? answer(work, site, lane, HALF + depth, estimate)
                                      : take_answer(lane, plain_half(estimate));
        if (yes)
            low = middle;
        else
            top = middle;
    }
    return low;
}

/* A distance that is not 0. */
static int32_t decode_size(const Residual *work, const Site *site, AnswerLane *lane)
{
    int32_t sign = site->up > 0 ? 1 : -1, low = 1, width = 1 << site->widen, most;
    if (site->up > 0 && site->down > 0)
        sign = answer(work, site, lane, IS_ABOVE, estimate_above(site)) ? 1 : -1;
    most = sign > 0 ? site->up : site->down;
    for (int number = 0; low + width <= most; number++) {
        int32_t top = low + width, estimate = estimate_size(site, sign, low, top);
        int question = (sign > 0 ? SIZE_ABOVE : SIZE_BELOW) + (number < SIZES ? number : SIZES - 1);
        if (!answer(work, site, lane, question, estimate))
            return sign * decode_halves(work, site, lane, sign, low, top);
        low = top;
        width *= number >= 3 && number % 2 == 1 ? 2 : 1;
    }
    return sign * decode_halves(work, site, lane, sign, low, most + 1);
}

static void decode_row(Residual *work, AnswerLane *lane, unsigned plane, size_t y)
{
    open_row(work, y);
    for (size_t x = 0; x < work->width; x++) {
        Site site;
        int32_t distance = 0, value;
        if (work->mask && !work->mask[y * work->width + x]) {
            skip_site(work, plane, y, x);
            continue;
        }
        open_site(work, &site, plane, y, x);
        if ((site.up > 0 || site.down > 0) &&
            answer(work, &site, lane, IS_OTHER, estimate_other(work, &site)))
            distance = decode_size(work, &site, lane);
        value = clamp(site.start + distance * site.step, site.low, site.high);
        close_site(work, &site, plane, y, x, value);
    }
    close_row(work, y);
}

int residual_decode(Residual *work, const uint8_t *bytes, size_t count)
{
    static const unsigned order[RESIDUAL_PLANES_MAX] = {1, 0, 2};
    AnswerLane lane;
    if (open_lane(&lane, bytes, count))
        return 1;
    residual_begin(work);
    for (unsigned i = 0; i < work->planes; i++) {
        unsigned plane = work->planes == 1 ? 0 : order[i];
        open_plane(work, plane);
        for (size_t y = 0; y < work->height; y++)
            decode_row(work, &lane, plane, y);
    }
    return ends_wrong(&lane);
}
