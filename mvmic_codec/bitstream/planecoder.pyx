# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Planes of few values as one lane: the Python face of csrc/common/plane.h.

Signatures and their contracts are in planecoder.pyi, the format in formats/plane.md.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

import sys

import numpy as np

from mvmic_codec.errors import FormatError, InputError, TruncatedError

cdef extern from "answers.h" nogil:
    ctypedef struct AnswerContext:
        uint32_t yes
        uint32_t seen

cdef extern from "plane.h" nogil:
    enum:
        PLANE_SYMBOLS_MAX
        PLANE_CONTEXTS
        PLANE_MARGIN
        PLANE_ROWS

    const size_t PLANE_PLACES

    ctypedef struct PlanePlace:
        uint8_t symbol
        uint8_t times

    ctypedef struct Plane:
        size_t width
        size_t height
        unsigned symbols
        int ordered
        uint8_t *rows
        PlanePlace *places
        AnswerContext *contexts

    size_t plane_answers_most(const Plane *work, const uint8_t *plane)
    size_t plane_model(Plane *work, const uint8_t *plane, uint32_t *steps)
    size_t plane_encode(const uint32_t *steps, size_t count, uint32_t *words)
    int plane_decode(Plane *work, const uint8_t *data, size_t count, uint8_t *plane)

SYMBOLS_MAX = PLANE_SYMBOLS_MAX

cdef extern from *:
    const size_t SIZE_MAX


cdef class _Work:
    """The memory that both encoding and decoding need."""

    cdef Plane c
    cdef uint8_t[::1] _rows
    cdef uint8_t[:, ::1] _places
    cdef uint32_t[:, ::1] _contexts

    def __init__(self, size_t height, size_t width, unsigned symbols, bint ordered):
        self._rows = np.empty(PLANE_ROWS * (width + 2 * PLANE_MARGIN), np.uint8)
        # C uses places for three symbols or more, and contexts as far as it needs them.
        self._places = np.empty((PLANE_PLACES if symbols > 2 else 1, 2), np.uint8)
        self._contexts = np.empty((PLANE_CONTEXTS, 2), np.uint32)
        self.c.width = width
        self.c.height = height
        self.c.symbols = symbols
        self.c.ordered = ordered
        self.c.rows = &self._rows[0]
        self.c.places = <PlanePlace *> &self._places[0, 0]
        self.c.contexts = <AnswerContext *> &self._contexts[0, 0]


def _check(height, width, symbols):
    if not 1 <= symbols <= SYMBOLS_MAX:
        raise InputError(f"a plane has 1 to {SYMBOLS_MAX} symbols, got {symbols}")
    if height < 1 or width < 1:
        raise InputError(f"a plane of {width}x{height} pixels is empty")
    # C counts answers, up to 13 for each pixel and 4 bytes each, in size_t; rows have a margin.
    if 52 * height * (width + 2 * PLANE_MARGIN) > sys.maxsize:
        raise MemoryError(f"a plane of {width}x{height} pixels is too large for this machine")


def encode(plane, int symbols, bint ordered):
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.ndim != 2:
        raise InputError("a plane must be a 2-D uint8 array")
    height, width = plane.shape
    _check(height, width, symbols)
    # A private copy: another thread that changes the array can then not make C write out of bounds.
    cdef const uint8_t[::1] pixels = np.array(plane, order="C").reshape(-1)
    cdef _Work work = _Work(height, width, symbols, ordered)
    cdef size_t count
    with nogil:
        count = plane_answers_most(&work.c, &pixels[0])
    if count == SIZE_MAX:
        raise InputError(f"the plane holds a symbol of {symbols} or more, but has {symbols} symbols")
    # One more than needed: an empty array has no first item to point at.
    cdef uint32_t[::1] steps = np.empty(count + 1, np.uint32)
    with nogil:
        count = plane_model(&work.c, &pixels[0], &steps[0])
    cdef uint32_t[::1] words = np.empty(count // 2 + 2, np.uint32)
    cdef size_t written
    with nogil:
        written = plane_encode(&steps[0], count, &words[0])
    return np.asarray(words[:written]).astype("<u4").tobytes()


def decode(data, height, width, int symbols, bint ordered):
    _check(height, width, symbols)
    if len(data) % 4:
        raise TruncatedError("the plane's data is not whole words: the file was cut")
    cdef _Work work = _Work(height, width, symbols, ordered)
    plane = np.empty((height, width), np.uint8)
    cdef uint8_t[:, ::1] pixels = plane
    cdef const uint8_t[::1] words = np.frombuffer(bytes(data) + b"\0", np.uint8)
    cdef size_t count = len(data) // 4
    cdef int fault
    with nogil:
        fault = plane_decode(&work.c, &words[0], count, &pixels[0, 0])
    if fault:
        raise FormatError("the plane's data is not what an encoder writes: it is damaged")
    return plane
