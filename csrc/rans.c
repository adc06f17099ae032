#include "rans.h"

#include <string.h>

/* A decoded state below this takes in a word; an encoded one stays at or above it once it has been
 * there. 2^32 because words have 32 bits: in and out are then exact opposites. */
#define RANS_STATE_LOW ((uint64_t)1 << 32)

/* Indices looked at in one go by the decoder: two small arrays on the stack (3 KiB). */
#define RANS_BLOCK 1024

/* Places looked at together before each is looked at by itself: nine of ten are skipped in a real
 * image, mostly in long runs. */
#define RANS_GROUP 16

/* The equal-probability byte of an escape, in slots: 256 entries share 4096. */
#define RANS_BYTE_FREQ (RANS_SLOTS / 256)

#if defined(__GNUC__) || defined(__clang__)
#define RANS_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define RANS_INLINE static __forceinline
#else
#define RANS_INLINE static inline
#endif

/* For a loop over lanes whose count is a constant: without it lanes would live in memory. */
#if defined(__clang__)
#define RANS_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define RANS_UNROLL _Pragma("GCC unroll 8")
#else
#define RANS_UNROLL
#endif

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

void rans_tables_build(RansTables *tables, const uint16_t *cdf)
{
    tables->reciprocals[0] = tables->reciprocals[1] = 0; /* never used: see quotient() */
    for (uint64_t freq = 2; freq < RANS_SLOTS; freq++)
        tables->reciprocals[freq] = UINT64_MAX / freq + 1;

    for (uint32_t t = 1; t < tables->count; t++) {
        const uint16_t *row = cdf + (size_t)t * tables->width;
        RansEntry *entries = tables->entries + (size_t)t * tables->width;
        uint16_t *slots = tables->slots + (size_t)t * RANS_SLOTS;
        uint32_t n = 2u * tables->half[t] + 2u;
        for (uint32_t e = 0; e < n; e++) {
            entries[e].start = row[e];
            entries[e].freq = (uint16_t)(row[e + 1] - row[e]);
            for (uint32_t slot = row[e]; slot < row[e + 1]; slot++)
                slots[slot] = (uint16_t)e;
        }
    }
}

/* Whether RANS_GROUP places are all skipped. */
RANS_INLINE int rans_group_skipped(const uint8_t *indices)
{
    uint64_t halves[2];
    memcpy(halves, indices, sizeof halves);
    return (halves[0] | halves[1]) == 0;
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
        for (size_t i = start; i < end; i++) {
            int symbol = symbols[i];
            uint8_t index = indices[i];
            if (index >= tables->count)
                return RANS_TABLE_OUT_OF_RANGE;
            int is_coded = index != 0;
            skipped_bits |= symbol & (is_coded - 1);
            coded_symbols[kept] = (int16_t)symbol;
            coded_indices[kept] = index;
            kept += (size_t)is_coded;
        }
    }
    *coded += kept;
    return skipped_bits == 0 ? RANS_OK : RANS_SKIP_NOT_ZERO;
}

/* floor(value / freq) for value < freq * 2^40 <= 2^52.
 * With m = ceil(2^64 / freq) = (2^64 + e) / freq and e < freq <= 2^12, value * m / 2^64 exceeds
 * value / freq by value * e / (freq * 2^64) < 1 / freq, too little to reach the next integer. For
 * freq 1 m would need 65 bits. */
RANS_INLINE uint64_t quotient(const RansTables *tables, uint64_t value, uint32_t freq)
{
    uint64_t whole = product_high(value, tables->reciprocals[freq]);
    return freq == 1 ? value : whole;
}

/* One step of encoding: makes room by moving out a word if the state would pass 64 bits, then
 * state = (state / f) * 2^24 + start * 2^12 + state % f, with f = freq * 2^12; the remainder is
 * state - (state / f) * f. The low 12 bits of the state are below the unit of f and pass through
 * unchanged. The word is stored whether it is moved out or not: a branch here is a coin toss. */
RANS_INLINE void rans_lane_put(const RansTables *tables, RansEncoderLane *lane, uint32_t start,
                               uint32_t freq)
{
    uint64_t state = lane->state;
    unsigned full = (state >> (64 - RANS_TABLE_BITS)) >= freq;
    lane->words[lane->count] = (uint32_t)state;
    lane->count += full;
    state = full ? state >> 32 : state;
    uint64_t whole = quotient(tables, state >> RANS_SLOT_SHIFT, freq);
    lane->state = state + ((uint64_t)start << RANS_SLOT_SHIFT)
                  + whole * ((uint64_t)(RANS_SLOTS - freq) << RANS_SLOT_SHIFT);
}

