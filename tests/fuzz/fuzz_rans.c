/*
 * fuzz_rans.c: a libFuzzer target over the C behind csrc/common/rans.h.
 *
 * An input is a short description of tables and table indices, and then either the bytes of lanes
 * (decoded as they are: hostile()) or symbols (coded and decoded: round_trip()). The tables are
 * always sound, because ans.pyx refuses others before C sees them; nothing else is promised to C
 * that ans.pyx does not check. Every buffer is an allocation of its own and of the exact size that
 * rans.h asks for, so that AddressSanitizer sees the first byte too many.
 *
 * Every finding is an abort().
 */
#include <stdlib.h>
#include <string.h>

#include "rans.h"
#include "require.h"

#define TABLES_MAX 8
#define SYMBOLS_MAX 4096 /* four blocks of the decoder */

typedef struct {
    const uint8_t *bytes;
    size_t left;
} Input;

/* What both halves are about. */
typedef struct {
    RansTables tables;
    uint16_t *half;
    uint16_t *cdf; /* [count * width] */
    uint32_t width;
    size_t lane_count;
    size_t calls;    /* the decoder is called this many times for its n symbols */
    uint32_t second; /* if not 0 all of these are a dependent pass, and calls is 1 */
    uint8_t *indices;
    size_t n;
} Task;

