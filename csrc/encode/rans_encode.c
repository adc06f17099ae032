#include <string.h>

#include "rans_internal.h"
#include "trellis.h"

/* High 64 bits of a * b, where a < 2^52 and b < 2^64, from four 32-bit products: the sum of the
 * middle ones cannot overflow because a's upper half has 20 bits. */
RANS_INLINE uint64_t product_high(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)a * b) >> 64);
#else
    uint64_t a_low = (uint32_t)a, a_high = a >> 32;
    uint64_t b_low = (uint32_t)b, b_high = b >> 32;
    uint64_t middle = a_high * b_low + ((a_low * b_low) >> 32);
    uint64_t cross = a_low * b_high;
    uint64_t carry = ((middle & 0xFFFFFFFFu) + (uint32_t)cross) >> 32;
    return a_high * b_high + (middle >> 32) + (cross >> 32) + carry;
#endif
}

RansStatus rans_symbols_gather(const RansTables *tables, const int16_t *symbols,
                               const uint8_t *indices, size_t n, int16_t *coded_symbols,
                               uint8_t *coded_indices, size_t *coded)
{
    size_t kept = 0;
    int skipped_bits = 0; /* all bits of all symbols at skipped places, found without a branch */
    for (size_t start = 0; start < n; start += RANS_GROUP) {
        size_t end = n - start < RANS_GROUP ? n : start + RANS_GROUP;
        if (end - start == RANS_GROUP && rans_group_skipped(indices + start)) {
            for (size_t i = start; i < end; i++)
                skipped_bits |= symbols[i];
            continue;
        }
        if (end - start == RANS_GROUP && rans_group_coded(indices + start)) {
            memcpy(coded_symbols + kept, symbols + start, RANS_GROUP * sizeof *symbols);
            memcpy(coded_indices + kept, indices + start, RANS_GROUP);
            kept += RANS_GROUP;
            continue;
        }
        for (size_t i = start; i < end; i++) {
            int symbol = symbols[i];
            uint8_t index = indices[i];
            int is_coded = index != 0;
            skipped_bits |= symbol & (is_coded - 1);
            coded_symbols[kept] = (int16_t)symbol;
            coded_indices[kept] = index;
            kept += (size_t)is_coded;
        }
    }
    *coded += kept;
    RansStatus status = rans_indices_check(tables, 0, coded_indices, kept);
    return status == RANS_OK && skipped_bits != 0 ? RANS_SKIP_NOT_ZERO : status;
}

/* floor(value / freq) for value < freq * 2^40 <= 2^52, freq in slots.
 * With m = ceil(2^64 / freq) = (2^64 + e) / freq and e < freq <= 2^12, value * m / 2^64 exceeds
 * value / freq by value * e / (freq * 2^64) < 1 / freq, too little to reach the next integer. */
RANS_INLINE uint64_t quotient(uint64_t value, uint64_t reciprocal)
{
    uint64_t whole = product_high(value, reciprocal);
    return reciprocal == 0 ? value : whole;
}

/* One step of encoding: makes room by moving out a word if the state would pass 64 bits, then
 * state = (state / freq) * 2^24 + start + state % freq; the remainder is state - (state / freq) *
 * freq. The low 12 bits of the state are below the unit of freq and pass through unchanged. The
 * word is stored whether it is moved out or not. */
RANS_INLINE void rans_lane_put(RansEncoderLane *lane, RansEntry entry, uint64_t reciprocal)
{
    uint64_t state = lane->state;
    unsigned full = (state >> (64 - RANS_PRECISION)) >= entry.freq;
    *lane->next = (uint32_t)state;
    lane->next += full;
    state = full ? state >> 32 : state;
    uint64_t whole = quotient(state >> RANS_SLOT_SHIFT, reciprocal);
    lane->state = state + entry.start + whole * (((uint64_t)1 << RANS_PRECISION) - entry.freq);
}

static void rans_byte_put(RansEncoderLane *lane, unsigned byte)
{
    rans_lane_put(lane, (RansEntry){byte * RANS_BYTE_FREQ, RANS_BYTE_FREQ},
                  rans_reciprocal(RANS_BYTE_FREQ >> RANS_SLOT_SHIFT));
}

