"""The parts in C in eight threads at once, with and without the interpreter's lock.

They need neither torch nor a model, so that this file also runs where torch has no build, such as
most free-threaded Pythons.
"""

import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from ladder import draw, laplace_tables

from mvmic_codec.bitstream import ans, flatmap, planecoder
from mvmic_codec.model import floatnet, intnet, synthnet

THREADS = 8
JOBS = range(4 * THREADS)
# Shared by all threads, as those of a model are.
TABLES = ans.Tables(*laplace_tables(12))
CHANNELS = 24


def layer(path):
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3), dtype=np.int8)
    bias = rng.integers(-999, 999, CHANNELS, dtype=np.int32)
    shift = rng.integers(0, 15, CHANNELS).astype(np.uint8)
    return intnet.Layer(weight, bias, shift, slice(0), path)


def code_symbols(number):
    """Lanes of some symbols, and what they decode to."""
    rng = np.random.default_rng(number)
    passes = [draw(rng, 12, size) for size in (0, 4000 + number, 333)]
    lanes = ans.encode(passes, TABLES, ans.LANE_COUNTS[number % 4])
    decoder = ans.Decoder(lanes, TABLES)
    symbols = [decoder.decode(indices) for _, indices in passes]
    decoder.finish()
    assert all((a == b).all() for a, (b, _) in zip(symbols, passes, strict=True))
    return lanes


def code_map(number):
    """The lane of a map of flat colours, and what it decodes to."""
    rng = np.random.default_rng(number)
    flat = (rng.random((60, 50)).cumsum(1) * 0.3 + number).astype(np.uint8) % 4
    lane = flatmap.encode(flat, 3)
    assert (flatmap.decode(lane, *flat.shape, 3) == flat).all()
    return lane


def code_plane(number):
    """The lane of a plane of symbols, and what it decodes to."""
    rng = np.random.default_rng(number)
    plane = (rng.random((60, 50)).cumsum(1) * 3 + number).astype(np.uint8)
    lane = planecoder.encode(plane, 256, True)
    assert (planecoder.decode(lane, *plane.shape, 256, True) == plane).all()
    return lane


def run_layer(shared, number):
    """A layer of the integer networks over a map."""
    features = np.zeros((22, 19, intnet.stride_of(CHANNELS)), np.uint8)
    features[1:-1, 1:-1, :CHANNELS] = np.random.default_rng(number).integers(
        0, 256, (20, 17, CHANNELS)
    )
    intnet.repeat_edges(features)
    return shared.map(features).tobytes(), shared.sums(features).tobytes()


def convolution(path):
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3), dtype=np.int8)
    bias, factor, offset = rng.integers(0, 2**20, (3, CHANNELS), dtype=np.int32)
    return synthnet.Conv(weight, bias, factor, offset, 3, path)


def run_convolution(shared, number):
    """A layer of synthesis over a map."""
    features = np.zeros((22, 20, synthnet.stride_of(CHANNELS)), np.int16)
    features[1:-1, 1:-1, :CHANNELS] = np.random.default_rng(number).integers(
        -9999, 9999, (20, 18, CHANNELS)
    )
    out = np.zeros_like(features)
    shared.relu(features, 8191, out, 0, 20)
    return out.tobytes()


def float_convolution(path):
    weight = np.random.default_rng(0).integers(-9, 10, (CHANNELS, CHANNELS, 3, 3), dtype=np.int16)
    unit, bias = np.ones((2, CHANNELS), np.float32)
    return floatnet.FloatConv(weight, unit, bias, path)


def run_float_convolution(path, shared, number):
    """A layer of analysis, from floats to floats."""
    shape = 20, 18, synthnet.stride_of(CHANNELS)
    floats = np.random.default_rng(number).normal(0, 900, shape).astype(np.float32)
    maps = np.zeros((22, 20, shape[2]), np.int16)
    floatnet.narrow(floats, 1.0, False, maps, 0, 20, path)
    shared.run(maps, 1.0, True, floats, 0, 20)
    return floats.tobytes()


JOBS_BY_NAME = {"symbols": code_symbols, "maps": code_map, "planes": code_plane} | {
    f"layers, {path}": partial(run_layer, layer(path)) for path in intnet.usable_paths()
}
JOBS_BY_NAME |= {
    f"synthesis, {path}": partial(run_convolution, convolution(path))
    for path in synthnet.usable_paths()
}
JOBS_BY_NAME |= {
    f"analysis, {path}": partial(run_float_convolution, path, float_convolution(path))
    for path in synthnet.usable_paths()
}


@pytest.mark.parametrize("name", JOBS_BY_NAME)
def test_eight_threads_give_what_one_gives(name):
    job = JOBS_BY_NAME[name]
    alone = [job(number) for number in JOBS]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(job, JOBS))
    assert together == alone
    assert len({str(each) for each in alone}) == len(JOBS)


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has an interpreter lock"
)
def test_no_part_in_c_brings_the_interpreter_lock_back():
    assert not sys._is_gil_enabled()
