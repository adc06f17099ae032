# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""Convolutions of floats by 16-bit products: the Python face of csrc/encode/float_conv.h.

Signatures and their contracts are in floatnet.pyi.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, uint8_t

import numpy as np

from mvmic_codec.model.synthnet import PATHS, stride_of, usable_paths

cdef extern from "winograd.h" nogil:
    void synth_conv_weights(
        const int16_t *weight, size_t outputs, size_t inputs, size_t stride, int16_t *out)
    size_t synth_conv_scratch(size_t inputs)

cdef extern from "float_conv.h" nogil:
    enum:
        NARROW_MAX

    ctypedef enum SynthPath:
        SYNTH_PORTABLE

    ctypedef struct FloatLayer:
        size_t inputs
        size_t groups
        const int16_t *weight
        const float *unit
        const float *bias

    void synth_narrow(
        SynthPath path, const float *inputs, float scale, int relu, size_t stride, size_t w,
        size_t count, int16_t *out)
    void synth_float_conv(
        const FloatLayer *layer, SynthPath path, const int16_t *inputs, float scale, int add,
        size_t w, size_t count, float *out, void *scratch)

INPUT_MAX = NARROW_MAX
# Sixteen-bit numerators of Winograd's weights hold nine times so much.
_WEIGHT_MAX = 3640


cdef SynthPath _path_of(str name) except *:
    if name not in usable_paths():
        raise ValueError(f"this processor has no {name}")
    return <SynthPath> <int> PATHS[name]


cdef _check(const float[:, :, ::1] floats, const int16_t[:, :, ::1] maps, size_t outputs,
            size_t inputs, Py_ssize_t first, Py_ssize_t count):
    """Floats of `outputs` channels and a map of `inputs` channels, of the same size."""
    if (floats.shape[0] < 1 or floats.shape[1] < 1 or maps.shape[0] != floats.shape[0] + 2
            or maps.shape[1] != floats.shape[1] + 2 or <size_t> floats.shape[2] != outputs
            or <size_t> maps.shape[2] != inputs):
        raise ValueError(f"floats of {outputs} channels and a map of {inputs} do not fit together")
    if first < 0 or count < 1 or first + count > floats.shape[0]:
        raise ValueError(f"there are no {count} rows from {first} on, of {floats.shape[0]}")


def narrow(const float[:, :, ::1] floats, float scale, bint relu, int16_t[:, :, ::1] maps,
           Py_ssize_t first, Py_ssize_t count, str path):
    cdef SynthPath checked_path = _path_of(path)
    cdef size_t stride = floats.shape[2], w = floats.shape[1]
    if stride == 0 or stride != <size_t> <int> stride_of(stride):
        raise ValueError("floats have the channels of a map, with those that fill it up")
    _check(floats, maps, stride, stride, first, count)
    with nogil:
        synth_narrow(checked_path, &floats[first, 0, 0], scale, relu, stride, w, count,
                     &maps[first, 0, 0])


cdef class FloatConv:
    cdef FloatLayer _c
    cdef SynthPath _path
    cdef const int16_t[::1] _weight
    cdef const float[::1] _unit, _bias

    def __init__(self, weight, unit, bias, path):
        if not (weight.dtype == np.int16 and weight.ndim == 4 and weight.size
                and weight.shape[2:] == (3, 3) and unit.dtype == bias.dtype == np.float32
                and unit.shape == bias.shape == (len(weight),)):
            raise ValueError("the arrays are not those of a 3x3 layer")
        sizes = np.abs(weight, dtype=np.int32).reshape(len(weight), -1)
        most = int(sizes.sum(1, dtype=np.int64).max())
        if int(sizes.max()) > _WEIGHT_MAX or most * NARROW_MAX >= 2**29:
            raise OverflowError("sums of a 3x3 layer might exceed 32 bits")
        outputs, inputs = weight.shape[:2]
        cdef const int16_t[:, :, :, ::1] plain = np.ascontiguousarray(weight)
        cdef size_t stride = stride_of(inputs)
        self._c.inputs, self._c.groups = stride, stride_of(outputs) // stride_of(1)
        cdef int16_t[::1] blocks = np.empty(self._c.groups * 16 * stride * stride_of(1), np.int16)
        with nogil:
            synth_conv_weights(&plain[0, 0, 0, 0], plain.shape[0], plain.shape[1], stride,
                               &blocks[0])
        room = 0, stride_of(outputs) - outputs
        self._weight = blocks
        self._unit, self._bias = np.pad(unit, room), np.pad(bias, room)
        self._c.weight, self._c.unit, self._c.bias = &blocks[0], &self._unit[0], &self._bias[0]
        self._path = _path_of(path)

    def run(self, const int16_t[:, :, ::1] maps, float scale, bint add, float[:, :, ::1] floats,
            Py_ssize_t first, Py_ssize_t count):
        _check(floats, maps, self._c.groups * <size_t> <int> stride_of(1), self._c.inputs, first,
               count)
        cdef size_t w = floats.shape[1]
        if w % 2 or count % 2:
            raise ValueError("a 3x3 layer takes an even number of rows and columns")
        if not scale > 0:
            raise ValueError(f"a scale is above 0, got {scale}")
        cdef uint8_t[::1] memory = np.empty(synth_conv_scratch(self._c.inputs), np.uint8)
        with nogil:
            synth_float_conv(&self._c, self._path, &maps[first, 0, 0], scale, add, w, count,
                             &floats[first, 0, 0], &memory[0])
