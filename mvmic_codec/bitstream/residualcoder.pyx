# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""What images differ from a base as one lane: the Python face of csrc/common/residual.h.

Signatures and their contracts are in residualcoder.pyi, the format in formats/residual.md.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

import sys

import numpy as np

from mvmic_codec.errors import FormatError, InputError, TruncatedError

cdef extern from "residual.h" nogil:
    enum:
        RESIDUAL_MARGIN
        RESIDUAL_ROWS
        RESIDUAL_MIXED
        RESIDUAL_ANSWERS_MOST
        RESIDUAL_BOUND_MAX

    const size_t RESIDUAL_CONTEXTS
    const size_t RESIDUAL_MIXERS

    ctypedef struct Residual:
        size_t width
        size_t height
        unsigned planes
        int32_t bound
        int32_t low
        int32_t high
        const int32_t *base
        const uint8_t *mask
        int32_t *samples
        int32_t *anchors
        int32_t *rows
        int32_t *errors
        uint32_t *contexts
        int32_t *mixers

    void residual_begin(Residual *work)
    size_t residual_model_row(Residual *work, unsigned plane, size_t y, uint32_t *steps)
    size_t residual_encode(const uint32_t *steps, size_t count, uint64_t *lane, uint32_t *words)
    int residual_decode(Residual *work, const uint8_t *data, size_t count)

BOUND_MAX = RESIDUAL_BOUND_MAX

# The order of planes.
_ORDER = {1: (0,), 3: (1, 0, 2)}


cdef class _Work:
    """The memory that both encoding and decoding need, and checked arrays that no one else has."""

    cdef Residual c
    cdef const int32_t[::1] _base
    cdef const uint8_t[::1] _mask
    cdef int32_t[::1] _samples
    cdef int32_t[::1] _anchors
    cdef int32_t[::1] _rows
    cdef int32_t[::1] _errors
    cdef uint32_t[::1] _contexts
    cdef int32_t[::1] _mixers

    def __init__(self, samples, int32_t low, int32_t high, int32_t bound, base, mask):
        planes, height, width = samples.shape
        self._samples = samples.reshape(-1)
        self._rows = np.empty(RESIDUAL_ROWS * (width + 2 * RESIDUAL_MARGIN), np.int32)
        self._errors = np.empty(RESIDUAL_ROWS * (width + 2 * RESIDUAL_MARGIN), np.int32)
        self._contexts = np.empty(RESIDUAL_CONTEXTS, np.uint32)
        self._mixers = np.empty(RESIDUAL_MIXERS * RESIDUAL_MIXED, np.int32)
        self.c.width = width
        self.c.height = height
        self.c.planes = planes
        self.c.bound = bound
        self.c.low = low
        self.c.high = high
        self.c.samples = &self._samples[0]
        self.c.rows = &self._rows[0]
        self.c.errors = &self._errors[0]
        self.c.contexts = &self._contexts[0]
        self.c.mixers = &self._mixers[0]
        self.c.base = NULL
        self.c.mask = NULL
        self.c.anchors = NULL
        if base is not None:
            self._base = base.reshape(-1)
            self._anchors = np.empty(height * width, np.int32)
            self.c.base = &self._base[0]
            self.c.anchors = &self._anchors[0]
        if mask is not None:
            self._mask = mask.reshape(-1)
            self.c.mask = &self._mask[0]


def _check(shape, low, high, bound, base, mask):
    planes, height, width = shape
    if planes not in _ORDER:
        raise InputError(f"a residual has 1 or 3 planes, got {planes}")
    if height < 1 or width < 1:
        raise InputError(f"an image of {width}x{height} pixels is empty")
    # C counts in size_t; answers of a row take 4 bytes each, and rows have a margin.
    if 16 * (planes + 4) * (height + 4) * (width + 2 * RESIDUAL_MARGIN) > sys.maxsize:
        raise MemoryError(f"an image of {width}x{height} pixels is too large for this machine")
    if not -32768 <= low <= high <= 65535 or high - low > (65535 if planes == 1 else 255):
        raise InputError(f"samples of {planes} planes cannot be {low} to {high}")
    if not 0 <= bound <= RESIDUAL_BOUND_MAX:
        raise InputError(f"the bound is 0 to {RESIDUAL_BOUND_MAX}, got {bound}")
    if base is not None:
        _check_samples("the base", base, shape, low, high)
    if mask is not None:
        if base is None:
            raise InputError("a mask says where samples are those of the base, and there is none")
        if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != shape[1:]:
            raise InputError(f"a mask must be a uint8 array of shape {shape[1:]}")


def _check_samples(name, samples, shape, low, high):
    if not isinstance(samples, np.ndarray) or samples.dtype != np.int32 or samples.shape != shape:
        raise InputError(f"{name} must be an int32 array of shape {shape}")
    if samples.min() < low or samples.max() > high:
        raise InputError(f"{name} has samples that are not {low} to {high}")


def _own(array):
    """A private copy: another thread that changes the array can then not make C write out of bounds."""
    return np.array(array, order="C") if isinstance(array, np.ndarray) else array


def encode(samples, low, high, bound, base=None, mask=None):
    own, base, mask = _own(samples), _own(base), _own(mask)
    if not isinstance(own, np.ndarray) or own.ndim != 3:
        raise InputError("samples must be an array [planes,H,W]")
    _check(own.shape, low, high, bound, base, mask)
    _check_samples("the image", own, own.shape, low, high)
    cdef _Work work = _Work(own, low, high, bound, base, mask)
    cdef uint32_t[::1] steps = np.empty(RESIDUAL_ANSWERS_MOST * own.shape[2] + 1, np.uint32)
    cdef uint32_t[::1] words = np.empty(RESIDUAL_ANSWERS_MOST * own.shape[2] // 2 + 2, np.uint32)
    cdef const uint32_t[::1] kept
    cdef size_t count, y, height = own.shape[1]
    cdef unsigned plane
    rows = []
    residual_begin(&work.c)
    for plane in _ORDER[own.shape[0]]:
        for y in range(height):
            with nogil:
                count = residual_model_row(&work.c, plane, y, &steps[0])
            # One more than needed: an empty array has no first item to point at.
            rows.append(np.array(steps[: count + 1]))
    cdef uint64_t lane = 0
    written = []
    while rows:
        kept = rows.pop()
        with nogil:
            count = residual_encode(&kept[0], kept.shape[0] - 1, &lane, &words[0])
        written.append(np.asarray(words[:count]).astype("<u4").tobytes())
    while lane:
        written.append((lane & 0xFFFFFFFF).to_bytes(4, "little"))
        lane >>= 32
    return b"".join(written), own


def decode(data, planes, height, width, low, high, bound, base=None, mask=None):
    base, mask = _own(base), _own(mask)
    _check((planes, height, width), low, high, bound, base, mask)
    if len(data) % 4:
        raise TruncatedError("the residual's data is not whole words: the file was cut")
    samples = np.empty((planes, height, width), np.int32)
    cdef _Work work = _Work(samples, low, high, bound, base, mask)
    cdef const uint8_t[::1] words = np.frombuffer(bytes(data) + b"\0", np.uint8)
    cdef size_t count = len(data) // 4
    cdef int fault
    with nogil:
        fault = residual_decode(&work.c, &words[0], count)
    if fault:
        raise FormatError("the residual's data is not what an encoder writes: it is damaged")
    return samples
