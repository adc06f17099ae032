# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Dependent quantisation in an encoder: the Python face of csrc/encode/trellis_quantise.c.

Signatures and their contracts are in trellis.pyi.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, uint8_t

import numpy as np

cdef extern from "trellis_quantise.h" nogil:
    ctypedef struct TrellisCosts:
        double spacing
        const float *bits
        size_t width
        size_t second

    int trellis_quantise(
        const TrellisCosts *costs, const double *positions, const uint8_t *tables,
        const double *lambdas, size_t n, int16_t *symbols)


def quantise(const double[::1] positions, const uint8_t[::1] tables, const double[::1] lambdas,
             const float[:, ::1] bits, double spacing, size_t second):
    cdef size_t n = positions.shape[0]
    if <size_t> tables.shape[0] != n or <size_t> lambdas.shape[0] != n:
        raise ValueError("positions, tables and lambdas do not fit together")
    if not spacing > 0 or bits.shape[1] < 1:
        raise ValueError("there are no levels, or no bits")
    symbols = np.empty(n, np.int16)
    if n == 0:
        return symbols
    if int(np.max(tables)) + second >= <size_t> bits.shape[0]:
        raise ValueError("a table index is at or over the number of tables")
    if not np.isfinite(positions).all():
        raise ValueError("positions must be finite")
    cdef int16_t[::1] view = symbols
    cdef TrellisCosts costs = TrellisCosts(spacing, &bits[0, 0], bits.shape[1], second)
    cdef int done
    with nogil:
        done = trellis_quantise(&costs, &positions[0], &tables[0], &lambdas[0], n, &view[0])
    if not done:
        raise MemoryError("not enough memory to quantise an image")
    return symbols