RANS_INLINE void rans_symbol_put(const RansTables *tables, RansEncoderLane *lane, int symbol,
                                 uint32_t index)
{
    int half = tables->half[index];
    const RansEntry *entries = tables->entries + (size_t)index * tables->width;
    int entry = symbol + half;
    int lost_on_empty_lane = ((uint64_t)entry | lane->state) == 0;
    if (((unsigned)entry > 2u * (unsigned)half) | lost_on_empty_lane) {
        /* Put in the reverse of the order in which they are read. */
        unsigned bits = (uint16_t)symbol;
        rans_lane_put(tables, lane, (bits & 0xFFu) * RANS_BYTE_FREQ, RANS_BYTE_FREQ);
        rans_lane_put(tables, lane, (bits >> 8) * RANS_BYTE_FREQ, RANS_BYTE_FREQ);
        entry = 2 * half + 1;
    }
    rans_lane_put(tables, lane, entries[entry].start, entries[entry].freq);
}

/* A state of 0 takes no words and one under 2^32 takes one: a lane never ends in a zero word. */
static void rans_lane_flush(RansEncoderLane *lane)
{
    for (; lane->state != 0; lane->state >>= 32)
        lane->words[lane->count++] = (uint32_t)lane->state;
}

/* Encodes whole rounds of `lane_count` lanes, the last first. lane_count is a constant at each call
 * below, so the inner loop unrolls. */
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
            rans_symbol_put(tables, &local[lane], symbol[lane], index[lane]);
    }
    for (size_t lane = 0; lane < lane_count; lane++)
        lanes[lane] = local[lane];
}

void rans_lanes_encode(const RansTables *tables, RansEncoderLane *lanes, size_t lane_count,
                       const int16_t *symbols, const uint8_t *indices, size_t n)
{
    size_t rounds = n / lane_count;
    while (n-- > rounds * lane_count)
        rans_symbol_put(tables, &lanes[n % lane_count], symbols[n], indices[n]);
    switch (lane_count) {
    case 1: rans_rounds_encode(tables, lanes, 1, symbols, indices, rounds); break;
    case 2: rans_rounds_encode(tables, lanes, 2, symbols, indices, rounds); break;
    case 4: rans_rounds_encode(tables, lanes, 4, symbols, indices, rounds); break;
    default: rans_rounds_encode(tables, lanes, 8, symbols, indices, rounds); break;
    }
    for (size_t lane = 0; lane < lane_count; lane++)
        rans_lane_flush(&lanes[lane]);
}

RansStatus rans_lane_open(RansDecoderLane *lane, uint32_t *words, const uint8_t *bytes,
                          size_t count)
{
    words[0] = 0;
    for (size_t i = 0; i < count; i++, bytes += 4)
        words[i + 1] = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
                       | (uint32_t)bytes[3] << 24;
    lane->state = 0;
    lane->words = words;
    lane->left = count;
    if (count == 0)
        return RANS_OK;
    if (words[count] == 0 || (words[1] & ((1u << RANS_SLOT_SHIFT) - 1)) != 0)
        return RANS_LANE_NOT_CANONICAL;
    for (int i = 0; i < RANS_STATE_WORDS && lane->left > 0; i++)
        lane->state = lane->state << 32 | words[lane->left--];
    return RANS_OK;
}

/* The second half of a decoding step: the exact opposite of rans_lane_put. The word is loaded
 * whether it is needed or not (words[0] exists for that) and taken by a mask: at several bits a
 * symbol a branch here is a coin toss, and compilers make one of a conditional expression. */
RANS_INLINE void rans_lane_advance(RansDecoderLane *lane, uint32_t start, uint32_t freq)
{
    uint64_t low = lane->state & (((uint64_t)1 << RANS_PRECISION) - 1);
    uint64_t state = (lane->state >> RANS_PRECISION) * ((uint64_t)freq << RANS_SLOT_SHIFT) + low
                     - ((uint64_t)start << RANS_SLOT_SHIFT);
    uint64_t refilled = state << 32 | lane->words[lane->left];
    unsigned refill = (state < RANS_STATE_LOW) & (lane->left != 0);
    lane->state = state ^ ((state ^ refilled) & (0 - (uint64_t)refill));
    lane->left -= refill;
}

/* The first half: which of a table's 4096 slots the state points into. */
RANS_INLINE uint32_t rans_lane_peek(const RansDecoderLane *lane)
{
    return (uint32_t)(lane->state >> RANS_SLOT_SHIFT) & (RANS_SLOTS - 1);
}

RANS_INLINE unsigned rans_byte_get(RansDecoderLane *lane)
{
    unsigned byte = rans_lane_peek(lane) / RANS_BYTE_FREQ;
    rans_lane_advance(lane, byte * RANS_BYTE_FREQ, RANS_BYTE_FREQ);
    return byte;
}

RANS_INLINE int rans_symbol_get(const RansTables *tables, RansDecoderLane *lane, uint32_t index)
{
    uint32_t entry = tables->slots[(size_t)index * RANS_SLOTS + rans_lane_peek(lane)];
    RansEntry span = tables->entries[(size_t)index * tables->width + entry];
    int half = tables->half[index];
    rans_lane_advance(lane, span.start, span.freq);
    if (entry > 2u * (unsigned)half) {
        unsigned high = rans_byte_get(lane);
        unsigned bits = high << 8 | rans_byte_get(lane);
        return (int)bits - (bits >> 15 ? 65536 : 0);
    }
    return (int)entry - half;
}

