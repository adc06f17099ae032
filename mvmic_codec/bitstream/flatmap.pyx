# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Maps of flat colours as one lane: the Python face of csrc/common/flatmap.h.

Signatures and their contracts are in flatmap.pyi, the format in formats/flat.md.
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

cdef extern from "flatmap.h" nogil:
    enum:
        FLATMAP_COLOURS_MAX
        FLATMAP_CONTEXTS
        FLATMAP_MARGIN

    ctypedef struct Flatmap:
        size_t width
        size_t height
        const uint8_t *open
        unsigned colours
        uint8_t *cells
        AnswerContext *contexts

    size_t flatmap_decisions(const Flatmap *work, const uint8_t *map)
    void flatmap_model(Flatmap *work, const uint8_t *map, uint32_t *steps)
    size_t flatmap_encode(const uint32_t *steps, size_t count, uint32_t *words)
    int flatmap_decode(Flatmap *work, const uint8_t *data, size_t count, uint8_t *map)

COLOURS_MAX = FLATMAP_COLOURS_MAX

cdef extern from *:
    const size_t SIZE_MAX


cdef class _Work:
    """The memory that both encoding and decoding need."""

    cdef Flatmap c
    cdef const uint8_t[::1] _open
    cdef uint8_t[::1] _cells
    cdef uint32_t[:, ::1] _contexts

    def __init__(self, size_t height, size_t width, open, unsigned colours):
        self._cells = np.empty(
            (height + 2 * FLATMAP_MARGIN) * (width + 2 * FLATMAP_MARGIN), np.uint8
        )
        self._contexts = np.empty((FLATMAP_CONTEXTS, 2), np.uint32)
        self.c.width = width
        self.c.height = height
        self.c.open = NULL
        if open is not None:
            self._open = np.array(open, np.uint8, order="C").reshape(-1)
            self.c.open = &self._open[0]
        self.c.colours = colours
        self.c.cells = &self._cells[0]
        self.c.contexts = <AnswerContext *> &self._contexts[0, 0]


def _check(height, width, open, colours):
    if not 1 <= colours <= COLOURS_MAX:
        raise InputError(f"a map has 1 to {COLOURS_MAX} colours, got {colours}")
    if height < 1 or width < 1:
        raise InputError(f"a map of {width}x{height} pixels is empty")
    if open is not None and (open.dtype != np.bool_ or open.shape != (height, width)):
        raise InputError(f"what is open of a map of {width}x{height} pixels must be bool, as large")
    # C counts decisions, and cells with their margin, in size_t.
    if COLOURS_MAX * (height + 2 * FLATMAP_MARGIN) * (width + 2 * FLATMAP_MARGIN) > sys.maxsize:
        raise MemoryError(f"a map of {width}x{height} pixels is too large for this machine")


def encode(map, int colours, open=None):
    if not isinstance(map, np.ndarray) or map.dtype != np.uint8 or map.ndim != 2:
        raise InputError("a map must be a 2-D uint8 array")
    height, width = map.shape
    _check(height, width, open, colours)
    # A private copy: another thread that changes the array can then not make C write out of bounds.
    cdef const uint8_t[::1] pixels = np.array(map, order="C").reshape(-1)
    cdef _Work work = _Work(height, width, open, colours)
    cdef size_t count
    with nogil:
        count = flatmap_decisions(&work.c, &pixels[0])
    if count == SIZE_MAX:
        raise InputError(
            f"the map holds a number above its {colours} colour(s), or one where nothing is open"
        )
    # One more than needed: an empty array has no first item to point at.
    cdef uint32_t[::1] steps = np.empty(count + 1, np.uint32)
    cdef uint32_t[::1] words = np.empty(count // 2 + 2, np.uint32)
    cdef size_t written
    with nogil:
        flatmap_model(&work.c, &pixels[0], &steps[0])
        written = flatmap_encode(&steps[0], count, &words[0])
    return np.asarray(words[:written]).astype("<u4").tobytes()


def decode(data, height, width, int colours, open=None):
    _check(height, width, open, colours)
    if len(data) % 4:
        raise TruncatedError("the map of flat colours is not whole words: the file was cut")
    cdef _Work work = _Work(height, width, open, colours)
    map = np.empty((height, width), np.uint8)
    cdef uint8_t[:, ::1] pixels = map
    cdef const uint8_t[::1] words = np.frombuffer(bytes(data) + b"\0", np.uint8)
    cdef size_t count = len(data) // 4
    cdef int fault
    with nogil:
        fault = flatmap_decode(&work.c, &words[0], count, &pixels[0, 0])
    if fault:
        raise FormatError("the map of flat colours does not end where its data does: it is damaged")
    return map
