/*
 * rans.h: static-table rANS for int16 symbols, in lanes that any 64/32/24 rANS can read.
 *
 * Read this first; four things surprise people.
 *
 * 1. It is a stack: the last symbol put is the first one got. So the encoder goes through the
 * symbols from the last to the first, and the decoder returns them from the first to the last. The
 *    decoder therefore reads a lane's words from its end towards its start.
 *
 * 2. The initial state is 0, not the lower bound of the normalised interval. A lane that holds
 *    nothing is zero words long, and the first symbols cost no renormalisation. But 0 is a trap: a
 *    table's first entry, put on state 0, leaves state 0. A lane could hold any number of those in
 *    no words at all, and a decoder that runs out of words would not notice. Hence one rule for
 *    encoders: they never put the first entry on state 0, but escape that symbol. Then a decoder
 *    that is asked for a symbol at state 0 knows that words are missing.
 *
 * 3. Frequencies look coarse (12 bits) but are used at 24 bits. All are multiples of 2^12, so the
 *    top 12 bits of the quantile pick the entry by one lookup, while the coded words are those of a
 *    24-bit coder. So the low 12 bits of a state survive every step until a word is moved in or
 * out. Coding starts at 0, so they are 0 in the first word of every valid lane. Other bits there
 * show damage before any symbol is decoded.
 *
 * 4. Nothing here allocates, and nothing here trusts its input. The caller owns all memory. Every
 *    function that reads foreign data says what it refuses. For damaged words a decoder may return
 *    wrong symbols. It never reads or writes outside of its buffers, and always returns.
 *
 * formats/ans.md describes the same format without code.
 */
#ifndef MVMIC_RANS_H
#define MVMIC_RANS_H

#include <stddef.h>
#include <stdint.h>

/* Each probability is freq / 2^24. 24 bits and a 64-bit state leave 2^(64 - 24 - 32) = 2^8 between
 * the lower bound of the state and the coarsest step, so the rounding loss is far under 0.01%. */
#define RANS_PRECISION 24

/* Tables are stored with 12 bits: 4096 slots are an 8 KiB lookup, and a least frequency of 2^-12
 * costs a symbol at most 12 bits before an escape would be cheaper. */
#define RANS_TABLE_BITS 12
#define RANS_SLOTS (1u << RANS_TABLE_BITS)

/* From a table's unit to the coder's: 2^12 quantiles a slot. */
#define RANS_SLOT_SHIFT (RANS_PRECISION - RANS_TABLE_BITS)

/* Largest magnitude with an entry of its own: 2 * 1023 + 2 entries still fit into 4096 slots, half
 * of which are then left to be shared out by probability. */
#define RANS_HALF_MAX 1023

/* There are 1, 2, 4 or 8 lanes, which are decoded interleaved. A core overlaps fewer than eight
 * chains of dependent steps. */
#define RANS_LANES_MAX 8

/* A lane's final state takes at most two words, behind the others. */
#define RANS_STATE_WORDS 2

typedef enum {
    RANS_OK = 0,
    RANS_TABLE_OUT_OF_RANGE, /* a table index at or over the number of tables */
    RANS_SKIP_NOT_ZERO,      /* a symbol other than 0 where table 0 says that it is not coded */
    RANS_LANE_NOT_CANONICAL, /* last word 0, or low 12 bits of the first word not 0 */
    RANS_LANE_EXHAUSTED,     /* a symbol was wanted from a lane that is at its end */
    RANS_NO_LEVEL            /* a symbol of a dependent pass that its quantiser does not have */
} RansStatus;

/* One entry of one table, at 24 bits: both are multiples of 2^12, and freq is under 2^24, as there
 * are two entries or more. */
typedef struct {
    uint32_t start;
    uint32_t freq;
} RansEntry;

/* One table: its entries are -half..half, then the escape. */
typedef struct {
    uint32_t first; /* where its entries begin among those of all tables */
    int32_t half;
} RansTable;