/* `empty` is 0 where the lane is known to hold something. */
RANS_INLINE void rans_symbol_put(const RansTables *tables, RansEncoderLane *lane, int symbol,
                                 uint32_t index, int empty)
{
    RansTable table = tables->tables[index];
    uint32_t entry = (uint32_t)(symbol + table.half);
    int lost = empty && (entry | lane->state) == 0;
    if (entry > 2 * (uint32_t)table.half || lost) {
        /* Put in the reverse of the order in which they are read. */
        unsigned bits = (uint16_t)symbol;
        rans_byte_put(lane, bits & 0xFFu);
        rans_byte_put(lane, bits >> 8);
        entry = 2 * (uint32_t)table.half + 1;
    }
    entry += table.first;
    rans_lane_put(lane, tables->entries[entry], tables->reciprocals[entry]);
}

/* A state of 0 takes no words and one under 2^32 takes one: a lane never ends in a zero word. */
static void rans_lane_flush(RansEncoderLane *lane)
{
    for (; lane->state != 0; lane->state >>= 32)
        *lane->next++ = (uint32_t)lane->state;
}

/* Encodes whole rounds of `lane_count` lanes, none of them empty, the last round first. lane_count
 * is a constant at each call below, so the inner loop unrolls. */
RANS_INLINE void rans_rounds_encode(const RansTables *tables, RansEncoderLane *lanes,
                                    size_t lane_count, const int16_t *symbols,
                                    const uint8_t *indices, size_t rounds)
{
    RansEncoderLane local[RANS_LANES_MAX];
    for (size_t lane = 0; lane < lane_count; lane++)
        local[lane] = lanes[lane];
    while (rounds-- > 0) {
        const int16_t *symbol = symbols + rounds * lane_count;
        const uint8_t *index = indices + rounds * lane_count;
        RANS_UNROLL
        for (size_t lane = lane_count; lane-- > 0;)
            rans_symbol_put(tables, &local[lane], symbol[lane], index[lane], 0);
    }
    for (size_t lane = 0; lane < lane_count; lane++)
        lanes[lane] = local[lane];
}

void rans_lanes_encode(const RansTables *tables, RansEncoderLane *lanes, size_t lane_count,
                       const int16_t *symbols, const uint8_t *indices, size_t n)
{
    /* One by one what does not fill a round, and a round more: then no lane is empty. */
    size_t rounds = n / lane_count;
    rounds -= rounds > 0;
    while (n-- > rounds * lane_count)
        rans_symbol_put(tables, &lanes[n % lane_count], symbols[n], indices[n], 1);
    switch (lane_count) {
    case 1: rans_rounds_encode(tables, lanes, 1, symbols, indices, rounds); break;
    case 2: rans_rounds_encode(tables, lanes, 2, symbols, indices, rounds); break;
    case 4: rans_rounds_encode(tables, lanes, 4, symbols, indices, rounds); break;
    default: rans_rounds_encode(tables, lanes, 8, symbols, indices, rounds); break;
    }
    for (size_t lane = 0; lane < lane_count; lane++)
        rans_lane_flush(&lanes[lane]);
}

RansStatus rans_levels_resolve(int16_t *symbols, uint8_t *indices, size_t n, uint32_t second)
{
    unsigned state = 0;
    for (size_t i = 0; i < n; i++) {
        if (indices[i] == 0)
            continue;
        int level = symbols[i], other = (int)trellis_second(state);
        int sign = (level > 0) - (level < 0);
        int number = (level + sign * other) / 2;
        uint32_t table = indices[i] + second * (uint32_t)other;
        if (trellis_level(number, state) != level || table > UINT8_MAX ||
            number > TRELLIS_NUMBER_MAX || number < -TRELLIS_NUMBER_MAX)
            return RANS_NO_LEVEL;
        symbols[i] = (int16_t)number;
        indices[i] = (uint8_t)table;
        state = TRELLIS_NEXT[state][number & 1];
    }
    return RANS_OK;
}

void rans_words_store(uint8_t *bytes, const uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++, bytes += 4) {
        bytes[0] = (uint8_t)words[i];
        bytes[1] = (uint8_t)(words[i] >> 8);
        bytes[2] = (uint8_t)(words[i] >> 16);
        bytes[3] = (uint8_t)(words[i] >> 24);
    }
}
