"""Synthesis of parts of an image: what it gives is what it would give for the whole at once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_model import SMALL

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.decoder import reconstruct
from mvmic_codec.decoder.reconstruct import Levels
from mvmic_codec.decoder.stripes import Rows, StripedSynthesis, reach_of
from mvmic_codec.model import decoding
from mvmic_codec.model.arrays import read_arrays, synthesis_arrays
from mvmic_codec.model.identity import default_identity
from mvmic_codec.model.integer_synthesis import IntegerSynthesis, samples_of
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.model.synthnet import usable_paths
from mvmic_codec.model.team import Team

# Padded to 24 x 16 blocks, and neither side a multiple of theirs.
ROWS, COLUMNS = 24, 16
SIZE = (ROWS * BLOCK - 37, COLUMNS * BLOCK - 21)
RATE = 40
# So fine that a difference shows.
LEVELS = Levels(0, 65535, np.dtype(np.uint16))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
PATHS = usable_paths()


@pytest.fixture
def arrays(weights_path, channels):
    return synthesis_arrays(read_arrays(default_identity(channels == 1), weights_path))


@pytest.fixture
def net(arrays, channels):
    return net_of(arrays, channels, PATHS[-1])


def net_of(arrays, channels, path):
    return NativeSynthesis(arrays, SMALL[channels].near_luma, SMALL[channels].near_chroma, path)


def latent_of(channels, rows=ROWS, columns=COLUMNS, seed=0, kind="lively"):
    """A latent int16 [h,w,C] and modes [h,w]."""
    rng = np.random.default_rng(seed)
    shape = rows, columns, SMALL[channels].latent
    y = rng.normal(size=shape) * 480 if kind == "lively" else rng.choice([-32768, 32767], shape)
    return y.astype(np.int16), rng.integers(0, 8, shape[:2]).astype(np.uint8)


@pytest.fixture
def coded(channels):
    return latent_of(channels)


def samples(net, coded, size=SIZE):
    return reconstruct.reconstruct(net, *coded, RATE, size, LEVELS)


@pytest.fixture
def whole(net, coded):
    """What one part alone gives: the image is a small one."""
    whole = samples(net, coded)
    assert np.mean((whole > 0) & (whole < LEVELS.hi)) > 0.3
    return whole


def in_parts(monkeypatch, net, coded, stripe, band, threads=1):
    """Samples by parts, and the places and sizes of these."""
    monkeypatch.setattr(reconstruct, "STRIPE_BLOCKS", stripe)
    monkeypatch.setattr(reconstruct, "BAND_BLOCKS", band)
    joined = np.zeros((*SIZE, net.planes), LEVELS.type)
    given = np.zeros(SIZE, int)
    parts = []

    def take(top, left, part):
        height, width, _ = part.shape
        parts.append((top, left, height, width))
        given[top : top + height, left : left + width] += 1
        reconstruct.put(joined, top, left, part)

    with Team(threads) as team:
        reconstruct.reconstruct_parts(net, *coded, RATE, SIZE, LEVELS, take, team=team)
    assert (given == 1).all()
    return joined, parts


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("stripe", "band"),
    [
        (32, 16),  # the least: two rows of blocks
        (64, 16),
        (96, 16),
        (160, 16),  # 10, 10 and 4
        (352, 16),  # 22 and 2
        (144, 8),  # two bands, of 12 columns with those where they overlap
        (32, 4),
        (32, 6),  # the last band has four columns
    ],
)
def test_parts_do_not_show(monkeypatch, net, coded, whole, stripe, band):
    joined, parts = in_parts(monkeypatch, net, coded, stripe, band)
    assert np.array_equal(joined, whole)
    lefts = [left for _, left, _, _ in parts]
    assert set(lefts) == set(range(0, SIZE[1], BLOCK * band))
    assert all(lefts.count(left) > 1 for left in lefts)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("stripe", "band"), [(2048, 512), (96, 16), (32, 4)])
def test_threads_do_not_show(monkeypatch, net, coded, whole, stripe, band, threads):
    joined, _ = in_parts(monkeypatch, net, coded, stripe, band, threads)
    assert np.array_equal(joined, whole)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["lively", "wild"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_path_gives_what_torch_gives(arrays, channels, kind, device):
    """Also for the largest numbers that a latent can hold."""
    latent, modes = latent_of(channels, 8, 12, kind=kind)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    net = IntegerSynthesis(tensors, torch.device(device))
    is_luma = torch.from_numpy(SMALL[channels].is_luma())
    order = torch.cat([torch.nonzero(each)[:, 0] for each in (is_luma, ~is_luma)])
    at = torch.from_numpy(modes).long()[None].to(device)
    x = net.coefficients(torch.from_numpy(latent)[None][..., order].to(device), at)
    linear, stream = net.linear_planes(x), net.enter16(x, at, RATE)
    for block in net.body16:
        stream = block(stream)
    stream = net.enter8(stream, linear, RATE)
    for block in net.body8:
        stream = block(stream)
    planes = net.retouch(net.leave8(stream, linear), RATE)
    expected = samples_of(planes, LEVELS.lo, LEVELS.hi).permute(1, 2, 0).cpu().numpy()
    assert len(np.unique(expected)) > 1000
    for path in PATHS:
        found = samples(net_of(arrays, channels, path), (latent, modes), expected.shape[:2])
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", ["stream16", "stream8", "quads", "stream2", "planes"])
def test_a_stripe_needs_rows_of_the_one_before(monkeypatch, net, coded, whole, rows):
    """Else the tests above would hold without them."""

    class Forgetful(StripedSynthesis):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            kept = getattr(self, rows)

            def extend(end, kept_from):
                Rows.extend(kept, end, kept_from)
                kept.array[...] = 0

            kept.extend = extend

    monkeypatch.setattr(reconstruct, "StripedSynthesis", Forgetful)
    joined, _ = in_parts(monkeypatch, net, coded, 96, 16)
    assert not np.array_equal(joined, whole)


@pytest.mark.parametrize("channels", [1, 3])
def test_bands_overlap_by_all_that_is_needed_and_no_more(net, released, channels):
    """What a corner of a block depends on ends where bands do, by the networks' float form."""
    torch.manual_seed(channels)
    reach = reach_of(net)
    modes = torch.from_numpy(latent_of(channels)[1]).long()[None]
    coefficients = 100 * torch.randn(1, 256 * channels, ROWS, COLUMNS)
    coefficients.requires_grad_()
    row, column = 10, 8
    planes = released.synthesis(coefficients, modes, torch.tensor([RATE]))
    planes[0, :, BLOCK * row, BLOCK * column].sum().backward()
    heard = coefficients.grad[0].abs().amax(0) > 0
    assert heard[row - reach].any() and not heard[: row - reach].any()
    assert heard[:, column - reach].any() and not heard[:, : column - reach].any()


