/*
 * fuzz_plane.c: a libFuzzer target over the C behind csrc/common/plane.h.
 *
 * An input is a width, a height, a number of symbols and a kind, and then either the bytes of a
 * lane (decoded as they are; what is accepted must be what an encoder writes) or those of a plane
 * (coded and decoded). Nothing is promised to C that planecoder.pyx does not check. Every buffer is
 * an allocation of its own and of the exact size that plane.h asks for, so that AddressSanitizer
 * sees the first byte too many.
 *
 * Every finding is an abort().
 */
#include <stdlib.h>
#include <string.h>

#include "allocate.h"
#include "plane.h"

#define SIDE_MAX 64

static void open_work(Plane *work, size_t width, size_t height, unsigned symbols, int ordered)
{
    work->width = width;
    work->height = height;
    work->symbols = symbols;
    work->ordered = ordered;
    work->rows = allocate(PLANE_ROWS * (width + 2 * PLANE_MARGIN), 1);
    /* Whatever was there before must not matter. */
    work->places = allocate(PLANE_PLACES, sizeof *work->places);
    memset(work->places, 0xff, PLANE_PLACES * sizeof *work->places);
    work->contexts = allocate(PLANE_CONTEXTS, sizeof *work->contexts);
    memset(work->contexts, 0xff, PLANE_CONTEXTS * sizeof *work->contexts);
}

static void close_work(Plane *work)
{
    free(work->rows);
    free(work->places);
    free(work->contexts);
}

/* The lane of a plane as bytes, which the caller frees; its words to *count. */
static uint8_t *encoded(Plane *work, const uint8_t *plane, size_t *count)
{
    size_t most = plane_answers_most(work, plane);
    REQUIRE(most != SIZE_MAX && most <= 13 * work->width * work->height);
    uint32_t *steps = allocate(most, sizeof *steps);
    size_t answers = plane_model(work, plane, steps);
    REQUIRE(answers <= most);
    uint32_t *words = allocate(answers / 2 + 2, sizeof *words);
    *count = plane_encode(steps, answers, words);
    uint8_t *bytes = allocate(4 * *count, 1);
    for (size_t i = 0; i < 4 * *count; i++)
        bytes[i] = (uint8_t)(words[i / 4] >> 8 * (i % 4));
    free(steps);
    free(words);
    return bytes;
}

static void hostile(Plane *work, const uint8_t *lane, size_t size)
{
    size_t pixels = work->width * work->height, count = size / 4;
    uint8_t *exact = allocate(4 * count, 1), *plane = allocate(pixels, 1);
    memcpy(exact, lane, 4 * count);
    if (plane_decode(work, exact, count, plane) == 0) {
        size_t again_count;
        uint8_t *again = encoded(work, plane, &again_count);
        REQUIRE(again_count == count && memcmp(again, exact, 4 * count) == 0);
        free(again);
    }
    free(exact);
    free(plane);
}

static void round_trip(Plane *work, const uint8_t *bytes, size_t size)
{
    size_t pixels = work->width * work->height, count;
    uint8_t *plane = allocate(pixels, 1), *back = allocate(pixels, 1);
    unsigned greatest = 0;
    for (size_t i = 0; i < pixels; i++) {
        plane[i] = size == 0 ? 0 : bytes[i % size];
        greatest = plane[i] > greatest ? plane[i] : greatest;
    }
    REQUIRE((plane_answers_most(work, plane) == SIZE_MAX) == (greatest >= work->symbols));
    for (size_t i = 0; i < pixels; i++)
        plane[i] = (uint8_t)(plane[i] % work->symbols);
    uint8_t *lane = encoded(work, plane, &count);
    REQUIRE(plane_decode(work, lane, count, back) == 0);
    REQUIRE(memcmp(plane, back, pixels) == 0);
    free(lane);
    free(plane);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Plane work;
    if (size < 4)
        return 0;
    unsigned kind = data[3];
    open_work(&work, 1u + data[0] % SIDE_MAX, 1u + data[1] % SIDE_MAX, 1u + data[2],
              (kind & 0x40) != 0);
    if (kind & 0x80)
        hostile(&work, data + 4, size - 4);
    else
        round_trip(&work, data + 4, size - 4);
    close_work(&work);
    return 0;
}
