"""Which flat areas an image is coded with: growth, blends, and what they cost."""

import numpy as np
import one_tile
import pytest

from mvmic_codec import encode, read_header
from mvmic_codec.bitstream import flat
from mvmic_codec.decoder.paint import paint
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.encoder.flat_choice import GROWTH, Areas, FlatCandidates, flat_candidates_of
from mvmic_codec.image.samples import from_array
from mvmic_codec.rate import lambda_of


def areas_of(image, map, *values):
    samples = from_array(image)
    colours = np.array(values, np.float64).reshape(len(values), -1) / 255
    return Areas(samples.planes, samples, map, colours)


def painted_planes(areas, map, blends, rest):
    """Planes with the areas painted over them, by samples of 16 bits."""
    samples = np.rint(65535 * rest.transpose(1, 2, 0)).astype(np.int32)
    paint(samples, flat.Flat(257 * areas.values, map, blends))
    return samples.transpose(2, 0, 1) / 65535


def test_what_is_nearly_flat_is_taken_in_while_errors_are_cheap():
    image = np.array([[0, 9, 40, 90, 200]] * 3, np.uint8)
    map = np.array([[1, 0, 0, 0, 0]] * 3, np.uint8)
    some = areas_of(image, map, 0)
    sizes = [int((some.grown(index, GROWTH) > 0).sum()) for index in (0, 30, 63)]
    assert sizes == [9, 6, 3]
    np.testing.assert_array_equal(some.grown(0, 0), map)


def test_the_nearest_colour_is_taken():
    image = np.array([[0, 240, 255]], np.uint8)
    map = np.array([[1, 0, 2]], np.uint8)
    np.testing.assert_array_equal(areas_of(image, map, 0, 255).grown(0, 1), [[1, 2, 2]])


def test_blends_give_the_image_back():
    """Whatever share is chosen: only what would have to be darker than black is cut."""
    rng = np.random.default_rng(2)
    image = rng.integers(60, 200, (20, 30, 3)).astype(np.uint8)
    map = np.zeros((20, 30), np.uint8)
    map[:, :9], map[5:9, 12:20] = 1, 2
    some = areas_of(image, map, (100, 110, 120), (130, 140, 90))
    blends, rest = some.blended(map)
    assert (blends[flat.beside(map) == 0] == 0).all() and blends.any()
    painted = painted_planes(some, map, blends, rest)
    cut = ((rest <= 0) | (rest >= 1)).any(0)
    keep = (map == 0) & ~cut
    assert keep.sum() > 0.9 * (map == 0).sum()
    np.testing.assert_allclose(painted[:, keep], some.planes[:, keep], atol=1 / 65535)


def test_what_no_value_could_give_is_not_blended():
    """Between two flat areas: to be 16 a pixel of three quarters blue would have to be below 0."""
    image = np.full((16, 24, 3), (200, 40, 40), np.uint8)
    image[:, :8], image[:, 8], image[:, 9:14] = (70, 110, 180), (16, 16, 60), (16, 16, 16)
    map = np.zeros(image.shape[:2], np.uint8)
    map[:, :8], map[:, 9:14] = 1, 2
    some = areas_of(image, map, (70, 110, 180), (16, 16, 16))
    blends, rest = some.blended(map)
    painted = painted_planes(some, map, blends, rest) * 255
    assert np.abs(painted[:, :, 8] - image[:, 8].T).max() < 8


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_an_edge_that_is_a_blend_is_found(quarters):
    """Margin, one column of blends, and a picture that goes on as it does."""
    image = np.full((16, 24), 200.0)
    image[:, :8] = 16
    image[:, 8] = 200 - quarters / 4 * (200 - 16)
    map = np.zeros(image.shape, np.uint8)
    map[:, :8] = 1
    blends, rest = areas_of(image.astype(np.uint8), map, 16).blended(map)
    assert (blends[:, 8] == quarters).all()
    np.testing.assert_allclose(rest[0, :, 8] * 255, 200, atol=1)


def test_errors_of_flat_pixels_bound_the_psnr():
    image = np.array([[0, 200], [200, 200]], np.uint8)
    map = np.array([[1, 0], [0, 0]], np.uint8)
    assert areas_of(image, map, 2).psnr() == pytest.approx(48.13, abs=0.01)
    assert areas_of(image, map, 0).psnr() == float("inf")