@pytest.mark.parametrize("bodies", [(3, 2), (3, 3), (1, 0)])
def test_bands_have_an_even_number_of_columns(bodies):
    """Also of the first bodies, which a released model has; 3x3 layers take no other number."""
    net = SimpleNamespace(body16=[None] * bodies[0], body8=[None] * bodies[1])
    needed = 2 * bodies[0] + bodies[1] + 1
    assert reach_of(net) % 2 == 0 and reach_of(net) - needed in (0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_does_not_grow_with_the_rows(net, channels):
    def buffers(rows):
        with Team(1) as team:
            synthesis = StripedSynthesis(net, RATE, 4, team, lambda planes: None)
            for top in range(0, rows, 4):
                x = np.zeros((4, 4, 256 * net.planes), np.int16)
                synthesis(x, np.zeros((4, 4), np.uint8), last=top + 4 == rows)
        maps = [synthesis.stream16, synthesis.stream8, synthesis.quads, synthesis.stream2]
        for body in (synthesis.body16, synthesis.body8, synthesis.retouch):
            maps += body.middles
        return [each.array.shape for each in (*maps, synthesis.planes)]

    assert buffers(80) == buffers(40)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("unit", [1, 2])
def test_a_team_computes_every_row_once(threads, unit):
    with Team(threads) as team:
        for count in (0, 2, 4, 6, 18):
            ranges = []
            team.run(lambda first, n, ranges=ranges: ranges.append((first, n)), count, unit, 5)
            assert len(ranges) == min(threads, count // unit)
            assert all(n > 0 and n % unit == 0 for _, n in ranges)
            rows = [row for first, n in sorted(ranges) for row in range(first, first + n)]
            assert rows == list(range(5, 5 + count))


def test_an_error_in_a_thread_is_raised():
    def layer(first, count):
        if first:
            raise ZeroDivisionError

    with Team(3) as team, pytest.raises(ZeroDivisionError):
        team.run(layer, 6, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_model_that_decodes_has_the_fastest_path(weights, channels):
    fingerprint = bytes.fromhex(default_identity(channels == 1).fingerprint)
    assert decoding.load(fingerprint).synthesis.path == PATHS[-1]