static unsigned take(Input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

static unsigned take_two(Input *input)
{
    unsigned low = take(input);
    return low | take(input) << 8;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = malloc(count * size);
    REQUIRE(memory != NULL || count * size == 0);
    return memory;
}

/* A sound table row: entry `peak` has half of what is to be shared out, its right neighbour half of
 * the rest and so on round, so there are wide entries and such of one slot. */
static void fill_cdf(uint16_t *row, unsigned half, unsigned peak)
{
    unsigned n = 2 * half + 2, spare = RANS_SLOTS - n;
    for (unsigned e = 0; e <= n; e++)
        row[e] = 1;
    for (unsigned e = peak % n; spare > 0; e = (e + 1) % n) {
        unsigned share = (spare + 1) / 2;
        row[e] = (uint16_t)(row[e] + share);
        spare -= share;
    }
    unsigned start = 0;
    for (unsigned e = 0; e <= n; e++) {
        unsigned freq = row[e];
        row[e] = (uint16_t)start;
        start += freq;
    }
}

static void make_tables(Task *task, Input *input)
{
    unsigned shape = take(input);
    uint32_t count = 1 + shape % TABLES_MAX;
    uint16_t *half = allocate(count, sizeof *half);
    size_t entries = 0;
    unsigned peaks[TABLES_MAX] = {0};
    half[0] = 0;
    uint32_t width = 0;
    for (uint32_t t = 1; t < count; t++) {
        half[t] = (uint16_t)(take_two(input) % (RANS_HALF_MAX + 1));
        peaks[t] = take_two(input);
        entries += 2u * half[t] + 2;
        if (2u * half[t] + 3 > width)
            width = 2u * half[t] + 3;
    }
    width += shape >> 6; /* rows may be wider than any table */
    task->half = half;
    task->width = width;
    task->tables.count = count;
    task->tables.tables = allocate(count, sizeof(RansTable));
    task->tables.entries = allocate(entries, sizeof(RansEntry));
    task->tables.reciprocals = allocate(entries, sizeof(uint64_t));
    task->tables.slots = allocate((size_t)count * RANS_SLOTS, sizeof(uint16_t));
    task->cdf = allocate((size_t)count * width, sizeof(uint16_t));
    memset(task->cdf, 0xFF, (size_t)count * width * sizeof(uint16_t));
    for (uint32_t t = 1; t < count; t++)
        fill_cdf(task->cdf + (size_t)t * width, half[t], peaks[t]);
    if (count > 1)
        rans_tables_build(&task->tables, half, task->cdf, width);
}

/* n table indices that repeat a pattern, so that a short input can still be several blocks long. */
static void make_indices(Task *task, Input *input)
{
    task->n = take_two(input) % (SYMBOLS_MAX + 1);
    size_t period = 1 + take(input);
    uint8_t pattern[256];
    for (size_t i = 0; i < period; i++) {
        unsigned byte = take(input);
        pattern[i] = (uint8_t)(byte == 255 ? 255 : byte % task->tables.count);
    }
    task->indices = allocate(task->n, 1);
    for (size_t i = 0; i < task->n; i++)
        task->indices[i] = pattern[i % period];
}

/* The decoding step of formats/ans.md, section 5, as it stands there. */
static void slow_step(RansDecoderLane *lane, uint64_t start, uint64_t freq)
{
    uint64_t x = lane->state;
    x = (x >> 24) * (freq << 12) + (x & 0xFFFFFF) - (start << 12);
    if (x < (uint64_t)1 << 32 && lane->left > 0)
        x = x << 32 | lane->words[--lane->left];
    lane->state = x;
}

/* What formats/ans.md, section 4, makes of a number in a state, and the state after it. */
static int slow_level(unsigned *state, int number)
{
    static const unsigned even[8] = {0, 2, 4, 6, 5, 7, 1, 3}, odd[8] = {2, 0, 6, 4, 7, 5, 3, 1};
    int level = 2 * number;
    if (*state >= 4)
        level -= number > 0 ? 1 : number < 0 ? -1 : 0;
    *state = number % 2 == 0 ? even[*state] : odd[*state];
    return level > 32767 ? 32767 : level < -32767 ? -32767 : level;
}

/* Whether the table of a place, or that of the second quantiser, is none. */
static int out_of_tables(const Task *task, unsigned index)
{
    return index != 0 && index + task->second >= task->tables.count;
}

/* *surplus is set where a symbol is escaped that has an entry. */
static int slow_symbol(const Task *task, RansDecoderLane *lane, unsigned index, int *surplus)
{
    int half = task->half[index];
    const uint16_t *row = task->cdf + (size_t)index * task->width;
    uint64_t slot = lane->state >> 12 & 4095;
    int low = 0, high = 2 * half + 2; /* row[low] <= slot < row[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (row[middle] <= slot)
            low = middle;
        else
            high = middle;
    }
    slow_step(lane, row[low], (uint64_t)(row[high] - row[low]));
    if (low <= 2 * half)
        return low - half;
    int bits = 0;
    for (int i = 0; i < 2; i++) {
        int byte = (int)(lane->state >> 16 & 255);
        slow_step(lane, 16 * (uint64_t)byte, 16);
        bits = bits << 8 | byte;
    }
    int symbol = bits < 32768 ? bits : bits - 65536;
    if (symbol >= -half && symbol <= half)
        *surplus = 1;
    return symbol;
}

static uint32_t last_word(const uint8_t *bytes, size_t count)
{
    bytes += 4 * (count - 1);
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* `words` is where the lane's words will lie in memory. */
static RansStatus open_lane(RansDecoderLane *lane, uint32_t **words, const uint8_t *bytes,
                            size_t count)
{
    *words = allocate(count, sizeof(uint32_t));
    return rans_lane_open(lane, *words, bytes, count);
}

static int all_used(const Task *task, const RansDecoderLane *lanes)
{
    int used = 1;
    for (size_t lane = 0; lane < task->lane_count; lane++)
        used &= lanes[lane].left == 0 && lanes[lane].state == 0;
    return used;
}

/* Decodes all symbols in several calls; each gets buffers of its own, as from Python. After an
 * error the other calls are made too: Python may go on asking. The first status is returned. */
static RansStatus decode(const Task *task, RansDecoderLane *lanes, int16_t *symbols)
{
    RansStatus first = RANS_OK;
    size_t turn = 0, done = 0;
    for (size_t call = 1; call <= task->calls; call++) {
        size_t size = task->n * call / task->calls - done;
        uint8_t *indices = allocate(size, 1);
        int16_t *out = allocate(size, sizeof *out);
        if (size > 0)
            memcpy(indices, task->indices + done, size);
        RansStatus status = rans_lanes_decode(&task->tables, lanes, task->lane_count, &turn,
                                              task->second, indices, out, size);
        REQUIRE(turn < task->lane_count);
        if (first == RANS_OK)
            first = status;
        if (status == RANS_OK && size > 0)
            memcpy(symbols + done, out, size * sizeof *out);
        done += size;
        free(indices);
        free(out);
    }
    return first;
}

/* Symbols -> lanes' bytes -> the same symbols, with nothing left over. If `expected` is not NULL,
 * the bytes are compared with it: `counts` words for each lane, one lane after the other. */
static void round_trip(const Task *task, const int16_t *symbols, const uint8_t *expected,
                       const size_t *counts)
{
    size_t n = task->n, coded = 0;
    int out_of_range = 0, skip_not_zero = 0;
    for (size_t i = 0; i < n; i++) {
        out_of_range |= out_of_tables(task, task->indices[i]);
        skip_not_zero |= task->indices[i] == 0 && symbols[i] != 0;
    }
    int16_t *numbers = allocate(n, sizeof *numbers);
    uint8_t *tables = allocate(n, 1);
    if (n > 0) {
        memcpy(numbers, symbols, n * sizeof *numbers);
        memcpy(tables, task->indices, n);
    }
    if (task->second != 0) {
        int resolved = rans_levels_resolve(numbers, tables, n, task->second) == RANS_OK;
        unsigned state = 0;
        for (size_t i = 0; i < n && resolved; i++)
            if (task->indices[i] != 0) {
                REQUIRE(tables[i] == task->indices[i] + task->second * (state >= 4));
                REQUIRE(slow_level(&state, numbers[i]) == symbols[i]);
            }
        /* No encoder has such levels, or could ask for a decoder's tables. */
        if (!resolved || out_of_range) {
            free(numbers);
            free(tables);
            return;
        }
    }
    int16_t *coded_symbols = allocate(n, sizeof *coded_symbols);
    uint8_t *coded_indices = allocate(n, 1);
    RansStatus status = rans_symbols_gather(&task->tables, numbers, tables, n, coded_symbols,
                                            coded_indices, &coded);
    free(numbers);
    free(tables);
    if (out_of_range || skip_not_zero) {
        REQUIRE(status == (out_of_range ? RANS_TABLE_OUT_OF_RANGE : RANS_SKIP_NOT_ZERO));
        free(coded_symbols);
        free(coded_indices);
        return;
    }
    REQUIRE(status == RANS_OK && coded <= n);

    RansEncoderLane encoders[RANS_LANES_MAX];
    uint32_t *written[RANS_LANES_MAX];
    size_t room = (coded + task->lane_count - 1) / task->lane_count + RANS_STATE_WORDS;
    for (size_t lane = 0; lane < task->lane_count; lane++) {
        written[lane] = allocate(room, sizeof(uint32_t));
        encoders[lane] = (RansEncoderLane){0, written[lane]};
    }
    rans_lanes_encode(&task->tables, encoders, task->lane_count, coded_symbols, coded_indices,
                      coded);
    free(coded_symbols);
    free(coded_indices);

    RansDecoderLane decoders[RANS_LANES_MAX];
    uint32_t *words[RANS_LANES_MAX];
    for (size_t lane = 0; lane < task->lane_count; lane++) {
        size_t count = (size_t)(encoders[lane].next - written[lane]);
        uint8_t *bytes = allocate(count, 4);
        rans_words_store(bytes, written[lane], count);
        REQUIRE(open_lane(&decoders[lane], &words[lane], bytes, count) == RANS_OK);
        if (expected != NULL) {
            REQUIRE(count == counts[lane]);
            REQUIRE(count == 0 || memcmp(bytes, expected, 4 * count) == 0);
            expected += 4 * count;
        }
        free(bytes);
        free(written[lane]);
    }
    int16_t *decoded = allocate(n, sizeof *decoded);
    REQUIRE(decode(task, decoders, decoded) == RANS_OK);
    REQUIRE(n == 0 || memcmp(decoded, symbols, n * sizeof *decoded) == 0);
    REQUIRE(all_used(task, decoders));
    free(decoded);
    for (size_t lane = 0; lane < task->lane_count; lane++)
        free(words[lane]);
}

/* Lanes of foreign bytes: each decoder gives the same symbols or the same error. A stream that is
 * used up to the end is the one that the encoder writes for its symbols: with words left a state is
 * 2^32 or more before each step, hence each step undoes exactly one of the encoder's. The exception
 * is a symbol that is escaped although it has an entry, which a decoder takes all the same. */
static void hostile(const Task *task, Input *input, int mend)
{
    RansDecoderLane lanes[RANS_LANES_MAX], slow[RANS_LANES_MAX];
    uint32_t *words[RANS_LANES_MAX];
    size_t counts[RANS_LANES_MAX];
    for (size_t lane = 0; lane + 1 < task->lane_count; lane++)
        counts[lane] = take(input);
    counts[task->lane_count - 1] = SIZE_MAX;
    uint8_t *whole = allocate(input->left, 1);
    if (input->left > 0)
        memcpy(whole, input->bytes, input->left);

    int sound = 1;
    uint8_t *bytes = whole;
    size_t left = input->left / 4;
    for (size_t lane = 0; lane < task->lane_count; lane++) {
        if (counts[lane] > left)
            counts[lane] = left;
        if (mend && counts[lane] > 0) {
            bytes[0] = 0; /* past the first check, into the decoder */
            bytes[1] &= 0xF0;
        }
        uint8_t *exact = allocate(counts[lane], 4);
        if (counts[lane] > 0)
            memcpy(exact, bytes, 4 * counts[lane]);
        int canonical = counts[lane] == 0 || (last_word(exact, counts[lane]) != 0 &&
                                              exact[0] == 0 && (exact[1] & 0x0F) == 0);
        RansStatus status = open_lane(&lanes[lane], &words[lane], exact, counts[lane]);
        REQUIRE(status == (canonical ? RANS_OK : RANS_LANE_NOT_CANONICAL));
        sound &= canonical;
        free(exact);
        bytes += 4 * counts[lane];
        left -= counts[lane];
    }
    if (sound) {
        memcpy(slow, lanes, sizeof lanes);
        int16_t *symbols = allocate(task->n, sizeof *symbols);
        RansStatus status = decode(task, lanes, symbols);
        size_t turn = 0;
        unsigned state = 0;
        int surplus = 0, out_of_range = 0, exhausted = 0;
        for (size_t i = 0; i < task->n; i++)
            out_of_range |= out_of_tables(task, task->indices[i]);
        for (size_t i = 0; i < task->n && !out_of_range; i++) {
            int symbol = 0;
            if (task->indices[i] != 0) {
                exhausted |= slow[turn].state == 0;
                unsigned table = task->indices[i] + task->second * (state >= 4);
                symbol = slow_symbol(task, &slow[turn], table, &surplus);
                surplus |= task->second != 0 && (symbol > 16383 || symbol < -16383);
                if (task->second != 0)
                    symbol = slow_level(&state, symbol);
                turn = (turn + 1) % task->lane_count;
            }
            REQUIRE(status != RANS_OK || symbols[i] == symbol);
        }
        if (out_of_range)
            REQUIRE(status == RANS_TABLE_OUT_OF_RANGE || status == RANS_LANE_EXHAUSTED);
        else
            REQUIRE(status == (exhausted ? RANS_LANE_EXHAUSTED : RANS_OK));
        if (status == RANS_OK) {
            REQUIRE(all_used(task, lanes) == all_used(task, slow));
            int same_bytes = all_used(task, lanes) && !surplus;
            round_trip(task, symbols, same_bytes ? whole : NULL, counts);
        }
        free(symbols);
    }
    for (size_t lane = 0; lane < task->lane_count; lane++)
        free(words[lane]);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input = {data, size};
    Task task;
    unsigned first = take(&input);
    unsigned decode_only = first >> 7, switched = first >> 6 & 1;
    task.lane_count = (size_t)1 << (first & 3);
    make_tables(&task, &input);
    task.second = first >> 4 & 1 ? (task.tables.count - 1) / 2 : 0;
    task.calls = task.second != 0 ? 1 : 1 + (first >> 2 & 3);
    make_indices(&task, &input);
    if (decode_only) {
        hostile(&task, &input, !switched);
    } else {
        /* The symbols repeat, as the indices do. Most inputs keep to 0 where nothing is coded. */
        int16_t *symbols = allocate(task.n, sizeof *symbols);
        Input rest = input;
        unsigned state = 0;
        for (size_t i = 0; i < task.n; i++) {
            if (rest.left < 2)
                rest = input;
            symbols[i] = (int16_t)take_two(&rest);
            if (task.indices[i] == 0 && !switched)
                symbols[i] = 0;
            if (task.indices[i] != 0 && task.second != 0)
                symbols[i] = (int16_t)slow_level(&state, symbols[i]);
        }
        round_trip(&task, symbols, NULL, NULL);
        free(symbols);
    }
    free(task.indices);
    free(task.cdf);
    free(task.half);
    free(task.tables.tables);
    free(task.tables.entries);
    free(task.tables.slots);
    free(task.tables.reciprocals);
    return 0;
}
