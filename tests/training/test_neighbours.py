"""What neighbours say, fitted: to made-up places where the answer is known, and to pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from slow import first_is_quick
from small_model import crops, lively_neighbours, picture, small_model

from mvmic_codec.bitstream import ans
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.model import export
from mvmic_codec.model.arrays import ENTROPY
from mvmic_codec.model.definition import CLASSES, FRACTION, TABLES, WEIGHT_BITS
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.entropy import table_scale
from mvmic_codec.model.integerise import neutral_neighbours
from mvmic_codec.model.layers import pixel_unshuffle
from mvmic_codec.model.schedule import SCHEDULE
from mvmic_codec.rate import RATES
from mvmic_codec.training import fit, neighbours
from mvmic_codec.training.neighbours import SHIFTS, Places, Sample

CHANNELS = 3


@pytest.fixture(params=[1, 3])
def weights(request, tmp_path):
    """The small model for images of so many planes."""
    export.export(small_model(request.param), tmp_path, "small", "for tests", crops(request.param))
    return tmp_path / "small.safetensors"


def places(weight, table, price=0.0, count=4000, seed=0):
    """Of CHANNELS: what the four around say with `weight`, and what `table` does not foresee.

    That is as large as the table says in class 9, and twice as large in class 2.
    """
    rng = np.random.default_rng(seed)
    shape = (CHANNELS, count)
    around = rng.laplace(size=shape) * 12
    of_class = rng.choice([2, 9], shape)
    scale = table_scale(torch.tensor(float(table))).item() * np.where(of_class == 9, 1, 2)
    arrays = weight * around + rng.logistic(size=shape) * scale, around, of_class
    position, around, of_class = (torch.from_numpy(each) for each in arrays)
    full = torch.full(shape, 1.0, dtype=torch.float64)
    return Places(position, around, of_class, table * full, price * full)


@pytest.mark.parametrize("price", first_is_quick([3.0, 0.0]))
@pytest.mark.parametrize("weight", first_is_quick([0.75, 0.0, -0.25]))
def test_weights_and_shifts_are_found(weights, weight, price):
    released = fit.at_present(weights)
    given = [places(weight, 30, price, seed=seed) for seed in range(2)]
    found, shift = neighbours.fit_places(released.rough_bits, given, [1.0, 1.0], least=1)
    assert found.shape == (2, CHANNELS) and shift.shape == (CHANNELS, CLASSES)
    assert (found - weight).abs().max() < 0.1
    # Twice the scale is seven tables up.
    assert (shift[:, 2] - 6.5).abs().max() <= 2
    assert shift[:, 9].abs().max() <= 2


@pytest.mark.slow
def test_few_places_say_nothing(weights):
    released = fit.at_present(weights)
    given = [places(0.75, 30, count=1)]
    # As it is without neighbours, but for a little.
    given = [replace(given[0], position=given[0].around / 100)]
    found, shift = neighbours.fit_places(released.rough_bits, given, [1.0], least=1)
    assert not found.any() and not shift.any()


def test_classes_that_are_not_seen_follow_their_neighbours():
    cost = torch.zeros(1, CLASSES, len(SHIFTS), dtype=torch.float64)
    cost[0, 4] = 100 * (SHIFTS - 5).abs()
    assert neighbours.smooth_shifts(cost)[0, 4:].tolist() == [5] * 12
    cost[0, 8] = 0.5 * (SHIFTS + 3).abs()
    assert neighbours.smooth_shifts(cost)[0, 8:].tolist() == [5] * 8
    cost[0, 8] = 100 * (SHIFTS + 3).abs()
    shift = neighbours.smooth_shifts(cost)[0].tolist()
    assert shift[4] == 5 and shift[8:] == [-3] * 8
    assert all(-3 <= each <= 5 for each in shift[5:8])


def test_all_rates():
    """Linear between those that were fitted, and level beyond; within 16 bits."""
    rows = neighbours.at_all_rates([10, 20], torch.tensor([[0.0, 1e6], [100.0, 1e6]]))
    assert rows.shape == (RATES, 2) and rows.dtype == torch.int16
    assert rows[[0, 10, 13, 20, 63], 0].tolist() == [0, 0, 30, 100, 100]
    assert (rows[:, 1] == 2**15 - 1).all()


def test_samples_are_of_what_is_coded(weights):
    """With weights and shifts, means and tables are what the fit makes of its places."""
    released = fit.at_present(weights)
    shape, rate = released.shape, 31
    planes = picture(256, 320, shape.planes)
    sample = neighbours.take_sample(released, planes, rate)
    arrays = neutral_neighbours(shape.hyper, shape.near)
    arrays["hyper_near"] += 2**WEIGHT_BITS // 2
    arrays["near_mean"] += 2**WEIGHT_BITS * FRACTION // 8
    for name in ("hyper_shift", "near_shift"):
        arrays[name] += torch.arange(CLASSES).to(torch.int8) - 3
    export.replace_arrays(weights, arrays)
    fitted = fit.at_present(weights)

    encoder = Encoder(fitted, planes, rate)
    asked = []

    def give(index, mean):
        asked.append((index, mean))
        return torch.round(encoder.hyper_positions - mean / FRACTION) * (index > 0)

    with full_precision(fitted.device):
        fitted.entropy.code_hyper(rate, *encoder.hyper_positions.shape[2:], give)
    (_, _), (index, mean) = asked
    black = (index > 0)[0, 0]
    assert black.sum() == sample.hyper.around.shape[1] > 8
    told = sample.hyper.table + sample.hyper.of_class - 3
    assert torch.equal(index[0, :, black].double(), told.clamp(1, TABLES - 1))
    assert (mean[0, :, black] / FRACTION - sample.hyper.around / 2).abs().max() <= 1 / 32
    assert sample.hyper.around.abs().max() > 1

    with full_precision(released.device):
        encoder = Encoder(released, planes, rate)
        before = encoder.encode_two_pass()
    # The same modes, features and white symbols: z is what it was without neighbours.
    again = Encoder(fitted, planes, rate)
    again.hyper = encoder.hyper
    with full_precision(fitted.device):
        costs = torch.full_like(again.estimated_costs, torch.inf)
        costs.scatter_(1, before.modes[:, None], 0.0)
        after = again.run(costs, before.target)

    def cells(of_y):
        return pixel_unshuffle(of_y[None].double(), 2)[0, fitted.entropy.places(SCHEDULE[0])][
            :, black_cells
        ]

    height, width = before.modes.shape[1:]
    rows, columns = torch.arange(height // 2)[:, None], torch.arange(width // 2)
    black_cells = (rows + columns) % 2 == 1
    y = released.blocks(before.target, before.modes)[0] / encoder.step[:, None, None]
    assert torch.equal(cells(y - before.mean / FRACTION), sample.near.position)
    assert not torch.equal(before.target, encoder.coefficients)
    more = cells(after.mean - before.mean) / FRACTION
    assert (more - sample.near.around / 2).abs().max() <= 1 / 32
    assert torch.equal(
        torch.floor(sample.near.table + 0.5).clamp(0, TABLES - 1),
        index_of_black(before, black_cells),
    )
    shifts = cells(after.score - before.score) / FRACTION
    assert torch.equal(shifts, sample.near.of_class - 3.0)
    assert len(torch.unique(sample.near.of_class)) > 4


def index_of_black(run, black):
    """Table indices [n,k] of the black cells of the first part."""
    indices = run.passes[9].indices
    return torch.from_numpy(indices.reshape(-1, *black.shape)).double()[:, black]


def bits_of(released, planes, rate):
    """Of z and the first part."""
    with full_precision(released.device):
        passes = Encoder(released, planes, rate).encode_two_pass().passes
    bits = [ans.estimate_bits(*each.coded(), released.tables) for each in passes]
    return sum(bits[:2]) + sum(bits[8:10])


@pytest.mark.slow
def test_fitted_neighbours_take_fewer_bits(weights):
    """Of pictures that the fit has not seen, z and the first part."""
    released = fit.at_present(weights)
    planes = released.shape.planes
    samples = [
        neighbours.take_sample(released, crop.numpy(), rate)
        for crop in crops(planes, count=8, size=256)
        for rate in fit.FIT_RATES
    ]
    assert all(isinstance(each, Sample) and each.bits > 0 for each in samples)
    arrays = neighbours.fit_neighbours(released, samples)
    neutral = neutral_neighbours(released.shape.hyper, released.shape.near)
    assert {name: (each.dtype, each.shape) for name, each in arrays.items()} == {
        name: (each.dtype, each.shape) for name, each in neutral.items()
    }
    assert (arrays["hyper_near"] > 2**WEIGHT_BITS // 4).any()
    export.replace_arrays(weights, arrays)
    fitted = fit.at_present(weights)
    unseen = [(picture(256, 256, planes, seed=50 + k), 10 + 20 * k) for k in range(3)]
    before, after = (sum(bits_of(each, *case) for case in unseen) for each in (released, fitted))
    assert after < 0.9 * before


@pytest.mark.slow
def test_whatever_was_fitted_before_is_forgotten(weights):
    shape = fit.at_present(weights).shape
    given = crops(shape.planes, count=1)
    tables = {name: load_file(weights)[ENTROPY + name] for name in ("table_half", "table_cdf")}
    expected = fit.fit_release(weights, given)
    arrays = load_file(weights)
    assert any(arrays[ENTROPY + name].any() for name in lively_neighbours(shape))
    export.replace_arrays(weights, tables | lively_neighbours(shape))
    assert fit.fit_release(weights, given) == expected