/* `count` tables. Table 0 is never read and has no entries. The entries of the others lie one table
 * behind the other. The caller owns the arrays, which must outlive the struct. Reciprocals are an
 * array of their own: decoders do not need them, and so have twice as many entries in the cache. */
typedef struct {
    RansTable *tables;     /* [count] */
    RansEntry *entries;    /* [sum of 2 * half + 2] */
    uint64_t *reciprocals; /* entry -> ceil(2^64 / (freq / 2^12)), or 0 for freq 2^12 */
    uint16_t *slots;       /* [count * RANS_SLOTS]: slot -> entry of its table */
    uint32_t count;
} RansTables;

/* A lane while it is written. The caller gives room for one word per symbol and RANS_STATE_WORDS:
 * even an escape of frequency 1 takes only 12 + 16 bits, the rounding of its three steps adds less
 * than a tenth of a bit, and only the first step of a lane, from state 0, can come to 24. The word
 * behind the last is scratch. */
typedef struct {
    uint64_t state;
    uint32_t *next; /* where the next word goes, the lane's first at the start */
} RansEncoderLane;

/* A lane while it is read: of its words[0..left), the last is the next one to use. */
typedef struct {
    uint64_t state;
    const uint32_t *words;
    size_t left;
} RansDecoderLane;

/* Fills the arrays from half[count] and cdf[count][width], in slots: cdf[t][0] = 0, increasing,
 * cdf[t][2 * half[t] + 2] = 4096. The caller has checked that this holds for every t >= 1. */
void rans_tables_build(RansTables *tables, const uint16_t *half, const uint16_t *cdf, size_t width);

/* Copies the symbols that are coded (table index not 0) and their table indices to coded_symbols
 * and coded_indices, which have room for n each, and adds their number to *coded. The encoder runs
 * on this private copy, so a caller's array that changes meanwhile can spoil the result but not the
 * memory.
 * RANS_TABLE_OUT_OF_RANGE or RANS_SKIP_NOT_ZERO where that is found. */
RansStatus rans_symbols_gather(const RansTables *tables, const int16_t *symbols,
                               const uint8_t *indices, size_t n, int16_t *coded_symbols,
                               uint8_t *coded_indices, size_t *coded);

/* Encodes n gathered symbols, number i on lane i % lane_count, and ends each lane with its state.
 * All lanes start at state 0. */
void rans_lanes_encode(const RansTables *tables, RansEncoderLane *lanes, size_t lane_count,
                       const int16_t *symbols, const uint8_t *indices, size_t n);

/* Takes a lane's count little-endian words from bytes into words and sets up the lane.
 * RANS_LANE_NOT_CANONICAL if no encoder can have written it. */
RansStatus rans_lane_open(RansDecoderLane *lane, uint32_t *words, const uint8_t *bytes,
                          size_t count);

/* Decodes the symbols of n table indices. Those of index 0 are 0 and take nothing from a lane.
 * *turn (below lane_count) is the lane of the next coded symbol, and goes on between calls. If
 * `second` is not 0, these are all symbols of one dependent pass, and a symbol's table for the
 * second quantiser lies `second` behind its first one. After RANS_TABLE_OUT_OF_RANGE or
 * RANS_LANE_EXHAUSTED, which may be noticed late, the symbols of this call are useless. */
RansStatus rans_lanes_decode(const RansTables *tables, RansDecoderLane *lanes, size_t lane_count,
                             size_t *turn, uint32_t second, const uint8_t *indices,
                             int16_t *symbols, size_t n);

/* Replaces the symbols of a dependent pass by the numbers that are coded for them, and the indices
 * by those of their tables. RANS_NO_LEVEL if a symbol has no such number. */
RansStatus rans_levels_resolve(int16_t *symbols, uint8_t *indices, size_t n, uint32_t second);

/* Writes count words as little-endian bytes. */
void rans_words_store(uint8_t *bytes, const uint32_t *words, size_t count);

#endif
