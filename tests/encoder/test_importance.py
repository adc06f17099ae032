"""An importance map: where an error counts more, there is less of it; a map of ones is none."""

import numpy as np
import pytest
import torch
from codec import candidate_of
from small_model import picture

from mvmic_codec.encoder import encode, refine
from mvmic_codec.encoder.candidate import EncodeCandidate
from mvmic_codec.encoder.decoded import planes_of_latent
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.encoder.image_encoder import ImageEncoder, checked_importance
from mvmic_codec.encoder.refine import Refiner, only
from mvmic_codec.errors import InputError
from mvmic_codec.image.samples import from_input
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.transforms import dequantised

SIZE = (130, 200)
GRID = (9, 13)


def planes_of(channels):
    return picture(*SIZE, channels, seed=6, edge=0.4)


def halves(right):
    """1/8 in one half, 8 in the other."""
    left = np.arange(GRID[1]) < 6
    return np.tile(np.where(left == right, 1 / 8, 8), (GRID[0], 1)).astype(np.float32)


def coded(channels, importance=None, effort=1):
    candidate = candidate_of(planes_of(channels), 31, device="cpu")
    if importance is not None:
        candidate.weigh(importance)
    return candidate.encode(effort=effort)


@pytest.mark.parametrize("effort", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_ones_change_nothing(weights, channels, effort):
    expected = coded(channels, effort=effort).payload
    assert coded(channels, np.ones(GRID, np.float32), effort).payload == expected


@pytest.mark.parametrize("effort", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_errors_move_to_where_they_count_less(weights, channels, effort):
    def errors(right):
        decoded = coded(channels, halves(right), effort).decoded_planes(0, 255)
        square = np.square(decoded - planes_of(channels))
        # The border between the halves belongs to both.
        return square[:, :, :88].sum(), square[:, :, 104:].sum()

    (left_less, right_more), (left_more, right_less) = errors(False), errors(True)
    assert left_less < 0.9 * left_more and right_less < 0.9 * right_more


@pytest.mark.parametrize("channels", [1, 3])
def test_everywhere_twice_is_lambda_twice(released, channels, monkeypatch):
    """Estimated costs, costs of the second run and symbols, to the last bit."""
    planes = planes_of(channels)
    with full_precision(released.device):
        weighed = Encoder(released, planes, 31)
        weighed.weigh(np.full(GRID, 2, np.float32))
        once = encode.lambda_of
        monkeypatch.setattr(encode, "lambda_of", lambda rate: 2 * once(rate))
        twice = Encoder(released, planes, 31)
        inside = weighed.inside
        assert torch.equal(
            weighed.estimated_costs[:, :, inside], twice.estimated_costs[:, :, inside]
        )
        runs = [each.encode_two_pass() for each in (weighed, twice)]
    assert torch.equal(runs[0].latent, runs[1].latent)
    assert torch.equal(runs[0].modes, runs[1].modes)


@pytest.mark.parametrize("channels", [1, 3])
def test_costs_follow_the_map_block_by_block(released, channels):
    planes = planes_of(channels)
    random = np.random.default_rng(3).integers(0, 2, GRID).astype(bool)
    with full_precision(released.device):
        plain, mixed, twice = (Encoder(released, planes, 31) for _ in range(3))
        mixed.weigh(np.where(random, 2, 1).astype(np.float32))
        twice.weigh(np.full(GRID, 2, np.float32))
        run = plain.run(plain.estimated_costs)
        # Rows in other numbers are multiplied in another order.
        for costs in (lambda each: each.estimated_costs, lambda each: each.costs_after(run)):
            one, both, two = (
                costs(each)[0, :, : GRID[0], : GRID[1]] for each in (plain, mixed, twice)
            )
            expected = torch.where(torch.from_numpy(random), two, one)
            torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-2)
            assert not torch.allclose(one, two, rtol=1e-2)


@pytest.mark.parametrize("site", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_symbols_follow_the_map_block_by_block(released, site):
    """The symbols of a cell have four sites."""

    def errors(importance):
        encoder = Encoder(released, planes_of(3), 31)
        encoder.weigh(importance)
        run = encoder.run(only(modes))
        decoded = dequantised(run.latent)
        error = (released.blocks(run.target, run.modes) - decoded).square().sum((0, 1))
        return np.array([[float(error[i:8:2, j:12:2].sum()) for j in (0, 1)] for i in (0, 1)])

    importance = np.ones(GRID, np.float32)
    with full_precision(released.device):
        plain = Encoder(released, planes_of(3), 31)
        modes = plain.run(plain.estimated_costs).modes
        before = errors(importance)
        importance[site[0] :: 2, site[1] :: 2] = 100
        gain = 1 - errors(importance) / before
    assert gain[site] > 0.1
    gain[site] = 0
    assert gain.max() < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_refinement_weighs_the_error_that_it_lowers(released, channels):
    # Far from 1 steps and lambda no longer fit, and refinement finds nothing better.
    importance = halves(True) ** np.float32(0.2)
    with full_precision(released.device):
        encoder = Encoder(released, planes_of(channels), 31)
        encoder.weigh(importance)
        refiner, run = Refiner(encoder), encoder.encode_two_pass()
        candidate = candidate_of(planes_of(channels), 31, device="cpu")
        candidate.weigh(importance)
        # Samples so fine that their rounding counts nothing.
        decoded = candidate.encode().decoded_planes(0, 65535)
        square = np.square(255 * (decoded - planes_of(channels)))
        by_pixel = importance.repeat(16, 0).repeat(16, 1)[: SIZE[0], : SIZE[1]]
        expected = (square * by_pixel).sum() * 3 / channels
        shown = planes_of_latent(released.decoding.synthesis, run.latent, run.modes, 31)
        assert float(refiner.error(shown)) == pytest.approx(expected, rel=1e-5)
        better = refine.refine(refiner, run, 2)
    assert refiner.cost(better) < refiner.cost(run)


def flat_picture():
    """A disc of waves in a margin of one value."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = 120 + 60 * np.sin(rows / 5) * np.cos(columns / 7)
    disc = np.hypot(rows - 65, columns - 100) < 55
    return np.where(disc, waves, 0).astype(np.uint8)


def test_flat_areas_are_chosen_as_without(weights):
    samples = from_input(flat_picture())
    plain = ImageEncoder([samples], {}, device="cpu").file_at(31)
    mapped = ImageEncoder([samples], {}, importance=halves(True), device="cpu").file_at(31)
    assert plain.coded.flat is not None and mapped.coded.flat is not None
    np.testing.assert_array_equal(mapped.coded.flat.map, plain.coded.flat.map)
    assert mapped.data != plain.data
    assert (mapped.decoded_planes()[0, :10, :10] == 0).all()


@pytest.mark.parametrize(
    ("importance", "words"),
    [
        (np.ones((13, 9)), "an image of 200x130 has 9 rows and 13 columns, .* an array of 13x9"),
        (np.ones(()), "an array of one number"),
        (np.ones((1, 9, 13)), "an array of 1x9x13"),
        (np.full(GRID, np.nan), "lie between 0.01 and 100, and 1 changes nothing"),
        (np.zeros(GRID), "lie between 0.01 and 100"),
        (np.full(GRID, 101), "lie between 0.01 and 100"),
        (np.full(GRID, "1"), "holds numbers, got <U1"),
        (np.full(GRID, 1j), "holds numbers, got complex128"),
        (np.ones(GRID, bool), "holds numbers, got bool"),
    ],
)
def test_other_maps_are_refused(importance, words):
    with pytest.raises(InputError, match=words):
        checked_importance(importance, SIZE)


def test_numbers_of_any_type_are_taken():
    for kind in (np.float64, np.uint8, np.float16):
        taken = checked_importance(np.ones(GRID, kind), SIZE)
        assert taken.dtype == np.float32 and (taken == 1).all()


@pytest.mark.parametrize("estimated", [False, True])
def test_a_candidate_like_another_is_weighed_as_one_alone(weights, estimated):
    """What is known of the other was not weighed, nor what its comparison gave."""
    planes = planes_of(3)
    other = planes.copy()
    other[:, :40, :40] = 0.5
    first = EncodeCandidate(other, 31, device="cpu")
    alike = EncodeCandidate(planes, 31, like=first, device="cpu")
    if estimated:
        alike.estimate_rd_cost()
    alike.weigh(halves(True))
    assert alike.encode().payload == coded(3, halves(True)).payload
