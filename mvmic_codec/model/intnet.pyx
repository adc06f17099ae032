# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""The integer networks in C: the Python face of csrc/common/intnet.h.

Signatures and their contracts are in intnet.pyi.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint32_t

from functools import partial

import numpy as np

cdef extern from "winograd.h" nogil:
    void synth_conv_weights(
        const int16_t *weight, size_t outputs, size_t inputs, size_t stride, int16_t *out)

cdef extern from "intnet.h" nogil:
    enum:
        INTNET_LANES
        INTNET_BLOCK
        INTNET_FOURS
        INTNET_ZERO
        INTNET_CLASSES

    ctypedef enum IntnetPath:
        INTNET_PORTABLE
        INTNET_AVX2
        INTNET_VNNI

    ctypedef struct IntnetLayer:
        uint32_t size
        uint32_t stride
        uint32_t outputs
        uint32_t groups
        const int8_t *weight
        const int32_t *bias
        const uint8_t *shift
        const int16_t *winograd

    ctypedef struct IntnetGroupArrays:
        size_t n
        const uint8_t *site
        const int32_t *base
        const int16_t *base_mode
        const int32_t *step
        const int32_t *gain
        const uint8_t *aligned

    ctypedef struct IntnetSites:
        const uint8_t *mode
        const uint8_t *inside

    ctypedef struct IntnetNeighbours:
        size_t n
        const int16_t *weight
        const int8_t *shift
        const uint8_t *compand

    int intnet_path_usable(IntnetPath path)
    size_t intnet_layer_scratch(const IntnetLayer *layer, size_t h, size_t w)
    void intnet_repeat_edges(uint8_t *map, size_t h, size_t w, size_t stride)
    void intnet_layer_map(
        const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h, size_t w,
        uint8_t *out, size_t out_stride, void *scratch)
    void intnet_layer_sums(
        const IntnetLayer *layer, IntnetPath path, const uint8_t *map, size_t h, size_t w,
        int32_t *out, void *scratch)
    void intnet_merge(
        const uint8_t *features, size_t features_stride, size_t width, const int32_t *q, size_t n,
        const uint8_t *compand, int with_sign, size_t h, size_t w, uint8_t *out,
        size_t out_stride)
    void intnet_predict(
        const double *levels, size_t inputs, const double *weight, size_t outputs, size_t h,
        size_t w, IntnetPath path, double *out)
    void intnet_indices(
        const IntnetGroupArrays *arrays, const IntnetSites *sites, const int32_t *sums, size_t cells,
        uint8_t *index)
    void intnet_scores(
        const IntnetGroupArrays *arrays, const int32_t *sums, size_t cells, int16_t *score)
    void intnet_means(
        const IntnetGroupArrays *arrays, const IntnetSites *sites, const double *linear,
        const int32_t *sums, size_t cells, int32_t *mean, int32_t *predicted)
    void intnet_add_neighbours(
        const IntnetNeighbours *neighbours, const int16_t *symbols, size_t h, size_t w, int32_t *mean,
        int32_t *sums)
    void intnet_dequantise(
        const IntnetGroupArrays *arrays, const IntnetSites *sites, const int16_t *symbols,
        const int32_t *mean, size_t h, size_t w, int32_t *q, int16_t *latent, size_t channels,
        double *levels)


def at_once(layer, count, unit):
    layer(0, count)


PATHS = {"portable": INTNET_PORTABLE, "avx2": INTNET_AVX2, "vnni": INTNET_VNNI}
ZERO = INTNET_ZERO
BLOCK = INTNET_BLOCK


def usable_paths():
    return tuple(name for name, k in PATHS.items() if intnet_path_usable(<IntnetPath> <int> k))


cdef IntnetPath _path_of(str name) except *:
    cdef IntnetPath path = <IntnetPath> <int> PATHS[name]
    if not intnet_path_usable(path):
        raise ValueError(f"this processor has no {name}")
    return path


cdef _check_rows(Py_ssize_t first, Py_ssize_t count, Py_ssize_t rows):
    if first < 0 or count < 1 or first + count > rows:
        raise ValueError(f"there are no {count} rows from {first} on, of {rows}")


