"""intnet.c piece by piece against numpy's int64, on every path that this processor has."""

import numpy as np
import pytest

from mvmic_codec.model.definition import SPACING
from mvmic_codec.model.intnet import (
    ZERO,
    GroupArrays,
    Layer,
    add_neighbours,
    merge,
    predict,
    repeat_edges,
    stride_of,
    usable_paths,
)
from mvmic_codec.model.native import taps

PATHS = usable_paths()
OUTPUTS = (1, 7, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65, 80, 96, 100, 130)


def map_of(x):
    """Planes [C,h,w] of bytes as a map."""
    channels, height, width = x.shape
    out = np.zeros((height + 2, width + 2, stride_of(channels)), np.uint8)
    out[1:-1, 1:-1, :channels] = x.transpose(1, 2, 0)
    repeat_edges(out)
    return out


def convolve(x, weight):
    """[C,h,w] with [O,C,k,k], edges repeated."""
    size = weight.shape[2]
    pad, (height, width) = size // 2, x.shape[1:]
    padded = np.pad(x.astype(np.int64), ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    taps = [
        np.einsum(
            "oc,chw->ohw",
            weight[:, :, a, b].astype(np.int64),
            padded[:, a : a + height, b : b + width],
        )
        for a in range(size)
        for b in range(size)
    ]
    return sum(taps)


def rounded(x, bits):
    bits = np.asarray(bits, np.int64)
    return (x + (1 << bits >> 1)) >> bits


def draw_layer(rng, outputs, extreme):
    """Weights, bias, shift and inputs, of which some have a sign; at the limit if `extreme`.

    As after decoding, many inputs are 0: everywhere, or at some positions.
    """
    inputs, size = int(rng.integers(1, 40)), int(rng.choice([1, 3]))
    height, width = int(rng.integers(1, 4)), int(rng.integers(1, 30))
    shape = (outputs, inputs, size, size)
    signs = slice(*sorted(int(each) for each in rng.integers(0, inputs + 1, 2)))
    weight = (rng.choice([-127, 127], shape) if extreme else rng.integers(-127, 128, shape)).astype(
        np.int8
    )
    room = 2**30 - 1 - 255 * np.abs(weight.astype(np.int64)).sum((1, 2, 3))
    bias = rng.choice([-1, 1], outputs) * (room if extreme else rng.integers(0, 1000, outputs))
    x = rng.integers(0, 256, (inputs, height, width))
    if extreme:
        x = rng.choice([0, 255], x.shape)
    x[rng.random(inputs) < rng.random()] = 0
    x[:, rng.random((height, width)) < rng.random()] = 0
    x[signs] = np.clip(x[signs] - ZERO, -127, 127)
    shift = rng.choice([0, 1, 7, 14], outputs).astype(np.uint8)
    return weight, bias.astype(np.int32), shift, signs, x


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_layers(path, extreme):
    rng = np.random.default_rng(1)
    for outputs in OUTPUTS * 2:
        weight, bias, shift, signs, x = draw_layer(rng, outputs, extreme)
        exact = convolve(x, weight) + bias.astype(np.int64)[:, None, None]
        expected = rounded(exact, shift[:, None, None])
        stored = x.copy()
        stored[signs] += ZERO
        layer = Layer(weight, bias, shift, signs, path)
        assert np.array_equal(layer.sums(map_of(stored)).transpose(2, 0, 1), expected)
        assert np.array_equal(layer.map(map_of(stored)), map_of(np.clip(expected, 0, 255)))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("inputs", [1841, 1842])
def test_the_largest_sums_of_a_3x3_layer(path, inputs):
    """Winograd's algorithm has four times as much on the way: up to 1841 inputs that fits."""
    weight = np.full((17, inputs, 3, 3), 127, np.int8)
    weight[1] = -127
    bias, shift = np.zeros(17, np.int32), np.full(17, 14, np.uint8)
    layer = Layer(weight, bias, shift, slice(0), path)
    sums = layer.sums(map_of(np.full((inputs, 2, 4), 255, np.uint8)))
    most = 255 * 127 * 9 * inputs
    assert (sums[..., 1] == rounded(-most, 14)).all()
    assert (np.delete(sums, 1, 2) == rounded(most, 14)).all()


@pytest.mark.parametrize("path", PATHS)
def test_predict(path):
    rng = np.random.default_rng(2)
    for outputs in (1, 7, 8, 9, 16, 31, 32, 33, 40, 64, 72, 112):
        inputs, height, width = (int(rng.integers(1, most)) for most in (12, 4, 16))
        levels = rng.integers(-(2**23), 2**23 + 1, (inputs, height, width))
        weight = rng.integers(-32767, 32768, (outputs, inputs, 3, 3))
        before = rng.integers(-(2**40), 2**40, (height, width, outputs))
        expected = before + convolve(levels, weight).transpose(1, 2, 0)
        mapped = np.empty((height + 2, width + 2, inputs))
        mapped[1:-1, 1:-1] = levels.transpose(1, 2, 0)
        repeat_edges(mapped.view(np.uint8))
        out = before.astype(np.float64)
        predict(mapped, taps(weight), out, path)
        assert np.array_equal(out.astype(np.int64), expected)


@pytest.mark.parametrize("with_sign", [False, True])
def test_merge(with_sign):
    rng = np.random.default_rng(3)
    q = rng.integers(-400, 401, (5, 3, 37)).astype(np.int32)
    q[:, 0, 0] = 0
    # A table that says something of 0 is not asked there: 0 has no sign.
    table = rng.integers(1, 128, 256).astype(np.uint8)
    shaped = np.sign(q) * table[np.minimum(np.abs(q), 255)].astype(np.int64)
    features = rng.integers(0, 256, (6, 3, 37))
    seen = [shaped + ZERO] * with_sign + [np.abs(shaped)]
    expected = map_of(np.concatenate([features, *seen]))
    assert np.array_equal(merge(map_of(features), 6, q, table, with_sign), expected)


@pytest.mark.parametrize("seed", range(20))
def test_parts(seed):
    """Table indices, means, predictions, latents and levels over the whole range of everything."""
    rng = np.random.default_rng(seed)
    n, height, width = (int(rng.integers(1, most)) for most in (9, 4, 7))
    site = rng.integers(0, 4, n).astype(np.uint8)
    base = rng.integers(-(2**15), 2**15, n).astype(np.int32)
    base_mode = rng.integers(-(2**15), 2**15, (8, n)).astype(np.int16)
    # Large ones, and such that few latents are clamped.
    step = rng.integers(1, rng.choice([2**13, 2**31]), n).astype(np.int32)
    gain = rng.integers(-4000, 4000, n).astype(np.int32)
    aligned = rng.integers(0, 2, (8, n)).astype(np.uint8)
    mode = rng.integers(0, 8, (4, height, width)).astype(np.uint8)
    inside = rng.integers(0, 2, mode.shape).astype(np.uint8)
    part = GroupArrays(site, base, base_mode, step, gain, aligned, mode, inside)

    modes, channel = mode[site], np.arange(n)[:, None, None]
    same = aligned[modes, channel].astype(np.int64)
    sums = rng.choice([-(2**30), 2**30 - 1, -300, 300, 0, 55], (n, height, width))
    of_cells = np.ascontiguousarray(sums.transpose(1, 2, 0)).astype(np.int32)
    e = sums + base[:, None, None] + base_mode[modes, channel]
    assert np.array_equal(part.indices(of_cells), np.clip((e + 8) // 16, 0, 63) * inside[site])

    linear = rng.integers(-(2**51), 2**51, sums.shape) >> int(rng.choice([0, 23]))
    predicted = rounded(rounded(linear, 12) * gain[:, None, None].astype(np.int64), 20)
    expected = np.clip(predicted * same + np.clip(sums, -127, 127), -(2**18), 2**18)
    means, flat = part.means(
        np.ascontiguousarray(linear.transpose(1, 2, 0)).astype(np.float64), of_cells
    )
    assert np.array_equal(means, expected)
    assert np.array_equal(flat, np.clip(predicted, -(2**19), 2**19))

    symbols = rng.choice([-32768, 32767, 0, 3, -3], sums.shape).astype(np.int16)
    before = rng.integers(-9, 9, (2 * height, 2 * width, n + 5)).astype(np.int16)
    latent = before.copy()
    q, levels = part.dequantise(symbols, means, latent, 2)
    apart = SPACING * symbols.astype(np.int64) + expected
    v = rounded(apart * step[:, None, None].astype(np.int64), 12)
    assert np.array_equal(q, apart)
    for k in range(n):
        at = slice(site[k] // 2, None, 2), slice(site[k] % 2, None, 2), 2 + k
        before[at] = np.clip(rounded(v[k], 1), -(2**15), 2**15 - 1)
    assert np.array_equal(latent, before)
    clipped = np.pad(np.clip(v, -(2**23), 2**23) * same, ((0, 0), (1, 1), (1, 1)), mode="edge")
    assert np.array_equal(levels.transpose(2, 0, 1), clipped)
    assert part.dequantise(symbols, None, latent, 2)[1] is None
    for other, first in ((latent, -1), (latent, 6), (latent[1:], 2), (latent[:, :-1].copy(), 2)):
        with pytest.raises(ValueError):
            part.dequantise(symbols, means, other, first)


def beside(x):
    """The sum of the four neighbours of each place of [n,h,w]."""
    x = np.pad(x.astype(np.int64), ((0, 0), (1, 1), (1, 1)))
    return x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]


def draw_neighbours(seed, shape):
    """Symbols of anchors, weights, shifts, companding table, means and sums."""
    rng, n = np.random.default_rng(seed), shape[0]
    anchors = np.indices(shape[1:]).sum(0) % 2 == 0
    symbols = rng.choice([-32768, 32767, 0, 3, -3, 1], shape).astype(np.int16) * anchors
    weight = rng.choice([-32768, 32767, 999], n).astype(np.int16)
    shift = rng.integers(-128, 128, (n, 16)).astype(np.int8)
    table = rng.integers(0, 128, 256).astype(np.uint8)
    means = rng.integers(-(2**18), 2**18 + 1, shape).astype(np.int32)
    sums = rng.integers(-(2**30), 2**30, (*shape[1:], n)).astype(np.int32)
    return symbols, weight, shift, table, means, sums


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 6), (2, 5, 1), (5, 2, 2), (7, 6, 9)])
def test_neighbours(shape):
    for seed in range(10):
        symbols, weight, shift, table, means, sums = draw_neighbours(seed, shape)
        before = means.copy(), sums.copy()
        others = np.indices(shape[1:]).sum(0) % 2 == 1
        r = SPACING * symbols.astype(np.int64)
        more = rounded(weight[:, None, None] * beside(r), 16)
        size = np.minimum(rounded(beside(np.abs(r)), 2), 255)
        of_class = np.where(size, table[size] // 8, 0)
        moved = 16 * shift[np.arange(shape[0])[:, None, None], of_class].astype(np.int64) * others
        found = add_neighbours(symbols, weight, shift, table, means, sums)
        assert np.array_equal(found[0], np.clip(means + more * others, -(2**18), 2**18))
        assert np.array_equal(found[1], sums + moved.transpose(1, 2, 0))
        # A coder may have kept what there was.
        assert np.array_equal(means, before[0]) and np.array_equal(sums, before[1])


def test_neighbours_that_do_not_fit():
    fits = draw_neighbours(0, (3, 4, 5))
    add_neighbours(*fits)
    for k, other in (
        (0, fits[0][:2]),
        (0, fits[0][:, :3].copy()),
        (1, fits[1][:2]),
        (2, fits[2][:, :15].copy()),
        (2, fits[2][:2]),
        (3, fits[3][:255]),
        (3, fits[3] + np.uint8(128)),
        (4, fits[4][:, :, :4].copy()),
        (5, fits[5].transpose(1, 0, 2).copy()),
    ):
        with pytest.raises(ValueError):
            add_neighbours(*fits[:k], other, *fits[k + 1 :])


def layer_of(weight=(4, 3, 3, 3), kind=np.int8, bias=4, shift=4, **other):
    return Layer(
        np.ones(weight, kind),
        np.zeros(bias, other.get("bias_kind", np.int32)),
        np.full(shift, other.get("shift_by", 0), other.get("shift_kind", np.uint8)),
        slice(0),
        other.get("path", "portable"),
    )


@pytest.mark.parametrize(
    "other",
    [
        {"weight": (4, 3, 5, 5)},
        {"weight": (4, 3, 3, 1)},
        {"weight": (4, 27)},
        {"weight": (0, 3, 3, 3), "bias": 0, "shift": 0},
        {"kind": np.int16},
        {"bias": 3},
        {"bias_kind": np.int64},
        {"shift": 5},
        {"shift_kind": np.int8},
        {"shift_by": 15},
    ],
)
def test_what_is_no_layer(other):
    layer_of()
    with pytest.raises(ValueError):
        layer_of(**other)


def test_more_inputs_than_a_tile_can_look_at():
    none = np.zeros(1, np.int32), np.zeros(1, np.uint8), slice(0)
    Layer(np.ones((1, 4096, 1, 1), np.int8), *none, "portable")
    with pytest.raises(OverflowError, match="4097 inputs"):
        Layer(np.ones((1, 4097, 1, 1), np.int8), *none, "portable")


def test_maps_that_do_not_fit():
    """Of other channels, or without a place: such never reach C."""
    layer = layer_of()
    layer.map(np.zeros((4, 4, 4), np.uint8))
    for shape in ((4, 4, 8), (4, 4, 0), (2, 4, 4), (4, 2, 4)):
        for run in (layer.map, layer.sums):
            with pytest.raises(ValueError):
                run(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError):
        layer.map(np.zeros((4, 4, 8), np.uint8)[:, :, ::2])
    q, table = np.zeros((3, 2, 2), np.int32), np.zeros(256, np.uint8)
    merge(np.zeros((4, 4, 8), np.uint8), 8, q, table, True)
    for features, entries in (((3, 4, 8), 256), ((4, 5, 8), 256), ((4, 4, 4), 256), ((4, 4, 8), 9)):
        with pytest.raises(ValueError):
            merge(np.zeros(features, np.uint8), 8, q, table[:entries], True)
    with pytest.raises(KeyError):
        layer_of(path="neon")
