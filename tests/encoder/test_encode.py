"""The encoder's choices: none is visible to a decoder, all of them cost or save bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from slow import first_is_quick
from small_model import SMALL, crops, picture, small_model

from mvmic_codec.bitstream import ans
from mvmic_codec.encoder.encode import NEIGHBOUR_BITS, TARGET_FROM, Encoder
from mvmic_codec.model import export, identity, loaded
from mvmic_codec.model.arrays import entropy_arrays
from mvmic_codec.model.definition import FRACTION, MODES, SPACING, TABLES
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.integer import IntegerEntropy
from mvmic_codec.model.integerise import scale_ladder
from mvmic_codec.model.intnet import usable_paths
from mvmic_codec.model.layers import pixel_shuffle
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.native_tensors import NativeTensors
from mvmic_codec.model.schedule import GROUPS
from mvmic_codec.model.tables import logistic_tail, magnitude_bits


def encoder_of(released, channels, rate, size=(130, 200)):
    return Encoder(released, picture(*size, channels, seed=5, edge=0.4), rate)


def of_y(released, run, which):
    """Symbols (which: 0) or table indices (1) of y [C,h,w]."""
    height, width = run.modes.shape[1:]
    cells = [
        torch.from_numpy(each[which].astype(np.float64)).reshape(1, -1, height // 2, width // 2)
        for each in run.passes[-GROUPS - 1 :]
    ]
    # The first part has two passes: what is 0 in one is in the other.
    cells[:2] = [cells[0] + cells[1]]
    return pixel_shuffle(torch.cat(cells, 1)[:, released.entropy.order], 2)[0]


def positions_of(encoder, released, run):
    """Of y [C,h,w], less their means, in steps."""
    y = released.blocks(encoder.coefficients, run.modes)[0] / encoder.step[:, None, None]
    return y - run.mean / FRACTION


def as_whole_steps(encoder, released, run):
    """Of luma but for its first channel, with the tables and means of a run: bits, and error.

    Of whole steps, as if nothing were dependent, and at its price in bits. Of blocks in the image.
    """
    some = torch.from_numpy(np.nonzero(released.shape.is_luma())[0][1:])
    index = of_y(released, run, 1)[some].long()
    size = positions_of(encoder, released, run)[some].abs()
    lambda_symbol = encoder.lambda_symbol[some, None, None].expand_as(size)
    level = encoder.level(size, index, lambda_symbol) * (index > 0)
    bits = released.symbol_bits(index, level.long()).double()
    error = (size - level).square() * lambda_symbol / 2 * encoder.inside
    return float(bits.sum()), float(error.sum())


def bits_and_error(encoder, released, run):
    """Of all channels and modes: bits that are coded, and error at its price in bits."""
    bits = sum(ans.estimate_bits(*each.coded(), released.tables) for each in run.passes[2:])
    error = positions_of(encoder, released, run) - run.coded / FRACTION
    return bits, float((error.square() * encoder.lambda_symbol[:, None, None] / 2).sum())


@pytest.mark.parametrize("rate", [0, 31, 63])
@pytest.mark.parametrize("channels", [1, 3])
def test_costs_of_the_modes_that_were_coded(released, channels, rate):
    """For a run's own modes the costs are exactly those by its own tables and means."""
    with full_precision(released.device):
        encoder = encoder_of(released, channels, rate)
        run = encoder.run(encoder.estimated_costs)
        costs = encoder.costs_after(run)
        expected = sum(as_whole_steps(encoder, released, run))
        expected += NEIGHBOUR_BITS * int((run.modes > 0).sum())
    assert costs.shape == (1, MODES, *run.modes.shape[1:])
    assert rate == 0 or len(torch.unique(run.modes)) > 3
    taken = costs.gather(1, run.modes[:, None])
    assert float(taken.double().sum()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("way", ["doubles", *usable_paths()])
def test_scores_make_the_tables(released, weights_path, way):
    """With what the mode adds, rounded and clamped."""
    arrays = entropy_arrays(load_file(weights_path))
    entropy = (
        IntegerEntropy(arrays, SMALL[3].rotate, released.device)
        if way == "doubles"
        else NativeTensors(NativeEntropy(arrays, SMALL[3].rotate, way))
    )
    with full_precision(released.device):
        encoder = encoder_of(replace(released, entropy=entropy), 3, 31)
        run = encoder.run(encoder.estimated_costs)
    added = torch.nn.functional.embedding(run.modes[0], entropy.base_mode.double()).permute(2, 0, 1)
    table = torch.floor((run.score + added) / FRACTION + 0.5).clamp(0, TABLES - 1)
    index = of_y(released, run, 1)
    assert torch.equal(table * encoder.inside, index)
    # The case that matters: below the first table there is more to know than that.
    assert (run.score[encoder.inside.expand_as(index) & (index == 0)] < -FRACTION).any()


@pytest.fixture
def blind(tmp_path, monkeypatch, channels):
    """A model whose contexts say nothing: what one block chooses changes no other."""
    model = small_model(channels)
    entropy, width = model.entropy, SMALL[channels].context
    for layer in [*entropy.merge, *entropy.mode_merge]:
        layer.weight[:, width:] = 0
    for predictor in entropy.predict:
        predictor.weight.zero_()
    # In some modes many tables are below the first, where nothing is coded.
    entropy.base_mode.copy_(4 * entropy.base_mode)
    entropy.base.knots.clamp_(5, 40)
    for layer in entropy.scales:
        layer.bias.zero_()
    card = export.export(model, tmp_path, identity.GRAY_MODEL, "for tests", crops(channels))
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    return loaded.load(bytes.fromhex(card.fingerprint), "cpu")


@pytest.mark.parametrize("start", first_is_quick([0, 5]))
@pytest.mark.parametrize("channels", [1, 3])
def test_costs_of_the_modes_that_were_not_coded(blind, monkeypatch, channels, start):
    """All blocks in another mode cost what they were said to."""
    monkeypatch.setattr("mvmic_codec.encoder.encode.SECOND_LOOK", float("inf"))
    with full_precision(blind.device):
        encoder = encoder_of(blind, channels, 40, (128, 128))

        def all_in(mode):
            costs = torch.full((1, MODES, 8, 8), 1e9)
            costs[:, mode] = 0
            run = encoder.run(costs)
            assert run.modes.unique().tolist() == [mode]
            return run

        told = encoder.costs_after(all_in(start)).double().sum((0, 2, 3))
        taken = [sum(as_whole_steps(encoder, blind, all_in(mode))) for mode in range(MODES)]
    assert len(set(np.round(taken))) == MODES
    taken = [bits + 64 * NEIGHBOUR_BITS * (mode > 0) for mode, bits in enumerate(taken)]
    assert told.tolist() == pytest.approx(taken, rel=1e-3)


@pytest.mark.parametrize("rate", first_is_quick([31, 9, 54]))
@pytest.mark.parametrize("channels", [1, 3])
def test_the_second_choice_of_modes_pays(blind, channels, rate):
    with full_precision(blind.device):
        encoder = encoder_of(blind, channels, rate)
        first = encoder.run(encoder.estimated_costs)
        second = encoder.run(encoder.costs_after(first))
        before, after = (sum(bits_and_error(encoder, blind, run)) for run in (first, second))
    assert not torch.equal(first.modes, second.modes)
    assert after < 0.99 * before


@pytest.mark.parametrize("rate", first_is_quick([31, 20, 54]))
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_run_codes(blind, channels, rate):
    """Levels of its passes at their spacing, and nothing elsewhere; other levels cost more."""
    with full_precision(blind.device):
        encoder = encoder_of(blind, channels, rate)
        run = encoder.run(encoder.estimated_costs)
        assert torch.equal(run.coded, SPACING * of_y(blind, run, 0))
        assert not run.coded[of_y(blind, run, 1) == 0].any()
        least = sum(bits_and_error(encoder, blind, run))
        quantise = encoder.quantise
        for factor in (0.5, 2.0):
            encoder.quantise = lambda x, t, price, by=factor: quantise(x, t, by * price)
            assert sum(bits_and_error(encoder, blind, encoder.run(encoder.estimated_costs))) > least


@pytest.mark.parametrize("rate", [TARGET_FROM - 1, TARGET_FROM])
def test_code_symbols_is_the_second_run(released, rate):
    """Where symbols are fine it has another target."""
    planes = picture(130, 200, 3, seed=5, edge=0.4)
    with full_precision(released.device):
        encoder = Encoder(released, planes, rate)
        first = encoder.run(encoder.estimated_costs)
        target = encoder.coefficients if rate < TARGET_FROM else encoder.inverse_target(first.modes)
        second = encoder.run(encoder.costs_after(first, target), target)
        assert second.target is target
        coded = Encoder(released, planes, rate).encode_two_pass().passes
    for ours, theirs in zip(coded, second.passes, strict=True):
        assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1])
        assert ours.second == theirs.second