/* Decodes the block's coded symbols in whole rounds of `lane_count` lanes. lane_count is a constant
 * at each call below, so the inner loop unrolls and the states live in registers. Returns whether a
 * lane was already at its end; this is only collected here, as state 0 does no harm. */
RANS_INLINE int rans_rounds_decode(const RansTables *tables, RansDecoderLane *lanes,
                                    size_t lane_count, const uint8_t *indices,
                                    const uint16_t *places, int16_t *symbols, size_t rounds)
{
    RansDecoderLane local[RANS_LANES_MAX];
    int exhausted = 0;
    for (size_t lane = 0; lane < lane_count; lane++)
        local[lane] = lanes[lane];
    for (; rounds > 0; rounds--, places += lane_count, indices += lane_count) {
        RANS_UNROLL
        for (size_t lane = 0; lane < lane_count; lane++) {
            exhausted |= local[lane].state == 0;
            symbols[places[lane]] =
                (int16_t)rans_symbol_get(tables, &local[lane], indices[lane]);
        }
    }
    for (size_t lane = 0; lane < lane_count; lane++)
        lanes[lane] = local[lane];
    return exhausted;
}

/* The table indices and places of the *coded symbols that are coded among n <= RANS_BLOCK. They are
 * a private copy: what is checked here is what is used afterwards. */
static RansStatus rans_block_gather(const RansTables *tables, const uint8_t *indices, size_t n,
                                    uint8_t *kept, uint16_t *places, size_t *coded)
{
    size_t count = 0;
    uint8_t greatest = 0;
    for (size_t start = 0; start < n; start += RANS_GROUP) {
        size_t end = n - start < RANS_GROUP ? n : start + RANS_GROUP;
        if (end - start == RANS_GROUP && rans_group_skipped(indices + start))
            continue;
        for (size_t i = start; i < end; i++) {
            uint8_t index = indices[i];
            kept[count] = index;
            greatest = index > greatest ? index : greatest;
            places[count] = (uint16_t)i;
            count += index != 0;
        }
    }
    *coded = count;
    return greatest < tables->count ? RANS_OK : RANS_TABLE_OUT_OF_RANGE;
}

/* Decodes coded symbols one by one from lane *turn on: what does not fill a round. */
static int rans_remainder_decode(const RansTables *tables, RansDecoderLane *lanes,
                                 size_t lane_count, size_t *turn, const uint8_t *indices,
                                 const uint16_t *places, int16_t *symbols, size_t n)
{
    int exhausted = 0;
    for (size_t i = 0; i < n; i++) {
        RansDecoderLane *lane = &lanes[*turn];
        exhausted |= lane->state == 0;
        symbols[places[i]] = (int16_t)rans_symbol_get(tables, lane, indices[i]);
        *turn = (*turn + 1) % lane_count;
    }
    return exhausted;
}

RansStatus rans_lanes_decode(const RansTables *tables, RansDecoderLane *lanes, size_t lane_count,
                             size_t *turn, const uint8_t *indices, int16_t *symbols, size_t n)
{
    uint8_t kept[RANS_BLOCK];
    uint16_t places[RANS_BLOCK];
    for (size_t done = 0; done < n; done += RANS_BLOCK) {
        size_t size = n - done < RANS_BLOCK ? n - done : RANS_BLOCK;
        size_t coded;
        int16_t *out = symbols + done;
        RansStatus status = rans_block_gather(tables, indices + done, size, kept, places, &coded);
        if (status != RANS_OK)
            return status;
        for (size_t i = 0; i < size; i++)
            out[i] = 0;

        size_t head = (lane_count - *turn) % lane_count; /* up to the start of a round */
        if (head > coded)
            head = coded;
        int exhausted =
            rans_remainder_decode(tables, lanes, lane_count, turn, kept, places, out, head);
        size_t rounds = (coded - head) / lane_count;
        const uint8_t *index = kept + head;
        const uint16_t *place = places + head;
        int dry;
        switch (lane_count) {
        case 1: dry = rans_rounds_decode(tables, lanes, 1, index, place, out, rounds); break;
        case 2: dry = rans_rounds_decode(tables, lanes, 2, index, place, out, rounds); break;
        case 4: dry = rans_rounds_decode(tables, lanes, 4, index, place, out, rounds); break;
        default: dry = rans_rounds_decode(tables, lanes, 8, index, place, out, rounds); break;
        }
        exhausted |= dry;
        size_t rest = head + rounds * lane_count;
        exhausted |= rans_remainder_decode(tables, lanes, lane_count, turn, kept + rest,
                                           places + rest, out, coded - rest);
        if (exhausted)
            return RANS_LANE_EXHAUSTED;
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
