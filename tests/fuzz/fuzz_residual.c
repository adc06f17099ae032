/*
 * fuzz_residual.c: a libFuzzer target over the C behind csrc/common/residual.h.
 *
 * An input is a width, a height, a bound, a kind, a low and a high sample, and then either the
 * words of a lane (decoded as they are; what is accepted must be what an encoder writes) or numbers
 * that samples are made of (coded and decoded, within the bound). A base and a mask are made of the
 * same numbers. Nothing is promised to C that residualcoder.pyx does not check. Every buffer is an
 * allocation of its own and of the exact size that residual.h asks for, so that AddressSanitizer
 * sees the first byte too many.
 *
 * Every finding is an abort().
 */
#include <stdlib.h>
#include <string.h>

#include "allocate.h"
#include "residual.h"

#define SIDE_MAX 32
#define HEAD_BYTES 8

/* The samples of an image: low and a number of two bytes, again and again from one of them on. */
static int32_t *drawn(const Residual *work, const uint8_t *bytes, size_t size, size_t from)
{
    size_t count = work->planes * work->height * work->width;
    int32_t *samples = allocate(count, sizeof *samples), range = work->high - work->low + 1;
    for (size_t i = 0; i < count; i++) {
        size_t at = 2 * (i + from);
        int32_t number = size == 0 ? 0 : bytes[at % size] << 8 | bytes[(at + 1) % size];
        samples[i] = work->low + number % range;
    }
    return samples;
}

static void open_work(Residual *work, const uint8_t *head, const uint8_t *bytes, size_t size)
{
    size_t row;
    uint8_t *mask = NULL;
    memset(work, 0, sizeof *work);
    work->width = 1u + head[0] % SIDE_MAX;
    work->height = 1u + head[1] % SIDE_MAX;
    work->planes = head[3] & 1 ? 3 : 1;
    /* Bounds of all sizes, most of them small. */
    work->bound = head[2] < 200 ? head[2] % 8 : RESIDUAL_BOUND_MAX >> (head[2] % 16);
    work->low = (int16_t)(head[4] << 8 | head[5]);
    work->high = work->low + (work->planes == 3 ? head[6] : (head[6] << 8 | head[7]));
    row = work->width + 2 * RESIDUAL_MARGIN;
    work->rows = allocate(RESIDUAL_ROWS * row, sizeof *work->rows);
    work->errors = allocate(RESIDUAL_ROWS * row, sizeof *work->errors);
    work->contexts = allocate(RESIDUAL_CONTEXTS, sizeof *work->contexts);
    work->mixers = allocate(RESIDUAL_MIXERS * RESIDUAL_MIXED, sizeof *work->mixers);
    if (head[3] & 2) {
        work->base = drawn(work, bytes, size, 1);
        work->anchors = allocate(work->width * work->height, sizeof *work->anchors);
    }
    if ((head[3] & 6) == 6) {
        mask = allocate(work->width * work->height, 1);
        for (size_t i = 0; i < work->width * work->height; i++)
            mask[i] = size == 0 ? 1 : bytes[i % size] & 1;
        work->mask = mask;
    }
}

static void close_work(Residual *work)
{
    free((void *)work->base);
    free((void *)work->mask);
    free(work->anchors);
    free(work->rows);
    free(work->errors);
    free(work->contexts);
    free(work->mixers);
}

/* The lane of an image as bytes, which the caller frees; its words to *count. */
static uint8_t *encoded(Residual *work, size_t *count)
{
    static const unsigned order[RESIDUAL_PLANES_MAX] = {1, 0, 2};
    size_t rows = work->planes * work->height, answers = 0;
    uint32_t **steps = allocate(rows, sizeof *steps), *words;
    size_t *counts = allocate(rows, sizeof *counts);
    uint64_t lane = 0;
    uint8_t *bytes;
    residual_begin(work);
    for (size_t r = 0; r < rows; r++) {
        unsigned plane = work->planes == 1 ? 0 : order[r / work->height];
        steps[r] = allocate(RESIDUAL_ANSWERS_MOST * work->width, sizeof **steps);
        counts[r] = residual_model_row(work, plane, r % work->height, steps[r]);
        REQUIRE(counts[r] <= RESIDUAL_ANSWERS_MOST * work->width);
        answers += counts[r];
    }
    words = allocate(answers / 2 + 4, sizeof *words);
    *count = 0;
    for (size_t r = rows; r-- > 0;) {
        size_t written;
        uint32_t *own = allocate(counts[r] / 2 + 2, sizeof *own);
        written = residual_encode(steps[r], counts[r], &lane, own);
        memcpy(words + *count, own, 4 * written);
        *count += written;
        free(own);
        free(steps[r]);
    }
    for (; lane != 0; lane >>= 32)
        words[(*count)++] = (uint32_t)lane;
    bytes = allocate(4 * *count, 1);
    for (size_t i = 0; i < 4 * *count; i++)
        bytes[i] = (uint8_t)(words[i / 4] >> 8 * (i % 4));
    free(words);
    free(counts);
    free(steps);
    return bytes;
}

static void hostile(Residual *work, const uint8_t *lane, size_t size)
{
    size_t samples = work->planes * work->width * work->height, count = size / 4;
    uint8_t *exact = allocate(4 * count, 1);
    int32_t *image = allocate(samples, sizeof *image);
    memcpy(exact, lane, 4 * count);
    /* A lane that is refused may leave samples as they were. */
    for (size_t i = 0; i < samples; i++)
        image[i] = work->low;
    work->samples = image;
    if (residual_decode(work, exact, count) == 0) {
        size_t again_count;
        uint8_t *again = encoded(work, &again_count);
        REQUIRE(again_count == count && memcmp(again, exact, 4 * count) == 0);
        free(again);
    }
    for (size_t i = 0; i < samples; i++)
        REQUIRE(image[i] >= work->low && image[i] <= work->high);
    free(exact);
    free(image);
}

static void round_trip(Residual *work, const uint8_t *bytes, size_t size)
{
    size_t pixels = work->width * work->height, samples = work->planes * pixels, count;
    int32_t *image = drawn(work, bytes, size, 0), *told = allocate(samples, sizeof *told);
    int32_t *back = allocate(samples, sizeof *back);
    uint8_t *lane;
    memcpy(told, image, samples * sizeof *told);
    work->samples = told;
    lane = encoded(work, &count);
    for (size_t i = 0; i < samples; i++) {
        if (work->mask && !work->mask[i % pixels])
            REQUIRE(told[i] == work->base[i]);
        else
            REQUIRE(abs(told[i] - image[i]) <= work->bound);
    }
    work->samples = back;
    REQUIRE(residual_decode(work, lane, count) == 0);
    REQUIRE(memcmp(told, back, samples * sizeof *told) == 0);
    free(lane);
    free(image);
    free(told);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Residual work;
    if (size < HEAD_BYTES)
        return 0;
    open_work(&work, data, data + HEAD_BYTES, size - HEAD_BYTES);
    if (data[3] & 0x80)
        hostile(&work, data + HEAD_BYTES, size - HEAD_BYTES);
    else
        round_trip(&work, data + HEAD_BYTES, size - HEAD_BYTES);
    close_work(&work);
    return 0;
}