def test_bits_of_magnitudes_are_those_of_the_tables(released, weights_path):
    arrays = load_file(weights_path)
    half = arrays["entropy.table_half"]
    bits = magnitude_bits(half, arrays["entropy.table_cdf"])
    assert not bits[0].any()
    for table in (1, 7, 30, 63, 96, 120, 158):
        for size in (0, 1, int(half[table]), int(half[table]) + 1, 300):
            for symbol in (size, -size):
                told = ans.estimate_bits(
                    np.array([symbol], np.int16), np.array([table], np.uint8), released.tables
                )
                assert bits[table, min(size, bits.shape[1] - 1)] == pytest.approx(told, rel=1e-6)
    assert torch.equal(released.bits, torch.from_numpy(bits))


def test_whole_steps_cost_about_what_they_did(released):
    """The small model's tables are logistics: nearly what a logistic of whole steps takes."""
    scales = scale_ladder().numpy()
    for table in (5, 12, 20, 30, 40, 50):
        tail = logistic_tail(scales[table - 1], np.arange(256.0))
        sizes = np.nonzero(tail > 2.0**-10)[0]
        asked = released.symbol_bits(torch.full((len(sizes),), table), torch.from_numpy(sizes))
        ideal = -np.log2(tail[sizes])
        share = tail[sizes] * np.where(sizes, 2, 1)
        assert abs(float(share @ (asked.numpy() - ideal))) < 0.2
        assert np.abs(asked.numpy() - ideal).max() < 1
    far = released.symbol_bits(torch.tensor([63, 0, 0]), torch.tensor([30_000, 0, 7]))
    assert far[0] > 10 and far[1:].tolist() == [0, 0]


def test_modes_that_are_far_too_dear_get_no_second_look(released, monkeypatch):
    with full_precision(released.device):
        encoder = encoder_of(released, 3, 31)
        run = encoder.run(encoder.estimated_costs)
        costs = encoder.costs_after(run)
        monkeypatch.setattr("mvmic_codec.encoder.encode.SECOND_LOOK", float("inf"))
        everywhere = encoder.costs_after(run)
    dear = encoder.estimated_costs > 1.25 * encoder.estimated_costs.amin(1, keepdim=True)
    assert 0.1 < dear.float().mean() < 0.9
    dear.scatter_(1, run.modes[:, None], False)
    assert torch.equal(costs.isinf(), dear) and everywhere.isfinite().all()
    torch.testing.assert_close(costs[~dear], everywhere[~dear])
