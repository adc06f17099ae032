#include <string.h>

#include "rans_internal.h"
#include "trellis.h"

/* A decoded state below this takes in a word; an encoded one stays at or above it once it has been
 * there. 2^32 because words have 32 bits: in and out are then exact opposites. */
#define RANS_STATE_LOW ((uint64_t)1 << 32)

/* The decoder handles so many indices at once: two small arrays on the stack (3 KiB). */
#define RANS_BLOCK 1024

RansStatus rans_lane_open(RansDecoderLane *lane, uint32_t *words, const uint8_t *bytes,
                          size_t count)
{
    for (size_t i = 0; i < count; i++, bytes += 4)
        words[i] = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                   (uint32_t)bytes[3] << 24;
    lane->state = 0;
    lane->words = words;
    lane->left = count;
    if (count == 0)
        return RANS_OK;
    if (words[count - 1] == 0 || (words[0] & ((1u << RANS_SLOT_SHIFT) - 1)) != 0)
        return RANS_LANE_NOT_CANONICAL;
    for (int i = 0; i < RANS_STATE_WORDS && lane->left > 0; i++)
        lane->state = lane->state << 32 | words[--lane->left];
    return RANS_OK;
}

/* The first half of a decoding step: which of a table's 4096 slots the state points into. */
RANS_INLINE uint32_t rans_slot(uint64_t state)
{
    return (uint32_t)(state >> RANS_SLOT_SHIFT) & (RANS_SLOTS - 1);
}

/* The second half as far as it needs no word. With rans_lane_advance it is the exact opposite of
 * rans_lane_put. */
RANS_INLINE uint64_t rans_state_advance(uint64_t state, RansEntry entry)
{
    uint64_t low = state & (((uint64_t)1 << RANS_PRECISION) - 1);
    return (state >> RANS_PRECISION) * entry.freq + low - entry.start;
}

static void rans_lane_advance(RansDecoderLane *lane, RansEntry entry)
{
    lane->state = rans_state_advance(lane->state, entry);
    if (lane->state < RANS_STATE_LOW && lane->left != 0)
        lane->state = lane->state << 32 | lane->words[--lane->left];
}

static unsigned rans_byte_get(RansDecoderLane *lane)
{
    unsigned byte = (unsigned)(lane->state >> (RANS_PRECISION - 8)) & 0xFFu;
    rans_lane_advance(lane, (RansEntry){byte * RANS_BYTE_FREQ, RANS_BYTE_FREQ});
    return byte;
}

/* The symbol behind an escape. */
static int rans_escaped_get(RansDecoderLane *lane)
{
    unsigned high = rans_byte_get(lane);
    unsigned bits = high << 8 | rans_byte_get(lane);
    return (int)bits - (bits >> 15 ? 65536 : 0);
}

static int rans_symbol_get(const RansTables *tables, RansDecoderLane *lane, uint32_t index)
{
    RansTable table = tables->tables[index];
    uint32_t entry = tables->slots[(size_t)index * RANS_SLOTS + rans_slot(lane->state)];
    int symbol = (int)entry - table.half;
    rans_lane_advance(lane, tables->entries[table.first + entry]);
    return symbol > table.half ? rans_escaped_get(lane) : symbol;
}

/* Decodes whole rounds of `lane_count` lanes and returns how many: `rounds`, or fewer if it comes
 * to a round with an escape, which is the last. Each lane has at least `rounds` words left. A
 * symbol takes one at most, so none has to look whether there is one, and with words left no state
 * is below 2^32, let alone 0. lane_count is a constant at each call below, so the inner loop
 * unrolls. */
RANS_INLINE size_t rans_rounds_decode(const RansTables *tables, RansDecoderLane *lanes,
                                      size_t lane_count, const uint8_t *indices,
                                      const uint16_t *places, int16_t *symbols, size_t rounds)
{
    const RansTables t = *tables;
    uint64_t states[RANS_LANES_MAX];
    const uint32_t *words[RANS_LANES_MAX]; /* behind the next one */
    int escapes = 0;
    size_t done = 0;
    for (size_t lane = 0; lane < lane_count; lane++) {
        states[lane] = lanes[lane].state;
        words[lane] = lanes[lane].words + lanes[lane].left;
    }
    for (; done < rounds && !escapes; done++) {
        const uint8_t *index_of = indices + done * lane_count;
        const uint16_t *place_of = places + done * lane_count;
        RANS_UNROLL
        for (size_t lane = 0; lane < lane_count; lane++) {
            uint64_t state = states[lane];
            uint32_t index = index_of[lane];
            RansTable table = t.tables[index];
            uint32_t entry = t.slots[(size_t)index * RANS_SLOTS + rans_slot(state)];
            int symbol = (int)entry - table.half;
            escapes |= symbol > table.half;
            symbols[place_of[lane]] = (int16_t)symbol;
            state = rans_state_advance(state, t.entries[table.first + entry]);
            if (state < RANS_STATE_LOW)
                state = state << 32 | *--words[lane];
            states[lane] = state;
        }
    }
    for (size_t lane = 0; lane < lane_count; lane++) {
        lanes[lane].state = states[lane];
        lanes[lane].left = (size_t)(words[lane] - lanes[lane].words);
    }
    for (size_t i = (done - 1) * lane_count; escapes && i < done * lane_count; i++) {
        int16_t *symbol = &symbols[places[i]];
        if (*symbol > t.tables[indices[i]].half)
            *symbol = (int16_t)rans_escaped_get(&lanes[i % lane_count]);
    }
    return done;
}

