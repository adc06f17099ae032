/*
 * fuzz_flatmap.c: a libFuzzer target over the C behind csrc/common/flatmap.h.
 *
 * An input is a width, a height, a number of colours and which pixels are open, and then either the
 * bytes of a lane (decoded as they are; what is accepted must be what an encoder writes) or those
 * of a map (coded and decoded). Nothing is promised to C that flatmap.pyx does not check. Every
 * buffer is an allocation of its own and of the exact size that flatmap.h asks for, so that
 * AddressSanitizer sees the first byte too many.
 *
 * Every finding is an abort().
 */
#include <stdlib.h>
#include <string.h>

#include "allocate.h"
#include "flatmap.h"

#define SIDE_MAX 64

static void open_work(Flatmap *work, size_t width, size_t height, unsigned colours)
{
    work->width = width;
    work->height = height;
    work->colours = colours;
    work->open = NULL;
    work->cells = allocate((width + 2 * FLATMAP_MARGIN) * (height + 2 * FLATMAP_MARGIN), 1);
    work->contexts = allocate(FLATMAP_CONTEXTS, sizeof *work->contexts);
}

/* Opens the pixels that the bits of a pattern say, again and again. */
static void open_pixels(Flatmap *work, unsigned pattern)
{
    size_t pixels = work->width * work->height;
    uint8_t *open = allocate(pixels, 1);
    for (size_t i = 0; i < pixels; i++)
        open[i] = pattern >> i % 8 & 1;
    work->open = open;
}

static void close_work(Flatmap *work)
{
    free((void *)work->open);
    free(work->cells);
    free(work->contexts);
}

/* The lane of a map as bytes, which the caller frees; its words to *count. */
static uint8_t *encoded(Flatmap *work, const uint8_t *map, size_t *count)
{
    size_t decisions = flatmap_decisions(work, map);
    REQUIRE(decisions != SIZE_MAX);
    uint32_t *steps = allocate(decisions, sizeof *steps);
    uint32_t *words = allocate(decisions / 2 + 2, sizeof *words);
    flatmap_model(work, map, steps);
    *count = flatmap_encode(steps, decisions, words);
    uint8_t *bytes = allocate(4 * *count, 1);
    for (size_t i = 0; i < 4 * *count; i++)
        bytes[i] = (uint8_t)(words[i / 4] >> 8 * (i % 4));
    free(steps);
    free(words);
    return bytes;
}

static void hostile(Flatmap *work, const uint8_t *lane, size_t size)
{
    size_t pixels = work->width * work->height, count = size / 4;
    uint8_t *exact = allocate(4 * count, 1), *map = allocate(pixels, 1);
    memcpy(exact, lane, 4 * count);
    if (flatmap_decode(work, exact, count, map) == 0) {
        size_t again_count;
        uint8_t *again = encoded(work, map, &again_count);
        REQUIRE(again_count == count && memcmp(again, exact, 4 * count) == 0);
        free(again);
    }
    free(exact);
    free(map);
}

static void round_trip(Flatmap *work, const uint8_t *bytes, size_t size)
{
    size_t pixels = work->width * work->height, count;
    uint8_t *map = allocate(pixels, 1), *back = allocate(pixels, 1);
    for (size_t i = 0; i < pixels; i++)
        map[i] = (uint8_t)(size == 0 ? 0 : bytes[i % size] % (FLATMAP_COLOURS_MAX + 1));
    if (flatmap_decisions(work, map) == SIZE_MAX) {
        for (size_t i = 0; i < pixels; i++)
            map[i] = map[i] > work->colours || (work->open && !work->open[i]) ? 0 : map[i];
    }
    uint8_t *lane = encoded(work, map, &count);
    REQUIRE(flatmap_decode(work, lane, count, back) == 0);
    REQUIRE(memcmp(map, back, pixels) == 0);
    free(lane);
    free(map);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Flatmap work;
    if (size < 3)
        return 0;
    unsigned kind = data[2];
    open_work(&work, 1u + data[0] % SIDE_MAX, 1u + data[1] % SIDE_MAX,
              1u + (kind & 7u) % FLATMAP_COLOURS_MAX);
    data += 3;
    size -= 3;
    if (kind & 0x40 && size > 0) {
        open_pixels(&work, *data++);
        size--;
    }
    if (kind & 0x80)
        hostile(&work, data, size);
    else
        round_trip(&work, data, size);
    close_work(&work);
    return 0;
}
