# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Synthesis in C, stage by stage: the Python face of csrc/common/synthesis.h.

Signatures and their contracts are in synthnet.pyi.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, uint8_t

import numpy as np

cdef extern from "synthesis.h" nogil:
    enum:
        SYNTH_LANES
        SYNTH_POSITIONS

    ctypedef enum SynthPath:
        SYNTH_PORTABLE
        SYNTH_NEON
        SYNTH_AVX2
        SYNTH_AVX512
        SYNTH_VNNI

    ctypedef struct SynthLayer:
        size_t inputs
        size_t groups
        const int16_t *weight
        const int32_t *bias
        const int32_t *factor
        const int32_t *offset

    ctypedef struct SynthPlanes:
        int32_t *at
        size_t planes
        size_t pitch
        size_t columns

    ctypedef struct SynthRotation:
        size_t near_luma
        size_t near_chroma
        size_t chroma
        const int16_t *luma
        const int16_t *of_chroma

    ctypedef struct SynthLinear:
        const int16_t *dct_block
        const int16_t *dct_rows
        const int16_t *borders_block
        const int16_t *borders_rows

    ctypedef struct SynthSamples:
        int32_t matrix[3][3]
        int32_t levels
        int32_t low
        int bytes

    int synth_path_usable(SynthPath path)
    size_t synth_rotate_scratch()
    void synth_rotate(
        const SynthRotation *rotation, SynthPath path, const int16_t *y, const uint8_t *modes,
        size_t n, int16_t *x, void *scratch)
    size_t synth_linear_rows_scratch(size_t w)
    void synth_linear_rows(
        const SynthLinear *linear, SynthPath path, const int16_t *x, size_t planes, size_t w,
        size_t count, int16_t *out, size_t pitch, void *scratch)
    size_t synth_linear_columns_scratch()
    void synth_linear_columns(
        const SynthLinear *linear, SynthPath path, const int16_t *rows, size_t pitch,
        const SynthPlanes *out, void *scratch)
    void synth_linear_edge(
        const int16_t *rows, size_t pitch, const SynthPlanes *out, size_t count)
    size_t synth_dense_scratch(size_t inputs)
    void synth_enter16(
        const SynthLayer *layer, SynthPath path, const int32_t *spread, const int16_t *x,
        const uint8_t *modes, size_t w, size_t count, int16_t *out, void *scratch)
    void synth_conv_weights(
        const int16_t *weight, size_t outputs, size_t inputs, size_t stride, int16_t *out)
    size_t synth_conv_scratch(size_t inputs)
    void synth_conv_relu(
        const SynthLayer *layer, SynthPath path, const int16_t *inputs, int shift, int32_t top,
        size_t w, size_t count, int16_t *out, void *scratch)
    void synth_conv_add(
        const SynthLayer *layer, SynthPath path, const int16_t *inputs, int shift, size_t w,
        size_t count, int16_t *stream, void *scratch)
    void synth_conv_leave(
        const SynthLayer *layer, SynthPath path, const int16_t *inputs, int shift, size_t w,
        size_t count, const SynthPlanes *planes, void *scratch)
    size_t synth_enter8_scratch(size_t inputs)
    void synth_enter8(
        const SynthLayer *up, const SynthLayer *inject, SynthPath path, const int16_t *inputs,
        const SynthPlanes *planes, size_t w, size_t count, int16_t *out, void *scratch)
    void synth_leave8(
        const SynthLayer *layer, SynthPath path, const int16_t *inputs, size_t w, size_t count,
        const SynthPlanes *planes, void *scratch)
    size_t synth_quads_scratch(size_t w)
    void synth_quads(
        SynthPath path, const SynthPlanes *planes, int above, int below, size_t w, size_t count,
        int16_t *out, size_t stride, void *scratch)
    void synth_samples(
        const SynthSamples *samples, SynthPath path, const SynthPlanes *planes, size_t width,
        size_t count, void *out)

