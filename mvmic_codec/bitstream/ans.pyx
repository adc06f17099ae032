# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""rANS with static integer tables: the Python face of csrc/common/rans.h.

Signatures and their contracts are in ans.pyi, the format in formats/ans.md.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport log2
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t

import threading

import numpy as np

from mvmic_codec.errors import FormatError, InputError, TruncatedError

cdef extern from "rans.h" nogil:
    enum:
        RANS_PRECISION
        RANS_SLOTS
        RANS_HALF_MAX
        RANS_LANES_MAX
        RANS_STATE_WORDS

    ctypedef enum RansStatus:
        RANS_OK
        RANS_TABLE_OUT_OF_RANGE
        RANS_SKIP_NOT_ZERO
        RANS_LANE_NOT_CANONICAL
        RANS_LANE_EXHAUSTED
        RANS_NO_LEVEL

    ctypedef struct RansEntry:
        uint32_t start
        uint32_t freq

    ctypedef struct RansTable:
        uint32_t first
        int32_t half

    ctypedef struct RansTables:
        RansTable *tables
        RansEntry *entries
        uint64_t *reciprocals
        uint16_t *slots
        uint32_t count

    ctypedef struct RansEncoderLane:
        uint64_t state
        uint32_t *next

    ctypedef struct RansDecoderLane:
        uint64_t state
        const uint32_t *words
        size_t left

    void rans_tables_build(
        RansTables *tables, const uint16_t *half, const uint16_t *cdf, size_t width)
    RansStatus rans_symbols_gather(
        const RansTables *tables, const int16_t *symbols, const uint8_t *indices, size_t n,
        int16_t *coded_symbols, uint8_t *coded_indices, size_t *coded)
    void rans_lanes_encode(
        const RansTables *tables, RansEncoderLane *lanes, size_t lane_count,
        const int16_t *symbols, const uint8_t *indices, size_t n)
    RansStatus rans_lane_open(
        RansDecoderLane *lane, uint32_t *words, const uint8_t *data, size_t count)
    RansStatus rans_lanes_decode(
        const RansTables *tables, RansDecoderLane *lanes, size_t lane_count, size_t *turn,
        uint32_t second, const uint8_t *indices, int16_t *symbols, size_t n)
    RansStatus rans_levels_resolve(
        int16_t *symbols, uint8_t *indices, size_t n, uint32_t second)
    void rans_words_store(uint8_t *data, const uint32_t *words, size_t count)

LANE_COUNTS = (1, 2, 4, 8)

SLOTS = RANS_SLOTS
ESCAPE_BITS = 16


