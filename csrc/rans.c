#include "rans.h"

#include <string.h>

#include "trellis.h"

/* A decoded state below this takes in a word; an encoded one stays at or above it once it has been
 * there. 2^32 because words have 32 bits: in and out are then exact opposites. */
#define RANS_STATE_LOW ((uint64_t)1 << 32)

/* Indices looked at in one go by the decoder: two small arrays on the stack (3 KiB). */
#define RANS_BLOCK 1024

/* Places looked at together before each is looked at by itself: nine of ten are skipped in a real
 * image, mostly in long runs. */
#define RANS_GROUP 16

/* The equal-probability byte of an escape: 256 entries share 2^24. */
#define RANS_BYTE_FREQ (1u << (RANS_PRECISION - 8))

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

/* ceil(2^64 / freq), which would need 65 bits for 1: see quotient(). */
RANS_INLINE uint64_t rans_reciprocal(uint32_t freq)
{
    return freq > 1 ? UINT64_MAX / freq + 1 : 0;
}

void rans_tables_build(RansTables *tables, const uint16_t *half, const uint16_t *cdf, size_t width)
{
    uint32_t first = 0;
    for (uint32_t t = 1; t < tables->count; t++) {
        const uint16_t *row = cdf + (size_t)t * width;
        uint16_t *slots = tables->slots + (size_t)t * RANS_SLOTS;
        uint32_t n = 2u * half[t] + 2u;
        tables->tables[t].first = first;
        tables->tables[t].half = half[t];
        for (uint32_t e = 0; e < n; e++) {
            uint32_t freq = (uint32_t)row[e + 1] - row[e];
            tables->entries[first + e].start = (uint32_t)row[e] << RANS_SLOT_SHIFT;
            tables->entries[first + e].freq = freq << RANS_SLOT_SHIFT;
            tables->reciprocals[first + e] = rans_reciprocal(freq);
            for (uint32_t slot = row[e]; slot < row[e + 1]; slot++)
                slots[slot] = (uint16_t)e;
        }
        first += n;
    }
}

/* Whether RANS_GROUP places are all skipped. */
RANS_INLINE int rans_group_skipped(const uint8_t *indices)
{
    uint64_t halves[2];
    memcpy(halves, indices, sizeof halves);
    return (halves[0] | halves[1]) == 0;
}

/* Whether none of RANS_GROUP places is skipped: no byte of either half is 0. */
RANS_INLINE int rans_group_coded(const uint8_t *indices)
{
    const uint64_t ones = UINT64_MAX / 255, tops = ones << 7;
    uint64_t halves[2];
    memcpy(halves, indices, sizeof halves);
    uint64_t zeros = ((halves[0] - ones) & ~halves[0]) | ((halves[1] - ones) & ~halves[1]);
    return (zeros & tops) == 0;
}

/* A loop of its own, which compilers turn into one over many at a time. */
static RansStatus rans_indices_check(const RansTables *tables, uint32_t second,
                                     const uint8_t *indices, size_t n)
{
    uint8_t greatest = 0;
    for (size_t i = 0; i < n; i++)
        greatest = indices[i] > greatest ? indices[i] : greatest;
    int there = greatest < tables->count && second < tables->count - greatest;
    return there ? RANS_OK : RANS_TABLE_OUT_OF_RANGE;
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

RansStatus rans_lane_open(RansDecoderLane *lane, uint32_t *words, const uint8_t *bytes,
                          size_t count)
{
    for (size_t i = 0; i < count; i++, bytes += 4)
        words[i] = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16
                   | (uint32_t)bytes[3] << 24;
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

/* Decodes whole rounds of `lane_count` lanes and returns how many: `rounds`, or fewer if it comes to
 * a round with an escape, which is the last. Each lane has at least `rounds` words left. A symbol
 * takes one at most, so none has to look whether there is one, and with words left no state is
 * below 2^32, let alone 0. lane_count is a constant at each call below, so the inner loop unrolls. */
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

/* The table indices and places of the *coded symbols that are coded among n <= RANS_BLOCK. They are
 * a private copy: what is checked here is what is used afterwards. */
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

/* Decodes some of n >= 1 coded symbols from lane *turn on and returns how many: rounds that are sure,
 * or else one symbol after another up to the next lane 0. */
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

/* Decodes n coded symbols of a dependent pass, one after the other: each says which tables the next
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
        if (trellis_level(number, state) != level || table > UINT8_MAX
            || number > TRELLIS_NUMBER_MAX || number < -TRELLIS_NUMBER_MAX)
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