PATHS = {
    "portable": SYNTH_PORTABLE,
    "neon": SYNTH_NEON,
    "avx2": SYNTH_AVX2,
    "avx512": SYNTH_AVX512,
    "vnni": SYNTH_VNNI,
}
# formats/model.md: what inputs of a layer reach, by the shift that makes them.
_INPUT_MAX = {0: 8191, 2: 8192, 3: 4096}
# Sixteen-bit numerators of Winograd's weights hold nine times so much.
_CONV_WEIGHT_MAX = 3640
_MODES = 8
_AREA = 256


def usable_paths():
    return tuple(name for name, k in PATHS.items() if synth_path_usable(<SynthPath> <int> k))


cdef SynthPath _path_of(str name) except *:
    cdef SynthPath path = <SynthPath> <int> PATHS[name]
    if not synth_path_usable(path):
        raise ValueError(f"this processor has no {name}")
    return path


def stride_of(channels):
    return -(-channels // SYNTH_LANES) * SYNTH_LANES


cdef uint8_t[::1] _scratch(size_t size):
    return np.empty(size, np.uint8)


cdef _check_range(Py_ssize_t first, Py_ssize_t count, Py_ssize_t rows):
    if first < 0 or count < 1 or first + count > rows:
        raise ValueError(f"there are no {count} rows from {first} on, of {rows}")


cdef _check_map(const int16_t[:, :, ::1] maps, Py_ssize_t rows, Py_ssize_t columns, size_t stride):
    if (rows < 1 or columns < 1 or maps.shape[0] != rows + 2 or maps.shape[1] != columns + 2
            or <size_t> maps.shape[2] != stride):
        raise ValueError(f"a map of {rows} rows, {columns} columns and {stride} channels is needed")


cdef _check_apart(a, b):
    if np.may_share_memory(a, b):
        raise ValueError("inputs and results lie in the same memory")


cdef SynthPlanes _planes_of(
    const int32_t[:, :, :] planes, Py_ssize_t rows, Py_ssize_t columns
) except *:
    cdef SynthPlanes c
    if (planes.shape[0] not in (1, 3) or rows < 1 or columns < 1 or planes.shape[1] != rows
            or planes.shape[2] != columns or planes.strides[2] != sizeof(int32_t)
            or planes.strides[1] != columns * <Py_ssize_t> sizeof(int32_t)
            or planes.strides[0] < rows * planes.strides[1]
            or planes.strides[0] % sizeof(int32_t)):
        raise ValueError(f"1 or 3 planes of {rows} rows and {columns} columns are needed")
    c.at = <int32_t *> &planes[0, 0, 0]
    c.planes, c.columns = planes.shape[0], columns
    c.pitch = planes.strides[0] // sizeof(int32_t)
    return c


def _is(array, kind, *shape):
    return array.dtype == kind and array.shape == shape


def _blocks(weight):
    """Weights [...,O,I] as [...,groups,I/2,LANES,2], with zeros where there are none."""
    *before, outputs, inputs = weight.shape
    room = stride_of(outputs), inputs + inputs % 2
    full = np.zeros((*before, *room), np.int16)
    full[..., :outputs, :inputs] = weight
    tiles = full.reshape(*before, room[0] // SYNTH_LANES, SYNTH_LANES, room[1] // 2, 2)
    return np.ascontiguousarray(np.swapaxes(tiles, -3, -2))


def _lanes(values):
    """int32 [...,O] as int32 [...,stride_of(O)]."""
    *before, outputs = values.shape
    full = np.zeros((*before, stride_of(outputs)), np.int32)
    full[..., :outputs] = values
    return full


def _with_stride(weight):
    """Weights [O,I,...] with zeros for the inputs that fill up a map's stride."""
    inputs = weight.shape[1]
    room = [(0, 0)] * weight.ndim
    room[1] = (0, stride_of(inputs) - inputs)
    return np.pad(weight, room)


def _sum_bound(weight, most, bias):
    """What the sum of each output can reach: int64 [O]."""
    sizes = np.abs(weight, dtype=np.int32).reshape(len(weight), -1)
    sums = sizes.sum(1, dtype=np.int64) * most
    return sums + np.abs(bias.astype(np.int64))


def _result_bound(sums, factor):
    """What |rq(sum, factor)| can reach. Sums are below 2^31."""
    return (sums * np.abs(factor.astype(np.int64)) >> 32) + 1


def _check_below(values, bits):
    if int(values.max()) >= 2**bits:
        raise OverflowError(f"a layer of synthesis may exceed 2^{bits}")


cdef class _Layer:
    """The arrays of one SynthLayer."""

    cdef SynthLayer _c
    cdef const int16_t[::1] _weight
    cdef const int32_t[::1] _bias, _factor, _offset

    def __init__(self, blocks, inputs, groups, bias, factor, offset):
        self._weight = blocks.reshape(-1)
        self._bias, self._factor = bias.reshape(-1), factor.reshape(-1)
        self._offset = offset.reshape(-1)
        self._c.inputs, self._c.groups = inputs, groups
        self._c.weight, self._c.bias = &self._weight[0], &self._bias[0]
        self._c.factor, self._c.offset = &self._factor[0], &self._offset[0]


cdef class Rotation:
    cdef SynthRotation _c
    cdef SynthPath _path
    cdef const int16_t[::1] _luma, _chroma

    def __init__(self, luma, chroma, near_luma, near_chroma, path):
        if not (_is(luma, np.int16, _MODES, _AREA, _AREA) and chroma.dtype == np.int16
                and chroma.ndim == 2 and (len(chroma) == 0 or chroma.shape[1] == 2 * _AREA)
                and len(chroma) <= 2 * _AREA and 0 <= near_luma <= _AREA
                and 0 <= near_chroma <= len(chroma)):
            raise ValueError("luma, chroma and their counts are not those of a rotation")
        for entries in (luma, chroma):
            if entries.size and int(np.abs(entries.astype(np.int32)).max()) > 2**14:
                raise OverflowError("an entry of a rotation exceeds 1")
        self._luma = _blocks(luma.transpose(0, 2, 1)).reshape(-1)
        self._chroma = np.zeros(1, np.int16)
        if len(chroma):
            self._chroma = _blocks(chroma.T).reshape(-1)
        self._path = _path_of(path)
        self._c.near_luma, self._c.near_chroma = near_luma, near_chroma
        self._c.chroma = len(chroma)
        self._c.luma, self._c.of_chroma = &self._luma[0], &self._chroma[0]

    def rotate(self, const int16_t[:, :, ::1] y, const uint8_t[:, ::1] modes,
               int16_t[:, :, ::1] x, Py_ssize_t first, Py_ssize_t count):
        cdef size_t chroma = self._c.chroma, w = y.shape[1]
        if (w < 1 or <size_t> y.shape[2] != _AREA + chroma or modes.shape[0] != y.shape[0]
                or modes.shape[1] != y.shape[1] or x.shape[0] != y.shape[0]
                or x.shape[1] != y.shape[1]
                or x.shape[2] != (3 * _AREA if chroma else _AREA)):
            raise ValueError("y, modes and x do not fit together")
        _check_range(first, count, y.shape[0])
        _check_modes(modes)
        _check_apart(y, x)
        cdef uint8_t[::1] memory = _scratch(synth_rotate_scratch())
        with nogil:
            synth_rotate(&self._c, self._path, &y[first, 0, 0], &modes[first, 0], count * w,
                         &x[first, 0, 0], &memory[0])


cdef _check_modes(const uint8_t[:, ::1] modes):
    if int(np.max(modes)) >= _MODES:
        raise ValueError(f"modes are 0 to {_MODES - 1}")


cdef class Linear:
    cdef SynthLinear _c
    cdef SynthPath _path
    cdef const int16_t[::1] _dct_block, _dct_rows, _borders_block, _borders_rows

    def __init__(self, dct, borders, path):
        if not (_is(dct, np.int16, 16, 16) and _is(borders, np.int16, 16, 16)):
            raise ValueError("the matrices of the linear picture are int16 [16,16]")
        for matrix in (dct.T, borders):
            if int(np.abs(matrix.astype(np.int32)).sum(1).max()) >= 2**16:
                raise OverflowError("a matrix of the linear picture is too large for 32-bit sums")
        below = np.zeros((SYNTH_POSITIONS - 16, 16), np.int16)
        self._dct_block, self._borders_block = _blocks(dct.T).reshape(-1), _blocks(borders).reshape(-1)
        self._dct_rows = np.concatenate((dct.T, below)).reshape(-1)
        self._borders_rows = np.concatenate((borders, below)).reshape(-1)
        self._path = _path_of(path)
        self._c.dct_block, self._c.dct_rows = &self._dct_block[0], &self._dct_rows[0]
        self._c.borders_block = &self._borders_block[0]
        self._c.borders_rows = &self._borders_rows[0]

    def rows(self, const int16_t[:, :, ::1] x, int16_t[:, :, ::1] out, Py_ssize_t first,
             Py_ssize_t count):
        cdef size_t w = x.shape[1], planes = out.shape[0]
        if (w < 1 or planes not in (1, 3) or <size_t> x.shape[2] != _AREA * planes
                or out.shape[1] != 16 * x.shape[0] or out.shape[2] != 16 * x.shape[1]):
            raise ValueError("x and rows do not fit together")
        _check_range(first, count, x.shape[0])
        _check_apart(x, out)
        cdef uint8_t[::1] memory = _scratch(synth_linear_rows_scratch(w))
        with nogil:
            synth_linear_rows(&self._c, self._path, &x[first, 0, 0], planes, w, count,
                              &out[0, 16 * first, 0], out.shape[1] * out.shape[2], &memory[0])

    def columns(self, const int16_t[:, :, ::1] rows, int32_t[:, :, :] planes, Py_ssize_t first,
                Py_ssize_t count):
        cdef SynthPlanes c = _planes_of(planes, rows.shape[1], rows.shape[2])
        if rows.shape[0] != planes.shape[0] or rows.shape[1] % 16 or rows.shape[2] % 16:
            raise ValueError("rows and planes do not fit together")
        cdef Py_ssize_t last = rows.shape[1] // 16, band, start
        _check_range(first, count, last + 1)
        _check_apart(rows, planes)
        cdef size_t pitch = rows.shape[1] * rows.shape[2]
        cdef uint8_t[::1] memory = _scratch(synth_linear_columns_scratch())
        cdef int32_t *at = c.at
        with nogil:
            for band in range(first, first + count):
                start = 0 if band == 0 else 16 * band - 8
                c.at = at + start * <Py_ssize_t> c.columns
                if band == 0 or band == last:
                    synth_linear_edge(&rows[0, start, 0], pitch, &c, 8)
                else:
                    synth_linear_columns(&self._c, self._path, &rows[0, start, 0], pitch, &c,
                                         &memory[0])


cdef class Enter16:
    cdef _Layer _layer
    cdef SynthPath _path
    cdef const int32_t[::1] _spread

    def __init__(self, weight, bias, factor, offset, spread, path):
        if not (weight.dtype == np.int16 and weight.ndim == 2 and weight.size
                and weight.shape[1] in (_AREA, 3 * _AREA)
                and _is(bias, np.int32, _MODES, len(weight)) and _is(factor, np.int32, len(weight))
                and _is(offset, np.int32, len(weight))
                and _is(spread, np.int32, weight.shape[1])):
            raise ValueError("the arrays are not those of enter")
        sums = _sum_bound(weight, 8191, np.abs(bias.astype(np.int64)).max(0))
        _check_below(sums, 31)
        _check_below(_result_bound(sums, factor) + np.abs(offset.astype(np.int64)), 31)
        self._layer = _Layer(_blocks(weight), weight.shape[1], stride_of(len(weight)) // SYNTH_LANES,
                             _lanes(bias), _lanes(factor), _lanes(offset))
        self._spread = spread.copy()
        self._path = _path_of(path)

    def run(self, const int16_t[:, :, ::1] x, const uint8_t[:, ::1] modes,
            int16_t[:, :, ::1] out, Py_ssize_t first, Py_ssize_t count):
        cdef size_t inputs = self._layer._c.inputs, w = x.shape[1]
        _check_map(out, x.shape[0], x.shape[1], self._layer._c.groups * SYNTH_LANES)
        if (<size_t> x.shape[2] != inputs or modes.shape[0] != x.shape[0]
                or modes.shape[1] != x.shape[1]):
            raise ValueError("x and modes do not fit together")
        _check_range(first, count, x.shape[0])
        _check_modes(modes)
        _check_apart(x, out)
        cdef uint8_t[::1] memory = _scratch(synth_dense_scratch(inputs))
        with nogil:
            synth_enter16(&self._layer._c, self._path, &self._spread[0], &x[first, 0, 0],
                          &modes[first, 0], w, count, &out[first, 0, 0], &memory[0])


cdef class Conv:
    cdef _Layer _layer
    cdef SynthPath _path
    cdef int _shift
    cdef readonly int inputs
    cdef readonly int outputs

    def __init__(self, weight, bias, factor, offset, shift, path):
        if not (weight.dtype in (np.int8, np.int16) and weight.ndim == 4 and weight.size
                and weight.shape[2:] == (3, 3) and _is(bias, np.int32, len(weight))
                and _is(factor, np.int32, len(weight)) and _is(offset, np.int32, len(weight))
                and shift in _INPUT_MAX):
            raise ValueError("the arrays are not those of a 3x3 layer")
        if int(np.abs(weight.astype(np.int32)).max()) > _CONV_WEIGHT_MAX:
            raise OverflowError(f"a weight of a 3x3 layer exceeds {_CONV_WEIGHT_MAX}")
        sums = _sum_bound(weight, _INPUT_MAX[shift], bias)
        _check_below(sums, 29)
        _check_below(_result_bound(sums, factor) + np.abs(offset.astype(np.int64)), 31)
        self.outputs, self.inputs = weight.shape[:2]
        cdef const int16_t[:, :, :, ::1] plain = np.ascontiguousarray(weight, np.int16)
        cdef size_t stride = stride_of(self.inputs)
        groups = stride_of(self.outputs) // SYNTH_LANES
        blocks = np.empty((groups, 16, stride * SYNTH_LANES), np.int16)
        cdef int16_t[:, :, ::1] view = blocks
        with nogil:
            synth_conv_weights(&plain[0, 0, 0, 0], plain.shape[0], plain.shape[1], stride,
                               &view[0, 0, 0])
        self._layer = _Layer(blocks, stride, groups, _lanes(bias), _lanes(factor), _lanes(offset))
        self._shift = shift
        self._path = _path_of(path)

    cdef _check(self, const int16_t[:, :, ::1] maps, Py_ssize_t first, Py_ssize_t count):
        _check_map(maps, maps.shape[0] - 2, maps.shape[1] - 2, self._layer._c.inputs)
        if maps.shape[1] % 2 or count % 2:
            raise ValueError("a 3x3 layer takes an even number of rows and columns")
        _check_range(first, count, maps.shape[0] - 2)

    def relu(self, const int16_t[:, :, ::1] maps, int32_t top, int16_t[:, :, ::1] out,
             Py_ssize_t first, Py_ssize_t count):
        self._check(maps, first, count)
        _check_map(out, maps.shape[0] - 2, maps.shape[1] - 2, self._layer._c.groups * SYNTH_LANES)
        if not 0 <= top <= 32767:
            raise ValueError("results of a 3x3 layer are at most 32767")
        _check_apart(maps, out)
        cdef size_t w = maps.shape[1] - 2
        cdef uint8_t[::1] memory = _scratch(synth_conv_scratch(self._layer._c.inputs))
        with nogil:
            synth_conv_relu(&self._layer._c, self._path, &maps[first, 0, 0], self._shift, top, w,
                            count, &out[first, 0, 0], &memory[0])

    def add(self, const int16_t[:, :, ::1] maps, int16_t[:, :, ::1] stream, Py_ssize_t first,
            Py_ssize_t count):
        self._check(maps, first, count)
        _check_map(
            stream, maps.shape[0] - 2, maps.shape[1] - 2, self._layer._c.groups * SYNTH_LANES)
        _check_apart(maps, stream)
        cdef size_t w = maps.shape[1] - 2
        cdef uint8_t[::1] memory = _scratch(synth_conv_scratch(self._layer._c.inputs))
        with nogil:
            synth_conv_add(&self._layer._c, self._path, &maps[first, 0, 0], self._shift, w, count,
                           &stream[first, 0, 0], &memory[0])

    def leave(self, const int16_t[:, :, ::1] maps, int32_t[:, :, :] planes, Py_ssize_t first,
              Py_ssize_t count):
        self._check(maps, first, count)
        cdef SynthPlanes c = _planes_of(planes, 2 * (maps.shape[0] - 2), 2 * (maps.shape[1] - 2))
        if <size_t> self.outputs != 4 * c.planes:
            raise ValueError(f"{self.outputs} outputs do not fit {c.planes} planes")
        _check_apart(maps, planes)
        cdef size_t w = maps.shape[1] - 2
        c.at += 2 * first * <Py_ssize_t> c.columns
        cdef uint8_t[::1] memory = _scratch(synth_conv_scratch(self._layer._c.inputs))
        with nogil:
            synth_conv_leave(&self._layer._c, self._path, &maps[first, 0, 0], self._shift, w,
                             count, &c, &memory[0])


cdef class Enter8:
    cdef _Layer _up, _inject
    cdef SynthPath _path
    cdef size_t _planes

    def __init__(self, up, inject, up_factor, inject_factor, offset, path):
        if not (up.dtype == inject.dtype == np.int16 and up.ndim == inject.ndim == 2
                and up.size and len(up) == 4 * len(inject) and inject.shape[1] in (64, 192)
                and _is(up_factor, np.int32, len(up)) and _is(offset, np.int32, len(up))
                and _is(inject_factor, np.int32, len(inject))):
            raise ValueError("the arrays are not those of up and inject")
        none = np.zeros(1, np.int32)
        up_sums, inject_sums = _sum_bound(up, 8192, none), _sum_bound(inject, 8191, none)
        _check_below(up_sums, 31)
        _check_below(inject_sums, 31)
        _check_below(_result_bound(up_sums, up_factor)
                     + np.repeat(_result_bound(inject_sums, inject_factor), 4)
                     + np.abs(offset.astype(np.int64)), 31)
        outputs, self._planes = len(inject), inject.shape[1] // 64
        groups = stride_of(outputs) // SYNTH_LANES
        full = _with_stride(up).reshape(outputs, 4, -1).swapaxes(0, 1)
        by_part = [_lanes(each.reshape(outputs, 4).T) for each in (up_factor, offset)]
        self._up = _Layer(_blocks(full), full.shape[2], 4 * groups, none, *by_part)
        self._inject = _Layer(_blocks(inject), inject.shape[1], groups, none,
                              _lanes(inject_factor), none)
        self._path = _path_of(path)

    def run(self, const int16_t[:, :, ::1] maps, const int32_t[:, :, :] planes,
            int16_t[:, :, ::1] out, Py_ssize_t first, Py_ssize_t count):
        cdef Py_ssize_t h = maps.shape[0] - 2, w = maps.shape[1] - 2
        _check_map(maps, h, w, self._up._c.inputs)
        _check_map(out, 2 * h, 2 * w, self._inject._c.groups * SYNTH_LANES)
        cdef SynthPlanes c = _planes_of(planes, 16 * h, 16 * w)
        if c.planes != self._planes:
            raise ValueError(f"{self._planes} planes are needed")
        _check_range(first, count, h)
        _check_apart(maps, out)
        _check_apart(planes, out)
        c.at += 16 * first * <Py_ssize_t> c.columns
        cdef uint8_t[::1] memory = _scratch(synth_enter8_scratch(self._up._c.inputs))
        with nogil:
            synth_enter8(&self._up._c, &self._inject._c, self._path, &maps[first, 0, 0], &c, w,
                         count, &out[2 * first, 0, 0], &memory[0])


cdef class Leave8:
    cdef _Layer _layer
    cdef SynthPath _path

    def __init__(self, weight, bias, factor, path):
        if not (weight.dtype == np.int16 and weight.ndim == 2 and weight.size
                and len(weight) in (64, 192) and _is(bias, np.int32, len(weight))
                and _is(factor, np.int32, len(weight))):
            raise ValueError("the arrays are not those of leave")
        _check_below(_sum_bound(weight, 8192, bias), 31)
        full = _with_stride(weight)
        self._layer = _Layer(_blocks(full), full.shape[1], len(full) // SYNTH_LANES, bias.copy(),
                             factor.copy(), np.zeros(1, np.int32))
        self._path = _path_of(path)

    def run(self, const int16_t[:, :, ::1] maps, int32_t[:, :, :] planes, Py_ssize_t first,
            Py_ssize_t count):
        cdef Py_ssize_t h = maps.shape[0] - 2, w = maps.shape[1] - 2
        _check_map(maps, h, w, self._layer._c.inputs)
        cdef SynthPlanes c = _planes_of(planes, 8 * h, 8 * w)
        if 4 * c.planes != self._layer._c.groups:
            raise ValueError(f"{self._layer._c.groups // 4} planes are needed")
        _check_range(first, count, h)
        _check_apart(maps, planes)
        c.at += 8 * first * <Py_ssize_t> c.columns
        cdef uint8_t[::1] memory = _scratch(synth_dense_scratch(self._layer._c.inputs))
        with nogil:
            synth_leave8(&self._layer._c, self._path, &maps[first, 0, 0], w, count, &c, &memory[0])


def quads(const int32_t[:, :, :] planes, int16_t[:, :, ::1] out, Py_ssize_t first,
          Py_ssize_t count, str path):
    cdef Py_ssize_t h = out.shape[0] - 2, w = out.shape[1] - 2
    cdef SynthPlanes c = _planes_of(planes, 2 * h, 2 * w)
    cdef SynthPath checked_path = _path_of(path)
    cdef size_t stride = stride_of(4 * c.planes)
    _check_map(out, h, w, stride)
    _check_range(first, count, h)
    _check_apart(planes, out)
    c.at += 2 * first * <Py_ssize_t> c.columns
    cdef uint8_t[::1] memory = _scratch(synth_quads_scratch(w))
    with nogil:
        synth_quads(checked_path, &c, first > 0, first + count < h, w, count, &out[first, 0, 0],
                    stride, &memory[0])


def samples(const int32_t[:, :, :] planes, matrix, int low, int levels, out, Py_ssize_t first,
            Py_ssize_t count, str path):
    cdef SynthPlanes c = _planes_of(planes, planes.shape[1], planes.shape[2])
    cdef SynthPath checked_path = _path_of(path)
    cdef SynthSamples how
    n = c.planes
    if (not _is(matrix, np.int32, n, n) or out.dtype not in (np.uint8, np.uint16, np.int32)
            or out.ndim != 3 or len(out) != planes.shape[1] or not 0 < out.shape[1] <= c.columns
            or out.shape[2] != n or not 1 <= levels <= 65535):
        raise ValueError("planes, matrix and samples do not fit together")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("samples are written to a contiguous array")
    if int(np.abs(matrix.astype(np.int64)).sum(1).max()) > 2**31:
        raise OverflowError("the matrix of samples is too large for 64-bit sums")
    if low < np.iinfo(out.dtype).min or low + levels > np.iinfo(out.dtype).max:
        raise OverflowError(f"{out.dtype} cannot hold samples of {low} to {low + levels}")
    _check_range(first, count, planes.shape[1])
    _check_apart(planes, out)
    for k in range(n):
        for i in range(n):
            how.matrix[k][i] = matrix[k, i]
    how.low, how.levels, how.bytes = low, levels, out.dtype.itemsize
    c.at += first * <Py_ssize_t> c.columns
    cdef uint8_t[:, ::1] bytes_of = out.reshape(len(out), -1).view(np.uint8)
    cdef size_t width = out.shape[1]
    with nogil:
        synth_samples(&how, checked_path, &c, width, count, &bytes_of[first, 0])