/* The table indices and places of the *coded symbols that are coded among n <= RANS_BLOCK. It is a
 * private copy, so that what is used later is what was checked here. */
static RansStatus rans_block_gather(const RansTables *tables, uint32_t second,
                                    const uint8_t *indices, size_t n, uint8_t *kept,
                                    uint16_t *places, size_t *coded)
{
    size_t count = 0;
    for (size_t start = 0; start < n; start += RANS_GROUP) {
        size_t end = n - start < RANS_GROUP ? n : start + RANS_GROUP;
        if (end - start == RANS_GROUP && rans_group_skipped(indices + start))
            continue;
        if (end - start == RANS_GROUP && rans_group_coded(indices + start)) {
            memcpy(kept + count, indices + start, RANS_GROUP);
            for (size_t i = 0; i < RANS_GROUP; i++)
                places[count + i] = (uint16_t)(start + i);
            count += RANS_GROUP;
            continue;
        }
        for (size_t i = start; i < end; i++) {
            uint8_t index = indices[i];
            kept[count] = index;
            places[count] = (uint16_t)i;
            count += index != 0;
        }
    }
    *coded = count;
    return rans_indices_check(tables, second, kept, count);
}

/* As many rounds as every lane has words for, up to `rounds`. */
static size_t rans_rounds_sure(const RansDecoderLane *lanes, size_t lane_count, size_t rounds)
{
    for (size_t lane = 0; lane < lane_count; lane++)
        rounds = lanes[lane].left < rounds ? lanes[lane].left : rounds;
    return rounds;
}

/* Decodes some of n >= 1 coded symbols from lane *turn on and returns how many: rounds that are
 * sure, or else one symbol after another up to the next lane 0. */
static size_t rans_some_decode(const RansTables *tables, RansDecoderLane *lanes, size_t lane_count,
                               size_t *turn, const uint8_t *indices, const uint16_t *places,
                               int16_t *symbols, size_t n, int *exhausted)
{
    size_t sure = *turn == 0 ? rans_rounds_sure(lanes, lane_count, n / lane_count) : 0;
    if (sure > 0) {
        switch (lane_count) {
        case 1: return rans_rounds_decode(tables, lanes, 1, indices, places, symbols, sure);
        case 2: return 2 * rans_rounds_decode(tables, lanes, 2, indices, places, symbols, sure);
        case 4: return 4 * rans_rounds_decode(tables, lanes, 4, indices, places, symbols, sure);
        default: return 8 * rans_rounds_decode(tables, lanes, 8, indices, places, symbols, sure);
        }
    }
    size_t done = 0;
    do {
        RansDecoderLane *lane = &lanes[*turn];
        *exhausted |= lane->state == 0; /* only collected, as state 0 does no harm */
        symbols[places[done]] = (int16_t)rans_symbol_get(tables, lane, indices[done]);
        *turn = (*turn + 1) % lane_count;
        done++;
    } while (done < n && *turn != 0);
    return done;
}

/* Decodes n coded symbols of a dependent pass, one by one: each decides which tables the next one
 * has. *state is that of the trellis. */
static void rans_levels_decode(const RansTables *tables, RansDecoderLane *lanes, size_t lane_count,
                               size_t *turn, uint32_t second, unsigned *state,
                               const uint8_t *indices, const uint16_t *places, int16_t *symbols,
                               size_t n, int *exhausted)
{
    for (size_t i = 0; i < n; i++) {
        RansDecoderLane *lane = &lanes[*turn];
        *exhausted |= lane->state == 0;
        int number = rans_symbol_get(tables, lane, indices[i] + second * trellis_second(*state));
        symbols[places[i]] = (int16_t)trellis_level(number, *state);
        *state = TRELLIS_NEXT[*state][number & 1];
        *turn = *turn + 1 == lane_count ? 0 : *turn + 1;
    }
}

RansStatus rans_lanes_decode(const RansTables *tables, RansDecoderLane *lanes, size_t lane_count,
                             size_t *turn, uint32_t second, const uint8_t *indices,
                             int16_t *symbols, size_t n)
{
    uint8_t kept[RANS_BLOCK];
    uint16_t places[RANS_BLOCK];
    unsigned state = 0;
    for (size_t start = 0; start < n; start += RANS_BLOCK) {
        size_t size = n - start < RANS_BLOCK ? n - start : RANS_BLOCK;
        size_t coded, done = 0;
        int exhausted = 0;
        int16_t *out = symbols + start;
        RansStatus status =
            rans_block_gather(tables, second, indices + start, size, kept, places, &coded);
        if (status != RANS_OK)
            return status;
        for (size_t i = 0; i < size; i++)
            out[i] = 0;
        if (second != 0)
            rans_levels_decode(tables, lanes, lane_count, turn, second, &state, kept, places, out,
                               coded, &exhausted);
        else
            while (done < coded)
                done += rans_some_decode(tables, lanes, lane_count, turn, kept + done,
                                         places + done, out, coded - done, &exhausted);
        if (exhausted)
            return RANS_LANE_EXHAUSTED;
    }
    return RANS_OK;
}
