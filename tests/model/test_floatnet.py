"""Convolutions of floats against numpy, on every path that this processor has."""

import numpy as np
import pytest

from mvmic_codec.model.floatnet import INPUT_MAX, FloatConv, narrow
from mvmic_codec.model.synthnet import stride_of, usable_paths

PATHS = usable_paths()
SIZES = [(2, 2), (4, 6), (6, 26)]


def floats_of(rng, rows, columns, channels, scale=1.0):
    out = np.zeros((rows, columns, stride_of(channels)), np.float32)
    out[..., :channels] = rng.normal(0, scale, (rows, columns, channels))
    return out


def layer_of(rng, outputs, inputs, path):
    weight = rng.integers(-9, 10, (outputs, inputs, 3, 3)).astype(np.int16)
    unit = rng.uniform(0.1, 1, outputs).astype(np.float32)
    bias = rng.normal(0, 1, outputs).astype(np.float32)
    return FloatConv(weight, unit, bias, path), weight, unit, bias


def convolved(maps, weight):
    """Sums [h,w,O] of a map [h+2,w+2,I], in integers."""
    windows = np.lib.stride_tricks.sliding_window_view(maps.astype(np.int64), (3, 3), (0, 1))
    return np.einsum("yxcij,ocij->yxo", windows, weight.astype(np.int64))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("relu", [False, True])
def test_narrow(path, relu):
    rng = np.random.default_rng(1)
    floats = floats_of(rng, 6, 5, 20, 3000)
    floats[0, 0, :5] = [0.5, -0.5, 1e9, -1e9, np.nan]
    maps = np.full((8, 7, 32), 77, np.int16)
    for first, count in ((0, 1), (1, 4), (5, 1)):
        narrow(floats, 0.75, relu, maps, first, count, path)
    low = 0 if relu else -INPUT_MAX
    scaled = np.clip(floats * np.float32(0.75), low, INPUT_MAX)
    halves_away = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5).astype(np.float32))
    expected = np.where(np.isnan(scaled), low, halves_away)
    assert np.array_equal(maps[1:-1, 1:-1], expected)
    maps[1:-1, 1:-1] = 77
    assert (maps == 77).all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_conv(path, add, size):
    rng = np.random.default_rng(2)
    layer, weight, unit, bias = layer_of(rng, 20, 36, path)
    maps = np.zeros((size[0] + 2, size[1] + 2, 48), np.int16)
    maps[..., :36] = rng.integers(-INPUT_MAX, INPUT_MAX + 1, (*maps.shape[:2], 36))
    out = floats_of(rng, *size, 20)
    before = out.copy() if add else np.zeros_like(out)
    for first, count in ((0, 2), (2, size[0] - 2)):
        if count:
            layer.run(maps, 16.0, add, out, first, count)
    expected = before[..., :20] + convolved(maps[..., :36], weight) * unit / 16 + bias
    assert np.allclose(out[..., :20], expected, rtol=1e-5, atol=1e-3)
    assert (out[..., 20:] == 0).all()


def test_the_largest_sums_fit():
    weight = np.full((1, 16, 3, 3), 2**29 // INPUT_MAX // 144, np.int16)
    maps = np.full((4, 4, 16), INPUT_MAX, np.int16)
    for path in PATHS:
        out = np.zeros((2, 2, 16), np.float32)
        layer = FloatConv(weight, np.ones(1, np.float32), np.zeros(1, np.float32), path)
        layer.run(maps, 1.0, False, out, 0, 2)
        assert np.allclose(out[..., 0], weight.sum(dtype=int) * INPUT_MAX)
    weight[0, 0, 0, 0] += 65
    with pytest.raises(OverflowError):
        FloatConv(weight, np.ones(1, np.float32), np.zeros(1, np.float32), PATHS[0])


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(3)
    layer, weight, unit, bias = layer_of(rng, 20, 36, PATHS[0])
    maps, out = np.zeros((4, 6, 48), np.int16), np.zeros((2, 4, 32), np.float32)
    for wrong in (
        (maps[:3], 1.0, False, out, 0, 2),
        (maps, 1.0, False, out[:, :, :16].copy(), 0, 2),
        (maps, 1.0, False, out, 0, 1),
        (maps, 1.0, False, out, 1, 2),
        (maps, 0.0, False, out, 0, 2),
        (maps, float("nan"), False, out, 0, 2),
    ):
        with pytest.raises(ValueError):
            layer.run(*wrong)
    for floats, first, count in ((out, 0, 3), (out[:, :, :17].copy(), 0, 2), (out[:1], 0, 1)):
        with pytest.raises(ValueError):
            narrow(floats, 1.0, False, np.zeros((4, 6, 32), np.int16), first, count, PATHS[0])
    for arrays in ((weight[0], unit, bias), (weight, unit[:5], bias), (weight, unit, bias * 1.0j)):
        with pytest.raises(ValueError):
            FloatConv(*arrays, PATHS[0])
    with pytest.raises(ValueError, match="no sse"):
        FloatConv(weight, unit, bias, "sse")
