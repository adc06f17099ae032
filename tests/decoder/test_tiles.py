"""Images in tiles, windows of images: what decoding gives is what it gives for the whole."""

import functools
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import decode as reference
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slow import first_is_quick
from small_model import picture
from tiled import tiled

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.container import Tile
from mvmic_codec.bitstream.flat import Flat, beside
from mvmic_codec.bitstream.grid import Box, Tiling
from mvmic_codec.decoder import image, on_device, parts, reconstruct
from mvmic_codec.decoder.image import decode_samples, emit_samples
from mvmic_codec.decoder.paint import Overlays, Painter, paint_reduced
from mvmic_codec.decoder.reconstruct import Slab
from mvmic_codec.decoder.reduced import Patches
from mvmic_codec.decoder.tiles import only_tile, tile_slabs
from mvmic_codec.errors import FormatError, InputError, TruncatedError
from mvmic_codec.features import extract, mirror

GOLDEN = Path(__file__).parents[2] / "formats/golden"
# 2 x 3 tiles, of which the last are cut; and more than bands of 4 blocks overlap by.
SIZE = 101, 149
MAPS = ("coefficients", "s16", "s8")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def flat_map(size=SIZE, seed=0):
    """Large areas of two colours across borders of tiles, and a few letters."""
    rng = np.random.default_rng(seed)
    map = np.zeros(size, np.uint8)
    map[:, 40:90] = 1
    map[44:84, :] = 2
    letters = rng.random((size[0] // 4 + 1, size[1] // 4 + 1)) < 0.05
    map[letters.repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]] = 1
    return map


@functools.cache
def made(channels, side, has_flat):
    """A tiled image. The small models are made from seeds, and so are the same for all tests."""
    planes = picture(*SIZE, channels)
    if not has_flat:
        return tiled(planes, side)
    colours = [[20] * channels, [200, 30, 100][:channels]]
    return tiled(planes, side, map=flat_map(), colours=colours)


def decoded(tiles, **options):
    return decode_samples(tiles.header, tiles, **options)


def hides(covered):
    return reference.hidden_sites(covered, (False, False, False, False)).any()


def by_reference(tiles, path):
    """Samples by formats/reference/decode.py, and the tiles as it knows them."""
    model = reference.load_model(path)
    fields = {name: getattr(tiles.header, name) for name in reference.Head.__annotations__}
    head = reference.Head(**fields)
    places = reference.tiles_of(SIZE, tiles.header.tile)
    found = [
        [reference.decode_tile(head, model, place, tile) for place, tile in zip(*row, strict=True)]
        for row in zip(places, tiles.tiles, strict=True)
    ]
    return reference.reconstruct(head, model, places, found)[1], found


@pytest.mark.parametrize("has_flat", first_is_quick([True, False]))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", first_is_quick([64, 128, 0]))
def test_samples_are_those_of_the_reference_decoder(weights_path, channels, side, has_flat):
    tiles = made(channels, side, has_flat)
    expected, found = by_reference(tiles, weights_path)
    samples = decoded(tiles)
    assert samples.shape == expected.shape and np.array_equal(samples, expected)
    assert samples.std() > 10
    rows, columns = Tiling(SIZE, side).rows, Tiling(SIZE, side).columns
    assert tiles.asked[-rows * columns :] == [(r, c) for r in range(rows) for c in range(columns)]
    areas = [one.flat for row in found for one in row]
    hidden = [each is not None and hides(each.covered) for each in areas]
    assert any(hidden) == has_flat


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("stripe", "band", "threads", "widest"),
    [(32, 4, 1, 2048), (96, 4, 3, 96), (64, 6, 2, 2048), (2048, 512, 3, 32)],
)
def test_neither_parts_nor_threads_show(
    monkeypatch, weights, channels, stripe, band, threads, widest
):
    tiles = made(channels, 64, True)
    expected = decoded(tiles)
    monkeypatch.setattr(reconstruct, "STRIPE_BLOCKS", stripe)
    monkeypatch.setattr(reconstruct, "BAND_BLOCKS", band)
    monkeypatch.setattr(parts, "WIDEST", widest)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    count = np.zeros(SIZE, int)
    samples = np.zeros((*SIZE, channels), np.uint8)

    def emit(top, left, part):
        count[top : top + len(part), left : left + part.shape[1]] += 1
        reconstruct.put(samples, top, left, part)

    emit_samples(tiles.header, tiles, emit)
    assert (count == 1).all()
    assert np.array_equal(samples.squeeze(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
def test_torch_gives_the_same(monkeypatch, weights, channels, device):
    tiles = made(channels, 64, True)
    expected = decoded(tiles)
    box = (70, 30, 141, 99)

    def by_torch(header, tile_of, emit, **options):
        options["device"] = device
        on_device.decode_parts(header, tile_of, emit, until="planes", **options)

    on_device.model_on.cache_clear()
    monkeypatch.setattr(image, "decode_parts", by_torch)
    assert np.array_equal(decoded(tiles), expected)
    assert np.array_equal(decoded(tiles, box=box), expected[30:99, 70:141])


def boxes():
    sides = [st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SIZE]
    return st.tuples(*sides).map(
        lambda b: (b[1][0], b[0][0], max(b[1][0] + 1, b[1][1]), max(b[0][0] + 1, b[0][1]))
    )


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("kind", first_is_quick([(1, 64), (3, 64), (1, 0)]))
def test_a_window_is_cut_from_the_whole(monkeypatch, weights, kind, scale):
    tiles = made(*kind, True)
    expected = decoded(tiles, scale=scale)
    monkeypatch.setattr(reconstruct, "STRIPE_BLOCKS", 16)
    monkeypatch.setattr(reconstruct, "BAND_BLOCKS", 4)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(box=boxes())
    def check(box):
        left, top, right, bottom = box
        rows = slice(top // scale, -(-bottom // scale))
        columns = slice(left // scale, -(-right // scale))
        found = decoded(tiles, box=box, scale=scale)
        assert np.array_equal(found, expected[rows, columns])

    check()


def test_a_window_asks_for_no_tile_that_it_does_not_depend_on(weights):
    """A block of the small model depends on four blocks on each side."""
    tiles = made(1, 64, True)
    for box, scale, expected in (
        ((140, 90, 149, 101), 1, [(0, 1), (0, 2), (1, 1), (1, 2)]),
        ((0, 0, 32, 32), 1, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ((0, 0, 32, 32), 4, [(0, 0)]),
        ((0, 0, 33, 32), 4, [(0, 0), (0, 1)]),
    ):
        tiles.asked.clear()
        decoded(tiles, box=box, scale=scale)
        assert tiles.asked == expected


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_smaller_sizes_are_means_of_the_linear_picture(monkeypatch, released, channels, scale):
    net = released.decoding.synthesis
    rng = np.random.default_rng(scale)
    rows, columns = 8, 12
    x = (rng.normal(size=(rows, columns, 256 * channels)) * 300).astype(np.int16)
    blocks = np.moveaxis(x.reshape(rows, columns, channels, 16, 16).astype(float), 2, 0) / 8
    dct, borders = (each / 2**14 for each in (net.dct, net.borders))
    spatial = np.einsum("pyxvu,vi,uj->pyixj", blocks, dct, dct)
    linear = spatial.reshape(channels, 16 * rows, 16 * columns)
    for axis in (2, 1):
        linear = np.moveaxis(linear, axis, -1).copy()
        inner = linear[..., 8:-8].reshape(*linear.shape[:-1], -1, 16)
        linear[..., 8:-8] = (inner @ borders.T).reshape(*linear.shape[:-1], -1)
        linear = np.moveaxis(linear, -1, axis)
    squares = linear.reshape(channels, 16 * rows // scale, scale, 16 * columns // scale, scale)
    expected = squares.mean((2, 4))

    patches = Patches(net, Box(0, 0, rows, columns), (rows, columns), scale)
    found = [patches.add(x[:2]), patches.add(x[2:6]), patches.add(x[6:])]
    found = np.concatenate(found, 1) / 2**12
    assert found.shape == expected.shape and expected.std() > 1
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()

    # A part of the image, with the blocks around: wrong outside of its own, as it says.
    part = Patches(net, Box(2, 4, 6, 8), (rows, columns), scale)
    mine = np.concatenate([part.add(x[2:4, 4:]), part.add(x[4:, 4:])], 1) / 2**12
    per_block = 16 // scale
    inner = found[:, 4 * per_block :, 6 * per_block :]
    assert np.array_equal(mine[:, 2 * per_block :, 2 * per_block :], inner)


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
@pytest.mark.parametrize("blended", [True, False])
def test_flat_colours_count_by_their_share_of_a_square(scale, blended):
    map = flat_map()
    rng = np.random.default_rng(1)
    blends = rng.integers(0, 4, SIZE).astype(np.uint8) * (beside(map) > 0) if blended else None
    areas = Flat(np.array([[20], [-200]], np.int32), map, blends)
    size = tuple(-(-side // scale) for side in SIZE)
    samples = rng.integers(-300, 300, (*size, 1)).astype(np.int16)
    found = samples.copy()
    paint_reduced(found[: size[0] // 2], areas, scale)
    paint_reduced(found[size[0] // 2 :], areas, scale, size[0] // 2)
    # Every pixel is the sample of its square, painted; and then a mean is taken in floats.
    number = np.where(map > 0, map, beside(map))
    share = np.where(map > 0, 4, 0 if blends is None else blends) / 4
    spread = samples[..., 0].repeat(scale, 0).repeat(scale, 1)[: SIZE[0], : SIZE[1]]
    painted = spread * (1 - share) + share * areas.colours[np.maximum(number, 1) - 1, 0]
    for i, j in np.ndindex(size):
        square = painted[scale * i : scale * (i + 1), scale * j : scale * (j + 1)]
        assert abs(found[i, j, 0] - square.mean()) <= 0.5
    assert (found != samples).any()


@pytest.mark.parametrize("name", ["gray", "colour"])
def test_smaller_sizes_have_the_brightness_of_the_whole(name):
    """The networks of the released models shift it by up to 27 of 255."""
    file = container.Reader((GOLDEN / f"{name}.mvm").read_bytes())
    whole, small = (
        decode_samples(file.header, only_tile(file.tile()), scale=scale).astype(float)
        for scale in (1, 16)
    )
    shift = whole.mean((0, 1)) - small.mean((0, 1))
    assert np.abs(shift).max() < 2


def test_black_is_black_and_the_size_is_rounded_up(weights):
    tiles = made(1, 64, True)
    whole, map = decoded(tiles).astype(float), flat_map()
    small = decoded(tiles, scale=8)
    assert small.shape == (13, 19)
    assert (small[:4, 6:11] == 20).all() and (map[:32, 48:88] == 1).all()
    means = [
        [whole[8 * i : 8 * i + 8, 8 * j : 8 * j + 8].mean() for j in range(19)] for i in range(13)
    ]
    # The networks of the small model add what the linear picture lacks.
    assert np.abs(small - means).mean() < 6


@pytest.mark.parametrize("scale", [1, 4])
def test_tiles_are_forgotten_when_they_are_painted(scale):
    window = Box(32, 16, 96, 60)
    painter, tiling = Painter(window, scale), Tiling((192, 192), 64)
    areas = Flat(np.array([[7]], np.int32), np.ones((64, 64), np.uint8), None)
    painted = np.zeros((window.height // scale, window.width // scale, 1), np.uint8)
    for row in range(3):
        for column in range(3):
            painter.keep(tiling.box(row, column), Overlays(areas))
    assert len(painter.kept) == 4, "others have no pixels in the window"
    half = 40 // scale
    for top, left, waiting in ((0, 0, 4), (0, half, 2), (half, half, 1), (half, 0, 0)):
        height, width = (half, painted.shape[0] - half), (half, painted.shape[1] - half)
        part = painted[top : top + height[top > 0], left : left + width[left > 0]]
        painter.paint(top, left, part)
        assert len(painter.kept) == waiting
    assert (painted == 7).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("place", [(0, 0), (0, 2), (1, 1)])
def test_a_damaged_tile(monkeypatch, weights, place, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    tiles = made(1, 64, True)
    payload = tiles.tiles[place[0]][place[1]].payload
    flipped = bytes([*payload[:-5], payload[-5] ^ 1, *payload[-4:]])
    for wrong, error in (
        (flipped, FormatError),
        (payload[:30], FormatError),
        (b"", TruncatedError),
    ):
        with pytest.raises(error):
            decoded(tiles.damaged(*place, wrong))
    # What does not depend on it can still be had.
    box = {(0, 0): (140, 0, 149, 9), (0, 2): (0, 0, 9, 9), (1, 1): (0, 0, 0, 0)}[place]
    if any(box):
        left, top, right, bottom = box
        found = decoded(tiles.damaged(*place, flipped), box=box)
        assert np.array_equal(found, decoded(tiles)[top:bottom, left:right])


def test_no_map_is_made_for_a_tile_without_symbols(monkeypatch, weights):
    """A few bytes can claim a map of any size."""

    def no_map(*arguments):
        raise AssertionError("a map was made")

    tiles = made(1, 64, True)
    monkeypatch.setattr("mvmic_codec.bitstream.flat.from_payload", no_map)
    with pytest.raises(AssertionError):
        decoded(tiles)
    header = replace(tiles.header, width=1 << 15, height=1 << 15, tile=1 << 14)
    nothing = Tile(b"\1" + bytes(4), flat=tiles.tiles[0][0].flat)
    with pytest.raises(FormatError):
        decode_samples(header, lambda row, column: nothing, box=(0, 0, 1, 1))


@pytest.mark.parametrize(
    "box", [(0, 0, 150, 10), (0, 0, 10, 102), (-1, 0, 5, 5), (5, 5, 5, 9), (9, 5, 5, 9)]
)
def test_a_window_outside_of_the_image(weights, box):
    with pytest.raises(InputError, match="does not lie in the image of 149x101 pixels"):
        decoded(made(1, 64, True), box=box)


@pytest.mark.parametrize("scale", [0, 3, 32])
def test_other_scales(weights, scale):
    with pytest.raises(InputError, match=f"scale must be 1, 2, 4, 8 or 16, got {scale}"):
        decoded(made(1, 64, True), scale=scale)


def test_features_are_of_whole_images(weights):
    tiles = made(1, 64, True)
    for options in ({"scale": 2}, {"box": (0, 0, 9, 9)}):
        with pytest.raises(InputError, match="those of the whole image at its full size"):
            decoded(tiles, emit_map=lambda *arguments: None, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_know_no_tiles(monkeypatch, weights, channels):
    """They are those of synthesis in one piece, of the latent of all tiles; mirrored, too."""
    tiles = made(channels, 64, True)
    mask = extract.FlatMask(tiles.header)
    found = extract.raw_maps(tiles.header, tiles, MAPS, None, mask)
    assert np.array_equal(mask.flat, flat_map() > 0)
    buffers = extract.MapBuffers(MAPS, SIZE)
    image.decode_samples(tiles.header, tiles, emit_map=buffers.emit_map)
    assert all(np.array_equal(found[name], buffers.maps[name]) for name in MAPS)

    mirrored = mirror.raw_maps(tiles.header, tiles, MAPS, extract.FlatMask(tiles.header))

    def in_one(model, header, tile_of, blocks, team, emit_overlays):
        slabs = list(tile_slabs(model, header, tile_of, blocks, team, emit_overlays))
        assert len(slabs) == 2
        every = slice(0, blocks.width)
        x = np.concatenate([each.coefficients(slice(0, len(each.modes)), every) for each in slabs])
        modes = np.concatenate([each.modes for each in slabs])
        return [Slab(modes, lambda rows, columns: np.ascontiguousarray(x[rows, columns]))]

    for module in ("mvmic_codec.decoder.parts", "mvmic_codec.features.mirror"):
        monkeypatch.setattr(f"{module}.tile_slabs", in_one)
    whole = extract.raw_maps(tiles.header, tiles, MAPS, None)
    assert all(np.array_equal(found[name], whole[name]) for name in MAPS)
    whole = mirror.raw_maps(tiles.header, tiles, MAPS, extract.FlatMask(tiles.header))
    assert all(np.array_equal(mirrored[name], whole[name]) for name in MAPS)


MEMORY = """
import pickle, sys
from mvmic_codec.bitstream.container import Tile
from mvmic_codec.decoder import image
from mvmic_codec.decoder.decode import model_of_file
from mvmic_codec.evaluation.memory import Peak

header, payload = pickle.loads(sys.stdin.buffer.read())
model_of_file(header)
tile = Tile(payload)
with Peak() as peak:
    image.emit_samples(header, lambda row, column: tile, lambda top, left, part: None)
print(peak.mib)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak memory")
def test_memory_of_a_wide_image():
    """20,480 x 1,536 pixels in tiles, by the released model: well below a GiB, whatever the height.

    Half of it is activations of synthesis in three bands, and the latent of a row of tiles.
    """
    one = tiled(picture(512, 512, 1), 0)
    header = replace(one.header, width=20480, height=1536, tile=512)
    given = pickle.dumps((header, one.tiles[0][0].payload))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], input=given, capture_output=True, check=True
    )
    assert 50 < float(done.stdout) < 700