@pytest.mark.parametrize(
    ("index", "seems", "lost", "flat_first"),
    [
        (0, 0.92, 0, [True]),
        (0, 0.95, 0, [True, False]),
        (0, 0.99, 0, [False]),
        (18, 1.1, 0.2, [False]),
        (40, 0.97, 0, [True]),
        (40, 1.01, 0.2, [True, False]),
        (40, 1.1, 0.0, [False]),
        (40, 1.1, 0.1, [True, False]),
        (40, 1.1, 0.2, [True]),
        (40, 1.3, 0.9, [False]),
    ],
)
def test_which_candidates_are_coded(monkeypatch, index, seems, lost, flat_first):
    """By estimated costs, and at high rates by what the image without areas loses at any rate."""

    def cost(candidate):
        return 1e6 if candidate.encoder.seen.all() else seems * 1e6

    monkeypatch.setattr(EncodeCandidate, "estimate_rd_cost", cost)
    image = np.full((16, 24), 200, np.uint8)
    image[:, :8] = 16
    map = (image == 16).astype(np.uint8)
    some = areas_of(image, map, 16)
    monkeypatch.setattr(
        EncodeCandidate,
        "excess_error",
        lambda candidate, planes, where: lost * 1e6 / lambda_of(index),
    )
    candidates = FlatCandidates(some.planes, from_array(image), [some]).at(index, "cpu")
    assert [each.flat is not None for each in candidates] == flat_first


def head_in_a_margin():
    """As in a CT scan: a round picture in a margin, of two values but for a soft edge between."""
    row, column = np.mgrid[0:160, 0:200]
    radius = np.hypot(row - 80, column - 100)
    inside = 100 + 60 * np.clip((40 - radius) / 16, 0, 1)
    return np.where(radius < 70, np.rint(inside), 0).astype(np.uint8)


@pytest.mark.parametrize("index", [0, 36, 63])
def test_of_several_areas_those_are_taken_that_pay(index):
    image = head_in_a_margin()
    samples = from_array(image)
    candidates = flat_candidates_of(samples.planes, samples)
    first, *others = candidates.areas
    assert first.values.ravel().tolist() == [0, 100, 160]
    assert [areas.values.ravel().tolist() for areas in others] == [[0], [100]]
    data = encode(image, rate_index=index, device="cpu")
    areas = flat.from_payload(one_tile.read(data).flat, read_header(data))
    np.testing.assert_array_equal(areas.map, image == 0)


@pytest.mark.parametrize(
    ("error", "less", "fewer"),
    [(0.5, 0.8, True), (0.5, 0.95, False), (0.0, 0.8, False)],
    ids=["by far", "by a little", "no error and a small map"],
)
def test_fewer_areas_must_be_better_by_far(monkeypatch, error, less, fewer):
    """The rule of thumb makes hard edges too cheap, and so the image without some areas.

    The learned part costs no more with areas than with fewer of them.
    """
    image = np.full((16, 24), 200, np.uint8)
    image[:, :8], image[:, 16:] = 16, 90
    map = np.array([1] * 8 + [0] * 8 + [2] * 8, np.uint8)[None].repeat(16, 0)
    one = areas_of(image, (map == 1).astype(np.uint8), 16)

    def learned(candidate):
        hidden = int((~candidate.encoder.seen).sum())
        return {0: 1e7, one.map.sum(): less * 1e6}.get(hidden, (1 - error) * 1e6)

    def own_error(areas, map):
        return error * 1e6 / lambda_of(30) if map.max() > 1 else 0.0

    monkeypatch.setattr(EncodeCandidate, "estimate_rd_cost", learned)
    monkeypatch.setattr(Areas, "error", own_error)
    areas = [areas_of(image, map, 16, 90), one]
    (candidate,) = FlatCandidates(one.planes, from_array(image), areas).at(30, "cpu")
    assert (~candidate.encoder.seen).sum() == (one.map if fewer else map > 0).sum()


def test_areas_that_do_not_allow_the_psnr_are_left_out():
    image = head_in_a_margin()
    image[::7, ::5] += 2
    samples = from_array(image)
    candidates = flat_candidates_of(samples.planes, samples, 60)
    assert [areas.values.tolist() for areas in candidates.areas] == [[[0]]]
    assert flat_candidates_of(samples.planes, samples, 61) is None


def test_excess_error():
    """What decoders of the whole file would show wrongly in some place, beyond the rest."""
    planes = from_array(head_in_a_margin()).planes
    candidate = EncodeCandidate(planes, 40, device="cpu")
    shown = 255 * candidate.encode().decoded_planes(0, 255)
    error = np.square(shown - 255 * planes)[0]
    where = error > np.quantile(error, 0.9)
    expected = (error[where].mean() - error[~where].mean()) * where.sum()
    assert candidate.excess_error(planes, where) == pytest.approx(expected, rel=0.2)
    assert candidate.excess_error(planes, ~where) == 0
    everywhere = np.ones_like(where)
    assert candidate.excess_error(planes, everywhere) == pytest.approx(error.sum(), rel=0.2)