def _vector(array, dtype, str what):
    """`array` as a contiguous 1-D array. Never converts it to another type."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        found = (
            f"{array.dtype} of {array.ndim} dimensions"
            if isinstance(array, np.ndarray)
            else type(array).__name__
        )
        raise InputError(f"{what} must be a 1-D {np.dtype(dtype)} array, got {found}")
    return np.ascontiguousarray(array)


def _check_tables(half, cdf):
    """InputError unless rows 1, 2, ... are complete, rise strictly and end at RANS_SLOTS."""
    if half.dtype != np.uint16 or half.ndim != 1:
        raise InputError("the tables' half must be a 1-D uint16 array")
    if cdf.dtype != np.uint16 or cdf.ndim != 2:
        raise InputError("the tables' cdf must be a 2-D uint16 array")
    if len(half) != len(cdf):
        raise InputError(f"half has {len(half)} tables but cdf has {len(cdf)}")
    if not 1 <= len(half) <= 256:
        raise InputError(f"there must be 1 to 256 tables, got {len(half)}")
    for t in range(1, len(half)):
        if half[t] > RANS_HALF_MAX:
            raise InputError(f"table {t}: half is {half[t]}, over {RANS_HALF_MAX}")
        end = 2 * int(half[t]) + 2
        if end >= cdf.shape[1]:
            raise InputError(f"table {t}: {end + 1} cdf columns needed, {cdf.shape[1]} given")
        row = cdf[t, : end + 1].astype(np.int32)
        if row[0] != 0 or row[end] != RANS_SLOTS:
            raise InputError(f"table {t}: cdf must run from 0 to {RANS_SLOTS}")
        if np.diff(row).min() < 1:
            raise InputError(f"table {t}: every frequency must be at least 1")


cdef _raise_status(RansStatus status):
    if status == RANS_TABLE_OUT_OF_RANGE:
        raise InputError("a table index is at or over the number of tables")
    if status == RANS_SKIP_NOT_ZERO:
        raise InputError("a symbol at a skipped place (table index 0) is not 0")
    if status == RANS_NO_LEVEL:
        raise InputError("a symbol of a dependent pass is none of the levels that it can have")
    if status == RANS_LANE_EXHAUSTED:
        raise TruncatedError("an ANS lane ran out before its last symbol: it was cut or damaged")


cdef class Tables:
    cdef RansTables _c
    # These arrays own the memory that _c points to.
    cdef object _arrays

    def __init__(self, half, cdf):
        if self._c.slots is not NULL:
            raise InputError("Tables cannot be initialised twice")
        half = np.array(half)
        cdf = np.array(cdf, order="C")
        _check_tables(half, cdf)
        count, width = cdf.shape
        entries = int((2 * half[1:].astype(np.int64) + 2).sum())
        # One more than needed: an empty array has no first item to point at.
        cdef uint64_t[::1] tables_memory = np.zeros(count, np.uint64)
        cdef uint64_t[::1] entries_memory = np.zeros(entries + 1, np.uint64)
        cdef uint64_t[::1] reciprocals_memory = np.zeros(entries + 1, np.uint64)
        cdef uint16_t[::1] slots_memory = np.zeros(count * RANS_SLOTS, np.uint16)
        self._c.tables = <RansTable *> &tables_memory[0]
        self._c.entries = <RansEntry *> &entries_memory[0]
        self._c.reciprocals = &reciprocals_memory[0]
        self._c.slots = &slots_memory[0]
        self._c.count = count
        self._arrays = (tables_memory, entries_memory, reciprocals_memory, slots_memory)
        cdef const uint16_t[::1] halves = half
        cdef const uint16_t[::1] flat = cdf.reshape(-1)
        if count > 1:
            rans_tables_build(&self._c, &halves[0], &flat[0], width)

    @property
    def count(self):
        return self._c.count


def encode(passes, Tables tables not None, int lanes):
    if lanes not in LANE_COUNTS:
        raise InputError(f"there can be {LANE_COUNTS} lanes, not {lanes}")
    cdef list pairs = []
    cdef size_t total = 0
    for symbols, indices in passes:
        symbols = _vector(symbols, np.int16, "symbols")
        indices = _vector(indices, np.uint8, "table indices")
        if len(symbols) != len(indices):
            raise InputError(f"{len(symbols)} symbols but {len(indices)} table indices in a pass")
        pairs.append((symbols, indices))
        total += <size_t> len(symbols)

    cdef int16_t[::1] coded_symbols = np.empty(total + 1, np.int16)
    cdef uint8_t[::1] coded_indices = np.empty(total + 1, np.uint8)
    cdef const int16_t[::1] symbol_view
    cdef const uint8_t[::1] index_view
    cdef size_t coded = 0, n
    cdef RansStatus status
    for symbol_view, index_view in pairs:
        n = symbol_view.shape[0]
        if n == 0:
            continue
        with nogil:
            status = rans_symbols_gather(
                &tables._c, &symbol_view[0], &index_view[0], n,
                &coded_symbols[coded], &coded_indices[coded], &coded)
        if status != RANS_OK:
            _raise_status(status)

    cdef size_t room = (coded + lanes - 1) // lanes + RANS_STATE_WORDS
    cdef uint32_t[::1] words = np.empty(room * lanes, np.uint32)
    cdef RansEncoderLane state[RANS_LANES_MAX]
    cdef int lane
    for lane in range(lanes):
        state[lane].state = 0
        state[lane].next = &words[lane * room]
    with nogil:
        rans_lanes_encode(&tables._c, state, lanes, &coded_symbols[0], &coded_indices[0], coded)

    cdef list written = []
    for lane in range(lanes):
        n = state[lane].next - &words[lane * room]
        data = PyBytes_FromStringAndSize(NULL, 4 * n)
        rans_words_store(<uint8_t *> PyBytes_AS_STRING(data), &words[lane * room], n)
        written.append(data)
    return written


def resolve(symbols, indices, uint32_t second):
    numbers = _vector(symbols, np.int16, "symbols").copy()
    tables = _vector(indices, np.uint8, "table indices").copy()
    if len(numbers) != len(tables):
        raise InputError(f"{len(numbers)} symbols but {len(tables)} table indices")
    if len(numbers) == 0:
        return numbers, tables
    cdef int16_t[::1] number_view = numbers
    cdef uint8_t[::1] table_view = tables
    cdef size_t n = number_view.shape[0]
    cdef RansStatus status
    with nogil:
        status = rans_levels_resolve(&number_view[0], &table_view[0], n, second)
    if status != RANS_OK:
        _raise_status(status)
    return numbers, tables


cdef class Decoder:
    cdef Tables _tables
    cdef uint32_t[::1] _words
    cdef RansDecoderLane _lanes[RANS_LANES_MAX]
    cdef size_t _lane_count
    cdef size_t _turn
    # One call at a time: two at once would move a lane's position past its start.
    cdef object _lock

    def __init__(self, lanes, Tables tables not None):
        if self._lock is not None:
            raise InputError("a Decoder cannot be initialised twice")
        lanes = [bytes(lane) for lane in lanes]
        if len(lanes) not in LANE_COUNTS:
            raise InputError(f"there can be {LANE_COUNTS} lanes, not {len(lanes)}")
        for number, lane in enumerate(lanes):
            if len(lane) % 4 != 0:
                raise TruncatedError(
                    f"ANS lane {number} has {len(lane)} bytes, not whole 32-bit words: "
                    "the data was cut"
                )
        self._tables = tables
        self._lane_count = len(lanes)
        self._turn = 0
        # One more than needed: an empty array has no first item to point at.
        self._words = np.empty(sum(len(lane) // 4 for lane in lanes) + 1, np.uint32)
        cdef size_t start = 0, count
        cdef const uint8_t *data
        for number, lane in enumerate(lanes):
            count = <size_t> len(lane) // 4
            data = <const uint8_t *> PyBytes_AS_STRING(lane)
            if rans_lane_open(&self._lanes[<int> number], &self._words[start], data,
                              count) != RANS_OK:
                raise FormatError(
                    f"ANS lane {number} is damaged: no encoder writes its first or last word"
                )
            start += count
        self._lock = threading.Lock()

    def decode(self, indices, uint32_t second=0):
        indices = _vector(indices, np.uint8, "table indices")
        symbols = np.empty(len(indices), np.int16)
        if len(indices) == 0:
            return symbols
        cdef const uint8_t[::1] index_view = indices
        cdef int16_t[::1] symbol_view = symbols
        cdef size_t n = index_view.shape[0]
        cdef RansStatus status
        with self._lock:
            with nogil:
                status = rans_lanes_decode(
                    &self._tables._c, self._lanes, self._lane_count, &self._turn, second,
                    &index_view[0], &symbol_view[0], n)
        if status != RANS_OK:
            _raise_status(status)
        return symbols

    def finish(self):
        for lane in range(self._lane_count):
            if self._lanes[<int> lane].left:
                raise FormatError(
                    f"ANS lane {lane} is damaged: {self._lanes[<int> lane].left} words are left "
                    "after its last symbol"
                )
        for lane in range(self._lane_count):
            if self._lanes[<int> lane].state:
                raise TruncatedError(
                    f"ANS lane {lane} does not end where it should: it was cut or damaged"
                )


def estimate_bits(symbols, indices, Tables tables not None):
    symbols = _vector(symbols, np.int16, "symbols")
    indices = _vector(indices, np.uint8, "table indices")
    if len(symbols) != len(indices):
        raise InputError(f"{len(symbols)} symbols but {len(indices)} table indices")
    if len(indices) and indices.max() >= tables.count:
        _raise_status(RANS_TABLE_OUT_OF_RANGE)
    if symbols[indices == 0].any():
        _raise_status(RANS_SKIP_NOT_ZERO)
    cdef const int16_t[::1] symbol_view = symbols
    cdef const uint8_t[::1] index_view = indices
    cdef double bits = 0, escape_bits = ESCAPE_BITS
    cdef int entry, table, half
    cdef const RansTables *all = &tables._c
    cdef Py_ssize_t i
    with nogil:
        for i in range(index_view.shape[0]):
            table = index_view[i]
            if table == 0 or <uint32_t> table >= all.count:
                continue
            half = all.tables[table].half
            entry = symbol_view[i] + half
            if entry < 0 or entry > 2 * half:
                entry = 2 * half + 1
                bits += escape_bits
            bits += RANS_PRECISION - log2(all.entries[all.tables[table].first + entry].freq)
    return bits
