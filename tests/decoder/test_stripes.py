"""Synthesis of parts of an image: what it gives is what it would give for the whole at once."""

import weakref

import numpy as np
import pytest
import torch
from small_model import SMALL

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.decoder import decode
from mvmic_codec.decoder.stripes import Striped, StripedSynthesis
from mvmic_codec.model.synthesis import Synthesis

# Padded to 24 x 16 blocks, and neither side a multiple of theirs.
SIZE = (24 * BLOCK - 37, 16 * BLOCK - 21)
RATE = 40


@pytest.fixture
def coded(channels):
    """A latent [1,C,24,16] and its modes [1,24,16]."""
    torch.manual_seed(channels)
    latent = 60 * torch.randn(1, SMALL[channels].latent, 24, 16)
    return latent, torch.randint(0, 8, (1, 24, 16))


@pytest.fixture
def whole(released, coded):
    """What one part alone gives: the image is a small one."""
    return decode.reconstruct(released, *coded, RATE, SIZE, exact=True)


def in_parts(monkeypatch, released, coded, stripe, band, exact=True):
    """Planes by parts, and the places and sizes of these."""
    monkeypatch.setattr(decode, "STRIPE_BLOCKS", stripe)
    monkeypatch.setattr(decode, "BAND_BLOCKS", band)
    planes = np.full((released.shape.planes, *SIZE), np.nan, np.float32)
    parts = []

    def take(top, left, part):
        parts.append((top, left, *part.shape[1:]))
        decode.put(planes, top, left, part)

    decode.reconstruct_parts(released, *coded, RATE, SIZE, take, exact=exact)
    return planes, parts


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("stripe", "band", "count"),
    [
        (383, 16, 2),  # 23 rows of blocks and one
        (208, 16, 2),  # 13 and 11
        (112, 16, 3),  # three times 8: the small model sees 4 rows to either side
        (112, 8, 6),
        (112, 4, 10),  # two parts in the outer bands, three in the inner ones
    ],
)
def test_parts_do_not_show(monkeypatch, released, coded, whole, stripe, band, count):
    planes, parts = in_parts(monkeypatch, released, coded, stripe, band)
    assert len(parts) == count
    assert sum(height * width for *_, height, width in parts) == SIZE[0] * SIZE[1]
    assert ((whole > 0) & (whole < 1)).mean() > 0.3
    assert np.abs(planes - whole).max() < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_parts_in_bfloat16(monkeypatch, released, coded, channels):
    released.bfloat16 = True
    monkeypatch.setattr(decode, "STRIPE_BLOCKS", 10**6)
    whole = decode.reconstruct(released, *coded, RATE, SIZE, exact=False)
    planes, _ = in_parts(monkeypatch, released, coded, 112, 8, exact=False)
    assert np.abs(planes - whole).max() < 0.5 / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layer", ["linear_planes", "body16", "body8", "post_filter"])
def test_a_stripe_needs_all_of_its_surroundings(monkeypatch, released, coded, whole, layer):
    class Short(StripedSynthesis):
        """One of the layers does not see the last row that it should."""

        def __init__(self, net: Synthesis, rate, **options):
            super().__init__(net, rate, **options)
            of_layer = getattr(self, layer)
            for striped in of_layer if isinstance(of_layer, list) else [of_layer]:
                forgetful(striped)

    def forgetful(striped: Striped):
        def see(rows):
            return inner(torch.cat((torch.zeros_like(rows[:, :, :1]), rows[:, :, 1:]), 2))

        inner = striped.layer
        striped.layer = lambda rows: see(rows) if striped.kept is not None else inner(rows)

    monkeypatch.setattr(decode, "StripedSynthesis", Short)
    planes, _ = in_parts(monkeypatch, released, coded, 112, 16)
    assert np.abs(planes - whole).max() > 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_bands_overlap_by_all_that_is_needed_and_no_more(released, coded):
    """What a corner of a block depends on ends where bands do."""
    _, modes = coded
    synthesis = released.synthesis
    rates = torch.tensor([RATE])
    reach = StripedSynthesis(synthesis, rates).reach
    coefficients = released.blocks.inverse(*coded).requires_grad_()
    row, column = 10, 8
    planes = synthesis(coefficients, modes, rates)
    planes[0, :, BLOCK * row, BLOCK * column].sum().backward()
    heard = coefficients.grad[0].abs().amax(0) > 0
    assert heard[row - reach].any() and not heard[: row - reach].any()
    assert heard[:, column - reach].any() and not heard[:, : column - reach].any()


@pytest.mark.parametrize("sizes", [(3, 3, 1, 5), (12,), (4, 8), (3, 9), (11, 1)])
def test_a_layer_in_stripes(sizes):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 4, 7, padding=3, dtype=torch.float64)
    rows = torch.randn(1, 2, 12, 5, dtype=torch.float64)
    striped = Striped(layer, 3)
    parts = [striped(part, last=n == len(sizes) - 1) for n, part in enumerate(rows.split(sizes, 2))]
    assert torch.allclose(torch.cat(parts, 2), layer(rows))
    assert [part.shape[2] for part in parts[:-1]] == [sizes[0] - 3, *sizes[1:-1]][: len(parts) - 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_coefficients_are_freed_before_the_next_stripe(monkeypatch, released, coded, channels):
    inverse = released.blocks.inverse
    made, kept = [], []

    def watched(latent, modes):
        kept.append([each() is not None for each in made])
        coefficients = inverse(latent, modes)
        made.append(weakref.ref(coefficients))
        return coefficients

    monkeypatch.setattr(released.blocks, "inverse", watched)
    in_parts(monkeypatch, released, coded, 112, 16)
    assert len(kept) == 3 and not any(map(any, kept))