def stride_of(channels):
    return -(-channels // 4) * 4


def _winograd_of(weight):
    """The weights of a 3x3 layer as synth_conv_weights gives them."""
    outputs, inputs = weight.shape[:2]
    groups, stride = -(-outputs // INTNET_LANES), -(-inputs // INTNET_LANES) * INTNET_LANES
    cdef const int16_t[:, :, :, ::1] plain = np.ascontiguousarray(weight, np.int16)
    out = np.empty(groups * 16 * stride * INTNET_LANES, np.int16)
    cdef int16_t[::1] view = out
    cdef size_t most = stride
    with nogil:
        synth_conv_weights(&plain[0, 0, 0, 0], plain.shape[0], plain.shape[1], most, &view[0])
    return out


def _unit_of(rows, columns):
    """Rows that a layer takes at once: pairs, where Winograd's algorithm can be used."""
    return 2 if rows % 2 == columns % 2 == 0 else 1


cdef class Layer:
    cdef IntnetLayer _c
    cdef IntnetPath _path
    cdef readonly int inputs
    cdef readonly int outputs
    cdef const int8_t[::1] _weight
    cdef const int32_t[::1] _bias
    cdef const uint8_t[::1] _shift
    cdef const int16_t[::1] _winograd

    def __init__(self, weight, bias, shift, with_sign, path):
        if (weight.dtype != np.int8 or bias.dtype != np.int32 or shift.dtype != np.uint8
                or weight.ndim != 4 or weight.shape[2:] not in ((1, 1), (3, 3))
                or not weight.size or not bias.shape == shift.shape == weight.shape[:1]
                or shift.max() > 14):
            raise ValueError("weight, bias and shift are not those of a layer")
        outputs, inputs, size, _ = weight.shape
        sums = np.abs(weight, dtype=np.int16).sum((1, 2, 3), dtype=np.int64) * 255
        if int((sums + np.abs(bias.astype(np.int64))).max()) >= 2**30:
            raise OverflowError("a layer's weights are too large for 32-bit sums")
        stride, groups = stride_of(inputs), -(-outputs // INTNET_LANES)
        if stride > 4 * INTNET_FOURS:
            raise OverflowError(f"a layer has {inputs} inputs, more than {4 * INTNET_FOURS}")
        room = groups * INTNET_LANES
        full = np.zeros((room, size * size, stride), np.int8)
        full[:outputs, :, :inputs] = weight.reshape(outputs, inputs, -1).transpose(0, 2, 1)
        # Four inputs at once are moved as one number.
        fours = full.view(np.int32).reshape(groups, INTNET_LANES, size * size, stride // 4)
        tiles = np.ascontiguousarray(fours.transpose(0, 2, 3, 1)).view(np.int8)
        offsets = np.zeros(room, np.int64)
        moved = weight[:, with_sign].sum((1, 2, 3), dtype=np.int64) * INTNET_ZERO
        offsets[:outputs] = bias.astype(np.int64) + (1 << shift.astype(np.int64) >> 1) - moved
        shifts = np.zeros(room, np.uint8)
        shifts[:outputs] = shift
        self._weight = tiles.reshape(-1)
        self._bias = offsets.astype(np.int32)
        self._shift = shifts
        self.inputs, self.outputs = inputs, outputs
        self._path = _path_of(path)
        self._c.size, self._c.stride = size, stride
        self._c.outputs, self._c.groups = outputs, groups
        self._c.weight, self._c.bias = &self._weight[0], &self._bias[0]
        self._c.shift = &self._shift[0]
        self._c.winograd = NULL
        if size == 3 and self._path != INTNET_VNNI and 4 * int(sums.max()) < 2**31:
            self._winograd = _winograd_of(weight)
            self._c.winograd = &self._winograd[0]

    cdef _check(self, const uint8_t[:, :, ::1] maps):
        if maps.shape[2] != self._c.stride or maps.shape[0] < 3 or maps.shape[1] < 3:
            raise ValueError(f"a map of {self._c.stride} channels is needed")

    def map(self, maps, run=at_once):
        self._check(maps)
        out = np.zeros((*maps.shape[:2], stride_of(self._c.outputs)), np.uint8)
        rows, columns = len(maps) - 2, maps.shape[1] - 2
        run(partial(self._map_rows, maps, out), rows, _unit_of(rows, columns))
        repeat_edges(out)
        return out

    def _map_rows(self, const uint8_t[:, :, ::1] maps, uint8_t[:, :, ::1] out, Py_ssize_t first,
                  Py_ssize_t count):
        _check_rows(first, count, maps.shape[0] - 2)
        cdef size_t w = maps.shape[1] - 2
        cdef uint8_t[::1] memory = np.empty(intnet_layer_scratch(&self._c, count, w), np.uint8)
        with nogil:
            intnet_layer_map(&self._c, self._path, &maps[first, 0, 0], count, w, &out[first, 0, 0],
                             out.shape[2], &memory[0])

    def sums(self, maps, run=at_once):
        self._check(maps)
        out = np.empty((maps.shape[0] - 2, maps.shape[1] - 2, self._c.outputs), np.int32)
        run(partial(self._sum_rows, maps, out), len(out), _unit_of(*out.shape[:2]))
        return out

    def _sum_rows(self, const uint8_t[:, :, ::1] maps, int32_t[:, :, ::1] out, Py_ssize_t first,
                  Py_ssize_t count):
        _check_rows(first, count, maps.shape[0] - 2)
        cdef size_t w = maps.shape[1] - 2
        cdef uint8_t[::1] memory = np.empty(intnet_layer_scratch(&self._c, count, w), np.uint8)
        with nogil:
            intnet_layer_sums(&self._c, self._path, &maps[first, 0, 0], count, w,
                              &out[first, 0, 0], &memory[0])


def repeat_edges(uint8_t[:, :, ::1] maps):
    if maps.shape[0] < 3 or maps.shape[1] < 3:
        raise ValueError("a map has three rows and columns at least")
    with nogil:
        intnet_repeat_edges(&maps[0, 0, 0], maps.shape[0] - 2, maps.shape[1] - 2, maps.shape[2])


def merge(const uint8_t[:, :, ::1] features, int width, const int32_t[:, :, ::1] q,
          const uint8_t[::1] compand, bint with_sign):
    cdef size_t n = q.shape[0], h = q.shape[1], w = q.shape[2]
    cdef size_t stride = stride_of(width + (2 if with_sign else 1) * n)
    if (<size_t> features.shape[0] != h + 2 or <size_t> features.shape[1] != w + 2
            or features.shape[2] < width or compand.shape[0] != 256):
        raise ValueError("features, q and the table do not fit together")
    out = np.zeros((h + 2, w + 2, stride), np.uint8)
    cdef uint8_t[:, :, ::1] view = out
    with nogil:
        intnet_merge(&features[0, 0, 0], features.shape[2], width, &q[0, 0, 0], n, &compand[0],
                     with_sign, h, w, &view[0, 0, 0], stride)
    return out


def predict(v, weight, out, path, run=at_once):
    run(partial(_predict_rows, v, weight, out, path), len(out), 1)


def _predict_rows(const double[:, :, ::1] v, const double[:, :, :, ::1] weight,
                  double[:, :, ::1] out, str path, Py_ssize_t first, Py_ssize_t count):
    cdef size_t h = out.shape[0], w = out.shape[1]
    cdef IntnetPath checked_path = _path_of(path)
    if (<size_t> v.shape[0] != h + 2 or <size_t> v.shape[1] != w + 2
            or weight.shape[0] != -(-out.shape[2] // INTNET_BLOCK) or weight.shape[1] != 9
            or weight.shape[2] != v.shape[2] or weight.shape[3] != INTNET_BLOCK):
        raise ValueError("v, weights and results do not fit together")
    _check_rows(first, count, h)
    with nogil:
        intnet_predict(&v[first, 0, 0], v.shape[2], &weight[0, 0, 0, 0], out.shape[2], count, w,
                       checked_path, &out[first, 0, 0])


def add_neighbours(const int16_t[:, :, ::1] symbols, const int16_t[::1] weight,
                   const int8_t[:, ::1] shift, const uint8_t[::1] compand,
                   const int32_t[:, :, ::1] means, const int32_t[:, :, ::1] sums):
    cdef size_t n = symbols.shape[0], h = symbols.shape[1], w = symbols.shape[2]
    cdef IntnetNeighbours neighbours
    if (<size_t> weight.shape[0] != n or <size_t> shift.shape[0] != n
            or shift.shape[1] != INTNET_CLASSES or compand.shape[0] != 256
            or tuple(means.shape)[:3] != (n, h, w) or tuple(sums.shape)[:3] != (h, w, n)):
        raise ValueError("symbols, neighbours, means and sums do not fit together")
    if int(np.max(compand)) > 127:
        raise ValueError("a companded magnitude is above 127")
    more_means, more_sums = np.array(means), np.array(sums)
    cdef int32_t[:, :, ::1] mean_view = more_means, sum_view = more_sums
    if n * h * w == 0:
        return more_means, more_sums
    neighbours.n, neighbours.weight, neighbours.shift = n, &weight[0], &shift[0, 0]
    neighbours.compand = &compand[0]
    with nogil:
        intnet_add_neighbours(&neighbours, &symbols[0, 0, 0], h, w, &mean_view[0, 0, 0],
                              &sum_view[0, 0, 0])
    return more_means, more_sums


cdef class GroupArrays:
    cdef IntnetGroupArrays _c
    cdef const uint8_t[::1] _site
    cdef const int32_t[::1] _base, _step, _gain
    cdef const int16_t[:, ::1] _base_mode
    cdef const uint8_t[:, ::1] _aligned
    cdef const uint8_t[:, :, ::1] _mode, _inside
    cdef IntnetSites _sites

    def __init__(self, site, base, base_mode, step, gain, aligned, mode, inside):
        n = len(site)
        if not (len(base) == len(step) == n and base_mode.shape == (8, n)
                and (gain is None or (len(gain) == n and aligned.shape == (8, n)))
                and mode.shape == inside.shape and len(mode) == 4
                and int(mode.max()) < 8 and int(site.max()) < 4):
            raise ValueError("the arrays of a group do not fit together")
        self._site, self._base, self._step = site, base, step
        self._base_mode, self._mode, self._inside = base_mode, mode, inside
        self._c.n = n
        self._c.site, self._c.base, self._c.step = &self._site[0], &self._base[0], &self._step[0]
        self._c.base_mode = &self._base_mode[0, 0]
        if gain is not None:
            self._gain, self._aligned = gain, aligned
            self._c.gain, self._c.aligned = &self._gain[0], &self._aligned[0, 0]
        self._sites.mode, self._sites.inside = &self._mode[0, 0, 0], &self._inside[0, 0, 0]

    cdef _check_sums(self, const int32_t[:, :, ::1] sums):
        if (sums.shape[0] != self._mode.shape[1] or sums.shape[1] != self._mode.shape[2]
                or <size_t> sums.shape[2] != self._c.n):
            raise ValueError("the sums are not those of this group")

    def indices(self, const int32_t[:, :, ::1] sums):
        self._check_sums(sums)
        cdef size_t h = self._mode.shape[1], w = self._mode.shape[2]
        out = np.empty((self._c.n, h, w), np.uint8)
        cdef uint8_t[:, :, ::1] view = out
        with nogil:
            intnet_indices(&self._c, &self._sites, &sums[0, 0, 0], h * w, &view[0, 0, 0])
        return out

    def scores(self, const int32_t[:, :, ::1] sums):
        self._check_sums(sums)
        cdef size_t h = self._mode.shape[1], w = self._mode.shape[2]
        out = np.empty((self._c.n, h, w), np.int16)
        cdef int16_t[:, :, ::1] view = out
        with nogil:
            intnet_scores(&self._c, &sums[0, 0, 0], h * w, &view[0, 0, 0])
        return out

    def means(self, const double[:, :, ::1] linear, const int32_t[:, :, ::1] sums):
        self._check_sums(sums)
        cdef size_t h = self._mode.shape[1], w = self._mode.shape[2]
        if self._c.gain is NULL or tuple(linear.shape)[:3] != tuple(sums.shape)[:3]:
            raise ValueError("the prediction is not that of this group")
        out = np.empty((self._c.n, h, w), np.int32)
        predicted = np.empty((self._c.n, h, w), np.int32)
        cdef int32_t[:, :, ::1] view = out
        cdef int32_t[:, :, ::1] predicted_view = predicted
        with nogil:
            intnet_means(&self._c, &self._sites, &linear[0, 0, 0], &sums[0, 0, 0], h * w,
                         &view[0, 0, 0], &predicted_view[0, 0, 0])
        return out, predicted

    def dequantise(self, const int16_t[:, :, ::1] symbols, means, int16_t[:, :, ::1] latent,
                   Py_ssize_t first):
        cdef size_t h = self._mode.shape[1], w = self._mode.shape[2], n = self._c.n
        cdef size_t channels = latent.shape[2]
        cdef const int32_t[:, :, ::1] mean_view
        cdef double[:, :, ::1] v_view
        cdef const int32_t *mean = NULL
        cdef double *v = NULL
        shape = (n, h, w)
        if (tuple(symbols.shape)[:3] != shape or tuple(latent.shape)[:2] != (2 * h, 2 * w)
                or first < 0 or first + n > channels):
            raise ValueError("symbols and latent are not those of this group")
        values = None
        if means is not None:
            mean_view = means
            if tuple(mean_view.shape)[:3] != shape or self._c.gain is NULL:
                raise ValueError("the means are not those of this group")
            mean = &mean_view[0, 0, 0]
            values = np.empty((h + 2, w + 2, n))
            v_view = values
            v = &v_view[0, 0, 0]
        q = np.empty(shape, np.int32)
        cdef int32_t[:, :, ::1] q_view = q
        with nogil:
            intnet_dequantise(&self._c, &self._sites, &symbols[0, 0, 0], mean, h, w,
                              &q_view[0, 0, 0], &latent[0, 0, first], channels, v)
        return q, values
