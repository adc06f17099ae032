"""synthesis.c function by function against numpy's int64, on every path that this processor has.

Each function runs in several ranges of rows, into arrays that hold something else before.
"""

import numpy as np
import pytest

from mvmic_codec.model.synthnet import (
    Conv,
    Enter8,
    Enter16,
    Leave8,
    Linear,
    Rotation,
    quads,
    samples,
    stride_of,
    usable_paths,
)

PATHS = usable_paths()
# Rows and columns at 1/16: one tile, several, more than are taken at once.
SIZES = [(2, 2), (4, 6), (6, 26)]
INT16 = -32768, 32767
JUNK = 77


def rnd(x, bits):
    return (x.astype(np.int64) + (1 << bits >> 1)) >> bits


def rq(x, factor):
    return (x.astype(np.int64) * factor.astype(np.int64) + 2**31) >> 32


def ranges(rng, rows, step=1):
    """A cut of `rows` rows, (first, count), in multiples of `step`."""
    cuts = np.unique(rng.integers(0, rows // step + 1, 2)) * step
    edges = np.unique([0, *cuts, rows])
    return list(zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True))


def draw(rng, shape, most, extreme):
    """Integers within +-most, or -most and most - 1 if `extreme`, as int16 has them."""
    if extreme:
        return rng.choice([-most, most - 1], shape)
    return rng.integers(-most, most, shape)


def map_of(x, around=0):
    """Activations [h,w,C] as a map; `around` lies in its outermost rows and columns."""
    height, width, channels = x.shape
    out = np.zeros((height + 2, width + 2, stride_of(channels)), np.int16)
    out[..., :channels] = around
    out[1:-1, 1:-1, :channels] = x
    return out


def junk_map(height, width, channels):
    return np.full((height + 2, width + 2, stride_of(channels)), JUNK, np.int16)


def expect_map(out, expected):
    """That a map holds `expected`, zeros for channels that do not exist, and its old edges."""
    channels = expected.shape[2]
    assert np.array_equal(out[1:-1, 1:-1, :channels], expected)
    edge = out.copy()
    edge[1:-1, 1:-1] = JUNK
    assert np.all(edge == JUNK)
    assert not out[1:-1, 1:-1, channels:].any()


def planes_of(rng, planes, height, width, most):
    """Planes as a stripe has them: other rows lie between one plane and the next."""
    whole = rng.integers(-most, most + 1, (planes, height + 6, width)).astype(np.int32)
    return whole[:, 2 : height + 2]


def unshuffle(planes, n):
    """[J,nh,nw] as [h,w,n^2 J]."""
    count, height, width = planes.shape
    x = planes.reshape(count, height // n, n, width // n, n)
    return x.transpose(1, 3, 0, 2, 4).reshape(height // n, width // n, -1)


def shuffle(x, n):
    """[h,w,n^2 J] as [J,nh,nw]."""
    height, width, channels = x.shape
    x = x.reshape(height, width, channels // n**2, n, n)
    return x.transpose(2, 0, 3, 1, 4).reshape(-1, n * height, n * width)


@pytest.mark.parametrize("kind", ["sparse", "dense", "wild"])
@pytest.mark.parametrize("chroma", [0, 1, 7, 64, 512])
@pytest.mark.parametrize("path", PATHS)
def test_rotate(path, chroma, kind):
    rng = np.random.default_rng(chroma)
    height, width = 6, 20
    near_luma, near_chroma = 48, chroma // 3
    luma = rng.integers(-(2**14), 2**14 + 1, (8, 256, 256)).astype(np.int16)
    colour = rng.integers(-(2**14), 2**14 + 1, (chroma, 512)).astype(np.int16)
    y = rng.integers(-400, 401, (height, width, 256 + chroma)).astype(np.int16)
    if kind == "sparse":
        y *= rng.random(y.shape[2]) < 0.1
        y[: height // 2] = 0
    elif kind == "wild":
        wild = rng.random((height, width)) < 0.1
        y[wild] = rng.choice(INT16, (int(wild.sum()), y.shape[2]))
        luma[:, 0], y[0, 0] = 2**14, 32767  # a sum far from the others
    modes = rng.choice(8, (height, width), p=[0.6, 0, *[0.4 / 6] * 6]).astype(np.uint8)

    far = near_luma + near_chroma + 256 - near_luma
    of_luma = np.r_[:near_luma, near_luma + near_chroma : far]
    of_chroma = np.r_[near_luma : near_luma + near_chroma, far : 256 + chroma]
    wide = y.astype(np.int64)
    expected = [np.einsum("hwc,hwcx->hwx", wide[..., of_luma], luma[modes].astype(np.int64))]
    if chroma:
        expected.append(wide[..., of_chroma] @ colour.astype(np.int64))
    expected = np.clip(rnd(np.concatenate(expected, 2), 14), *INT16)

    rotation = Rotation(luma, colour, near_luma, near_chroma, path)
    x = np.full(expected.shape, JUNK, np.int16)
    for first, count in ranges(rng, height):
        rotation.rotate(y, modes, x, first, count)
    assert np.array_equal(x, expected)


def matrix_within(rng, extreme):
    """A matrix int16 [16,16] whose rows and columns have sums of magnitudes below 2^16."""
    if extreme:
        return (rng.choice([-1, 1], (16, 16)) * 4095).astype(np.int16)
    return rng.integers(-4095, 4096, (16, 16)).astype(np.int16)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_linear(path, planes, extreme):
    for seed, (h, w) in enumerate([*SIZES, (1, 1), (3, 7)]):
        rng = np.random.default_rng(seed)
        dct, borders = matrix_within(rng, extreme), matrix_within(rng, extreme)
        x = draw(rng, (h, w, 256 * planes), 2**15 if extreme else 3000, extreme).astype(np.int16)
        blocks = x.reshape(h, w, planes, 16, 16).astype(np.int64)
        a, b = dct.astype(np.int64), borders.astype(np.int64)
        first_pass = np.clip(rnd(np.einsum("uj,hwcvu->hwcvj", a, blocks), 13), *INT16)
        second = np.clip(rnd(np.einsum("vi,hwcvj->hwcij", a, first_pass), 13), *INT16)
        expected = shuffle(second.reshape(h, w, -1), 16)
        inner = expected[:, :, 8:-8].reshape(planes, 16 * h, w - 1, 16)
        filtered = np.clip(rnd(np.einsum("ik,crbk->crbi", b, inner), 14), *INT16)
        expected[:, :, 8:-8] = filtered.reshape(planes, 16 * h, -1)

        linear = Linear(dct, borders, path)
        rows = np.full(expected.shape, JUNK, np.int16)
        for first, count in ranges(rng, h):
            linear.rows(x, rows, first, count)
        assert np.array_equal(rows, expected)

        if extreme:
            rows = rng.choice(INT16, rows.shape).astype(np.int16)
        wide = rows.astype(np.int64)
        inner = wide[:, 8:-8].reshape(planes, h - 1, 16, 16 * w)
        filtered = rnd(np.einsum("ik,cbkx->cbix", b, inner), 7)
        expected = wide << 7
        expected[:, 8:-8] = filtered.reshape(planes, -1, 16 * w)
        whole = planes_of(rng, planes, 16 * h, 16 * w, 9)
        for first, count in ranges(rng, h + 1):
            linear.columns(rows, whole, first, count)
        assert np.array_equal(whole, expected)


def draw_dense(rng, outputs, inputs, extreme):
    """Weights int16 [O,I], in the extreme so that sums of inputs of 8191 just fit."""
    most = min(32767, (2**31 - 2) // 8192 // inputs) if extreme else 300
    weight = rng.integers(-most, most + 1, (outputs, inputs))
    if extreme:
        weight = rng.choice([-most, most], (outputs, inputs))
    return weight.astype(np.int16)


def draw_factor(rng, shape, extreme):
    most = 2**30 if extreme else 2**20
    return rng.integers(-most, most + 1, shape).astype(np.int32)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_enter16(path, planes, extreme):
    for seed, (h, w) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        outputs, inputs = int(rng.choice([1, 16, 40, 64])), 256 * planes
        x = draw(rng, (h, w, inputs), 2**15, extreme).astype(np.int16)
        spread = rng.integers(-(2**15), 2**15, inputs).astype(np.int32)
        if extreme:
            spread = rng.choice([-(2**31), 2**31 - 1, 65535, 0], inputs).astype(np.int32)
        weight = draw_dense(rng, outputs, inputs, extreme)
        room = 2**31 - 1 - 8191 * np.abs(weight.astype(np.int64)).sum(1)
        bias = rng.choice([-1, 1], (8, outputs)) * np.minimum(room, 2**31 - 1)
        bias = (bias if extreme else rng.integers(-999, 999, bias.shape)).astype(np.int32)
        factor = draw_factor(rng, outputs, extreme)
        offset = draw(rng, outputs, 2**20, extreme).astype(np.int32)
        modes = rng.integers(0, 8, (h, w)).astype(np.uint8)

        e = np.clip(rnd(x.astype(np.int64) * spread, 16), -8191, 8191)
        sums = e @ weight.T.astype(np.int64) + bias[modes]
        layer = Enter16(weight, bias, factor, offset, spread, path)
        out = junk_map(h, w, outputs)
        for first, count in ranges(rng, h):
            layer.run(x, modes, out, first, count)
        expect_map(out, np.clip(rq(sums, factor) + offset, *INT16))


def convolve(x, weight):
    """Sums [h,w,O] of a map [h+2,w+2,C] with [O,C,3,3]."""
    height, width = x.shape[0] - 2, x.shape[1] - 2
    x, weight = x.astype(np.int64), weight.astype(np.int64)
    return sum(
        x[a : a + height, b : b + width, : weight.shape[1]] @ weight[:, :, a, b].T
        for a in range(3)
        for b in range(3)
    )


def draw_conv(rng, outputs, shift, extreme):
    """Weights, bias, and a map of inputs whose edges are not zero, as in a stripe."""
    h, w = SIZES[int(rng.integers(len(SIZES)))]
    inputs = int(rng.choice([1, 12, 16, 32, 48]))
    most = 3640 if extreme and inputs == 1 else 120
    kind = np.int16 if most > 127 else np.int8
    weight = rng.integers(-most, most + 1, (outputs, inputs, 3, 3)).astype(kind)
    if extreme:
        weight = rng.choice([-most, most], weight.shape).astype(kind)
        weight[0] = most
    xmax = {0: 8191, 2: 8192, 3: 4096}[shift]
    room = 2**29 - 1 - xmax * np.abs(weight.astype(np.int64)).sum((1, 2, 3))
    bias = rng.choice([-1, 1], outputs) * (room if extreme else 1234)
    x = draw(rng, (h + 2, w + 2, inputs), 8191 if shift == 0 else 2**15, extreme)
    if extreme:
        x[:4, :4], x[0, 0] = x.min(), x.max()
    maps = map_of(np.zeros((h, w, inputs)))
    maps[..., :inputs] = x
    seen = x if shift == 0 else np.minimum(rnd(x, shift), 32767 >> shift)
    return weight, bias.astype(np.int32), maps, convolve(seen, weight) + bias


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("shift", [0, 2, 3])
@pytest.mark.parametrize("path", PATHS)
def test_conv(path, shift, extreme):
    for seed, outputs in enumerate((4, 12, 16, 17, 32, 48, 64)):
        rng = np.random.default_rng(seed)
        weight, bias, maps, sums = draw_conv(rng, outputs, shift, extreme)
        h, w = sums.shape[:2]
        factor = draw_factor(rng, outputs, extreme)
        offset = draw(rng, outputs, 2**18, extreme).astype(np.int32)
        layer = Conv(weight, bias, factor, offset, shift, path)
        for top in (8191, 32767):
            out = junk_map(h, w, outputs)
            for first, count in ranges(rng, h, 2):
                layer.relu(maps, top, out, first, count)
            expect_map(out, np.clip(rq(sums, factor) + offset, 0, top))

        before = rng.integers(*INT16, (h, w, outputs))
        stream = map_of(before, JUNK)
        stream[:, :, outputs:] = 0
        for first, count in ranges(rng, h, 2):
            layer.add(maps, stream, first, count)
        stream[..., outputs:][[0, -1]] = stream[..., outputs:][:, [0, -1]] = JUNK
        expect_map(stream, np.clip(before + rq(sums, factor), *INT16))

        if outputs in (4, 12):
            planes = planes_of(rng, outputs // 4, 2 * h, 2 * w, 2**23)
            expected = planes + shuffle(rq(sums, factor), 2)
            for first, count in ranges(rng, h, 2):
                layer.leave(maps, planes, first, count)
            assert np.array_equal(planes, expected)


def test_conv_over_many_tiles():
    """More tiles than are taken at once, with as many channels as a model has."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-20, 21, (40, 224, 3, 3)).astype(np.int8)
    none = np.zeros(40, np.int32)
    factor = np.full(40, 2**18, np.int32)
    maps = map_of(rng.integers(-8191, 8192, (8, 22, 224)))
    expected = np.clip(rq(convolve(maps, weight), factor), 0, 32767)
    for path in PATHS:
        out = junk_map(8, 22, 40)
        Conv(weight, none, factor, none, 0, path).relu(maps, 32767, out, 0, 8)
        expect_map(out, expected)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_enter8(path, planes, extreme):
    for seed, (h, w) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        outputs, inputs = (int(rng.choice([1, 16, 40, 48])) for _ in range(2))
        up = draw_dense(rng, 4 * outputs, inputs, extreme)
        inject = draw_dense(rng, outputs, 64 * planes, extreme)
        factors = [draw_factor(rng, len(each), extreme) for each in (up, inject)]
        offset = draw(rng, 4 * outputs, 2**20, extreme).astype(np.int32)
        x = draw(rng, (h, w, inputs), 2**15, extreme)
        picture = planes_of(rng, planes, 16 * h, 16 * w, 2**24)

        of_up = np.minimum(rnd(x, 2), 8191) @ up.T.astype(np.int64)
        of_up = shuffle(rq(of_up, factors[0]) + offset, 2).transpose(1, 2, 0)
        s = np.clip(rnd(unshuffle(picture, 8), 9), -8191, 8191)
        sums = of_up + rq(s @ inject.T.astype(np.int64), factors[1])
        layer = Enter8(up, inject, *factors, offset, path)
        out = junk_map(2 * h, 2 * w, outputs)
        for first, count in ranges(rng, h):
            layer.run(map_of(x), picture, out, first, count)
        expect_map(out, np.clip(sums, *INT16))


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_leave8(path, planes, extreme):
    for seed, (h, w) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        inputs, outputs = int(rng.choice([1, 16, 40, 48])), 64 * planes
        weight = draw_dense(rng, outputs, inputs, extreme)
        room = 2**31 - 1 - 8192 * np.abs(weight.astype(np.int64)).sum(1)
        bias = rng.choice([-1, 1], outputs) * (room if extreme else 999)
        factor = draw_factor(rng, outputs, extreme)
        x = draw(rng, (h, w, inputs), 2**15, extreme)
        picture = planes_of(rng, planes, 8 * h, 8 * w, 2**24)

        sums = np.minimum(rnd(x, 2), 8191) @ weight.T.astype(np.int64) + bias
        expected = np.clip(picture + shuffle(rq(sums, factor), 8), -(2**23), 2**23)
        layer = Leave8(weight, bias.astype(np.int32), factor, path)
        for first, count in ranges(rng, h):
            layer.run(map_of(x), picture, first, count)
        assert np.array_equal(picture, expected)


def mean_around(u):
    """What is subtracted from u int64 [h,w,4J], the same for each of four channels: [h,w,J]."""
    height, width, channels = u.shape
    padded = np.pad(u.reshape(height, width, channels // 4, 4).sum(3), ((1, 1), (1, 1), (0, 0)))
    there = np.pad(np.ones((height, width, 1), np.int64), ((1, 1), (1, 1), (0, 0)))
    sums, n = (
        sum(x[a : a + height, b : b + width] for a in range(3) for b in range(3))
        for x in (padded, there)
    )
    return rnd((2**26 + 2 * n) // (4 * n) * sums, 26)


@pytest.mark.parametrize("most", [2**15, 2**24])
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_quads(path, planes, most):
    for seed, (h, w) in enumerate([*SIZES, (1, 1), (5, 1), (1, 9), (3, 40)]):
        rng = np.random.default_rng(seed)
        picture = planes_of(rng, planes, 2 * h, 2 * w, most)
        u = unshuffle(picture, 2).astype(np.int64)
        expected = np.clip(rnd(u - np.repeat(mean_around(u), 4, 2), 8), -8191, 8191)
        out = junk_map(h, w, 4 * planes)
        out[..., 4 * planes :][1:-1, 1:-1] = 0
        for first, count in ranges(rng, h):
            quads(picture, out, first, count, path)
        expect_map(out, expected)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_samples(path, planes):
    rng = np.random.default_rng(planes)
    kinds = [(np.uint8, 0, 255), (np.uint16, 0, 65535), (np.uint16, 5, 1), (np.int32, -900, 4095)]
    for kind, low, levels in kinds:
        for most, entry in ((2**19, 2**20), (2**31 - 1, 2**31 // planes - 1)):
            height, width = 7, int(rng.choice([1, 63, 64, 65, 150]))
            picture = planes_of(rng, planes, height, width + 3, most)
            picture[:, 0, 0] = -most - 1
            matrix = rng.integers(-entry, entry + 1, (planes, planes)).astype(np.int32)
            matrix[0] = -entry
            whole = picture.astype(object)
            z = np.einsum("kc,cyx->yxk", matrix.astype(object), whole) + 2**41
            z = np.clip(z, 0, 2**42)
            expected = low + (z * levels + 2**41 >> 42)
            out = np.full((height, width, planes), JUNK, kind)
            for first, count in ranges(rng, height):
                samples(picture, matrix, low, levels, out, first, count, path)
            assert np.array_equal(out, expected[:, :width].astype(np.int64))


def ints(*shape, value=0):
    return np.full(shape, value, np.int32)


def shorts(*shape, value=0):
    return np.full(shape, value, np.int16)


def conv_of(weight=(4, 16, 3, 3), value=1, bias=0, factor=1, offset=0, shift=0, path="portable"):
    outputs = weight[0]
    return Conv(
        np.full(weight, value, np.int16),
        ints(outputs, value=bias),
        ints(outputs, value=factor),
        ints(outputs, value=offset),
        shift,
        path,
    )


def test_bounds_of_a_convolution():
    """The largest weights, biases and offsets that pass, and one more."""
    most = 2**29 - 1 - 8191 * 9 * 16
    conv_of(bias=most)
    conv_of(weight=(1, 1, 3, 3), value=3640)
    # Half of 2^29 by a factor of 2^31 - 1.
    conv_of(bias=most, factor=2**31 - 1, offset=2**31 - 2 - 2**28)
    for excess in (
        {"bias": most + 1},
        {"bias": -(2**31)},
        {"bias": most + 1 - 9 * 16, "shift": 2},
        {"weight": (1, 1, 3, 3), "value": 3641},
        {"bias": most, "factor": 2**31 - 1, "offset": 2**31 - 2**28},
        {"offset": -(2**31)},
    ):
        with pytest.raises(OverflowError):
            conv_of(**excess)


def test_bounds_of_other_layers():
    """Weights, biases and results that might exceed 32 bits, and entries above 1."""
    wide, pair = shorts(64, 256, value=1000), (ints(64), ints(64))
    Enter16(wide, ints(8, 64), *pair, ints(256), "portable")
    Leave8(shorts(64, 32, value=8000), *pair, "portable")
    Enter8(shorts(64, 16), shorts(16, 64, value=4000), pair[0], ints(16), pair[1], "portable")
    Linear(shorts(16, 16, value=4095), shorts(16, 16, value=4095), "portable")
    no_chroma = shorts(0, 0)
    Rotation(shorts(8, 256, 256, value=2**14), no_chroma, 1, 0, "portable")
    bias = ints(8, 64)
    bias[7, 63] = 2**31 - 1 - 256 * 8191 * 1000
    Enter16(wide, bias, *pair, ints(256), "portable")
    bias[7, 63] += 1
    huge = ints(64, value=2**31 - 1)
    for make in (
        lambda: Enter16(wide, bias, *pair, ints(256), "portable"),
        lambda: Enter16(wide, ints(8, 64), huge, huge, ints(256), "portable"),
        lambda: Leave8(shorts(64, 32, value=8192), *pair, "portable"),
        lambda: Leave8(shorts(64, 32, value=8000), huge, pair[0], "portable"),
        lambda: Enter8(
            shorts(64, 16, value=32767), shorts(16, 64), pair[0], ints(16), pair[0], "portable"
        ),
        lambda: Enter8(
            shorts(64, 8, value=30000), shorts(16, 64), pair[0], ints(16), huge, "portable"
        ),
        lambda: Linear(shorts(16, 16, value=4096), shorts(16, 16), "portable"),
        lambda: Linear(shorts(16, 16), shorts(16, 16, value=4096), "portable"),
        lambda: Rotation(shorts(8, 256, 256, value=2**14 + 1), no_chroma, 1, 0, "portable"),
        lambda: Rotation(shorts(8, 256, 256), shorts(3, 512, value=-(2**15)), 1, 1, "portable"),
    ):
        with pytest.raises(OverflowError):
            make()


def test_arrays_that_are_no_layer():
    two, three = ints(2), ints(3)
    for make in (
        lambda: conv_of(weight=(4, 16, 1, 1)),
        lambda: conv_of(weight=(0, 16, 3, 3)),
        lambda: conv_of(shift=1),
        lambda: Conv(np.ones((2, 3, 3, 3), np.int32), two, two, two, 0, "portable"),
        lambda: Conv(np.ones((2, 3, 3, 3), np.int8), three, two, two, 0, "portable"),
        lambda: Conv(np.ones((2, 3, 3, 3), np.int8), two, two, two.astype(int), 0, "portable"),
        lambda: Enter16(shorts(2, 256), two, two, two, ints(256), "portable"),
        lambda: Enter16(shorts(2, 255), ints(8, 2), two, two, ints(255), "portable"),
        lambda: Enter16(shorts(2, 256), ints(8, 2), two, two, ints(768), "portable"),
        lambda: Enter8(shorts(8, 3), shorts(3, 64), ints(8), three, ints(8), "portable"),
        lambda: Enter8(shorts(8, 3), shorts(2, 65), ints(8), two, ints(8), "portable"),
        lambda: Leave8(shorts(63, 3), ints(63), ints(63), "portable"),
        lambda: Leave8(shorts(64, 3), ints(63), ints(64), "portable"),
        lambda: Linear(shorts(16, 15), shorts(16, 16), "portable"),
        lambda: Linear(shorts(16, 16), ints(16, 16), "portable"),
        lambda: Rotation(shorts(7, 256, 256), shorts(0, 0), 1, 0, "portable"),
        lambda: Rotation(shorts(8, 256, 256), shorts(5, 256), 1, 0, "portable"),
        lambda: Rotation(shorts(8, 256, 256), shorts(513, 512), 1, 0, "portable"),
        lambda: Rotation(shorts(8, 256, 256), shorts(5, 512), 257, 0, "portable"),
        lambda: Rotation(shorts(8, 256, 256), shorts(5, 512), 1, 6, "portable"),
    ):
        with pytest.raises(ValueError):
            make()
    with pytest.raises(KeyError):
        conv_of(path="sse")


def test_what_does_not_fit_never_reaches_c():
    """Maps, planes and ranges of other sizes, and results where the inputs are."""
    conv, maps, out = conv_of(), shorts(6, 6, 16), shorts(6, 6, 16)
    planes = ints(1, 8, 8)
    modes = np.zeros((4, 4), np.uint8)
    enter = Enter16(shorts(4, 256), ints(8, 4), ints(4), ints(4), ints(256), "portable")
    enter8 = Enter8(shorts(16, 16), shorts(4, 64), ints(16), ints(4), ints(16), "portable")
    leave8 = Leave8(shorts(64, 16), ints(64), ints(64), "portable")
    linear = Linear(shorts(16, 16), shorts(16, 16), "portable")
    rotation = Rotation(shorts(8, 256, 256), shorts(2, 512), 1, 1, "portable")
    y, x, x3 = shorts(4, 4, 258), shorts(4, 4, 256), shorts(4, 4, 768)
    image, one = np.zeros((8, 8, 1), np.uint8), ints(1, 1)
    mean = shorts(6, 6, 16)
    good = [
        lambda first, count: conv.relu(maps, 9, out, first, count),
        lambda first, count: conv.add(maps, out, first, count),
        lambda first, count: conv.leave(maps, planes, first, count),
        lambda first, count: enter.run(x, modes, out, first, count),
        lambda first, count: enter8.run(maps, ints(1, 64, 64), shorts(10, 10, 16), first, count),
        lambda first, count: leave8.run(maps, ints(1, 32, 32), first, count),
        lambda first, count: linear.rows(x, shorts(1, 64, 64), first, count),
        lambda first, count: rotation.rotate(y, modes, x3, first, count),
        lambda first, count: quads(planes, mean, first, count, "portable"),
    ]
    for run in good:
        run(0, 4)
        for first, count in ((-2, 2), (0, 0), (0, 6), (4, 2), (2, 4), (2, 2**62)):
            with pytest.raises(ValueError):
                run(first, count)
    linear.columns(shorts(1, 64, 64), ints(1, 64, 64), 0, 5)
    samples(planes, one, 0, 255, image, 0, 8, "portable")
    far = modes + np.uint8(8)
    for run in (
        lambda: conv.relu(maps, 9, out, 1, 1),
        lambda: conv.relu(shorts(6, 7, 16), 9, shorts(6, 7, 16), 0, 4),
        lambda: conv.relu(maps, -1, out, 0, 4),
        lambda: conv.relu(maps, 32768, out, 0, 4),
        lambda: conv.relu(maps, 9, maps, 0, 4),
        lambda: conv.relu(maps, 9, shorts(8, 6, 16), 0, 4),
        lambda: conv.relu(shorts(6, 6, 32), 9, out, 0, 4),
        lambda: conv.relu(shorts(6, 6, 32)[:, :, ::2], 9, out, 0, 4),
        lambda: conv.relu(shorts(2, 6, 16), 9, shorts(2, 6, 16), 0, 2),
        lambda: conv.add(maps, shorts(6, 8, 16), 0, 4),
        lambda: conv.leave(maps, ints(3, 8, 8), 0, 4),
        lambda: conv.leave(maps, ints(1, 8, 10), 0, 4),
        lambda: conv.leave(maps, ints(1, 8, 16)[:, :, ::2], 0, 4),
        lambda: conv.leave(maps, ints(1, 8, 16)[:, :, :8], 0, 4),
        lambda: conv.leave(maps, ints(1, 8, 8)[:, ::-1], 0, 4),
        lambda: conv_of(weight=(12, 16, 3, 3)).leave(
            maps, np.lib.stride_tricks.as_strided(planes, (3, 8, 8), (4, 32, 4)), 0, 4
        ),
        lambda: enter.run(x, far, out, 0, 4),
        lambda: enter.run(x3, modes, out, 0, 4),
        lambda: enter.run(x, modes[:3], out, 0, 3),
        lambda: enter8.run(maps, ints(3, 64, 64), shorts(10, 10, 16), 0, 4),
        lambda: enter8.run(maps, ints(1, 64, 64), shorts(10, 12, 16), 0, 4),
        lambda: leave8.run(maps, ints(3, 32, 32), 0, 4),
        lambda: linear.rows(x, shorts(1, 64, 80), 0, 4),
        lambda: linear.rows(x, shorts(3, 64, 64), 0, 4),
        lambda: linear.columns(shorts(1, 64, 64), ints(1, 64, 64), 0, 6),
        lambda: linear.columns(shorts(1, 64, 64), ints(3, 64, 64), 0, 5),
        lambda: linear.columns(shorts(1, 24, 64), ints(1, 24, 64), 0, 2),
        lambda: rotation.rotate(x, modes, x3, 0, 4),
        lambda: rotation.rotate(y, far, x3, 0, 4),
        lambda: rotation.rotate(y, modes, x, 0, 4),
        lambda: quads(planes, shorts(6, 6, 32), 0, 4, "portable"),
        lambda: quads(ints(1, 8, 10), mean, 0, 4, "portable"),
        lambda: samples(planes, ints(3, 3), 0, 255, image, 0, 8, "portable"),
        lambda: samples(planes, one, 0, 0, image, 0, 8, "portable"),
        lambda: samples(planes, one, 0, 65536, ints(8, 8, 1), 0, 8, "portable"),
        lambda: samples(planes, one, 0, 255, np.zeros((8, 9, 1), np.uint8), 0, 8, "portable"),
        lambda: samples(
            planes, one, 0, 255, np.zeros((8, 8, 2), np.uint8)[:, :, :1], 0, 8, PATHS[0]
        ),
        lambda: samples(planes, one, 0, 255, np.zeros((8, 8, 1)), 0, 8, "portable"),
        lambda: samples(planes, one, 0, 255, image, 1, 8, "portable"),
    ):
        with pytest.raises(ValueError):
            run()
    for low, levels in ((1, 255), (-1, 255)):
        with pytest.raises(OverflowError):
            samples(planes, one, low, levels, image, 0, 8, "portable")
    with pytest.raises(OverflowError):
        samples(
            ints(3, 8, 8),
            ints(3, 3, value=2**30),
            0,
            255,
            np.zeros((8, 8, 3), np.uint8),
            0,
            8,
            PATHS[0],
        )
