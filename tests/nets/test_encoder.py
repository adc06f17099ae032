"""The encoder's choices: none is visible to a decoder, all of them cost or save bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_model import SMALL, picture, small_model

from mvmic_codec import ans, codec
from mvmic_codec.encoder import BITS_SHARE, NEIGHBOUR_BITS, Encoder
from mvmic_codec.grid import to_int16, to_uint8
from mvmic_codec.nets import identity, release
from mvmic_codec.nets.entropy import FRACTION, MODES, PARTS, TABLES
from mvmic_codec.nets.integer import IntegerEntropy
from mvmic_codec.nets.intnet import usable_paths
from mvmic_codec.nets.native import NativeEntropy
from mvmic_codec.nets.tables import magnitude_bits
from mvmic_codec.nets.transforms import shuffle


def encoder_of(released, channels, rate, size=(130, 200)):
    return Encoder(released, picture(*size, channels, seed=5, edge=0.4), rate)


def of_y(released, run, which):
    """Symbols (which: 0) or table indices (1) of y [C,h,w]."""
    height, width = run.modes.shape[1:]
    cells = [
        torch.from_numpy(each[which].astype(np.float64)).reshape(1, -1, height // 2, width // 2)
        for each in run.passes[-PARTS - 1 :]
    ]
    # The first part has two passes: what is 0 in one is in the other.
    cells[:2] = [cells[0] + cells[1]]
    return shuffle(torch.cat(cells, 1)[:, released.entropy.order], 2)[0]


def bits_and_error(encoder, released, run):
    """Of luma but for its first channel: bits of symbols, and error at its price in bits."""
    symbols, index = of_y(released, run, 0), of_y(released, run, 1)
    some = torch.nonzero(released.shape.is_luma())[1:, 0]
    bits = ans.estimate_bits(to_int16(symbols[some]), to_uint8(index[some]), released.tables)
    y = released.blocks(encoder.coefficients, run.modes)[0] / encoder.step[:, None, None]
    error = (y - run.mean / FRACTION - symbols).square() * encoder.price[:, None, None] / 2
    return bits, float(error[some].sum())


@pytest.mark.parametrize("rate", [0, 31, 63])
@pytest.mark.parametrize("channels", [1, 3])
def test_costs_of_the_modes_that_were_coded(released, channels, rate):
    """For a run's own modes the costs are exactly what coding them took."""
    with codec.full_precision(released):
        encoder = encoder_of(released, channels, rate)
        run = encoder.run(encoder.rough_costs, encoder.level)
        costs = encoder.costs_after(run)
        expected = sum(bits_and_error(encoder, released, run))
        expected += NEIGHBOUR_BITS * int((run.modes > 0).sum())
    assert costs.shape == (1, MODES, *run.modes.shape[1:])
    assert rate == 0 or len(torch.unique(run.modes)) > 3
    taken = costs.gather(1, run.modes[:, None])
    assert float(taken.double().sum()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("way", ["doubles", *usable_paths()])
def test_scores_make_the_tables(released, weights_path, way):
    """With what the mode adds, rounded and clamped."""
    arrays = {
        name[len(release.ENTROPY) :]: array
        for name, array in load_file(weights_path).items()
        if name.startswith(release.ENTROPY)
    }
    entropy = (
        IntegerEntropy(arrays, SMALL[3].rotate, released.device)
        if way == "doubles"
        else NativeEntropy(arrays, SMALL[3].rotate, way)
    )
    with codec.full_precision(released):
        encoder = encoder_of(replace(released, entropy=entropy), 3, 31)
        run = encoder.run(encoder.rough_costs, encoder.level)
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
    card = release.export(model, tmp_path, identity.GRAY_MODEL, "for tests")
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    return release.load(bytes.fromhex(card.fingerprint), "cpu")


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_costs_of_the_modes_that_were_not_coded(blind, monkeypatch, channels, start):
    """All blocks in another mode cost what they were said to."""
    monkeypatch.setattr("mvmic_codec.encoder.SECOND_LOOK", float("inf"))
    with codec.full_precision(blind):
        encoder = encoder_of(blind, channels, 40, (128, 128))

        def all_in(mode):
            costs = torch.full((1, MODES, 8, 8), 1e9)
            costs[:, mode] = 0
            run = encoder.run(costs, encoder.level)
            assert run.modes.unique().tolist() == [mode]
            return run

        told = encoder.costs_after(all_in(start)).double().sum((0, 2, 3))
        taken = [sum(bits_and_error(encoder, blind, all_in(mode))) for mode in range(MODES)]
    assert len(set(np.round(taken))) == MODES
    taken = [bits + 64 * NEIGHBOUR_BITS * (mode > 0) for mode, bits in enumerate(taken)]
    assert told.tolist() == pytest.approx(taken, rel=1e-3)


@pytest.mark.parametrize("rate", [9, 31, 54])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_second_choice_of_modes_pays(blind, channels, rate):
    with codec.full_precision(blind):
        encoder = encoder_of(blind, channels, rate)
        first = encoder.run(encoder.rough_costs, encoder.level)
        second = encoder.run(encoder.costs_after(first), encoder.level)
        before, after = (
            sum(ans.estimate_bits(*each, blind.tables) for each in run.passes[2 : -PARTS - 1])
            + sum(bits_and_error(encoder, blind, run))
            for run in (first, second)
        )
    assert not torch.equal(first.modes, second.modes)
    assert after < 0.99 * before


@pytest.mark.parametrize("rate", [20, 31, 54])
@pytest.mark.parametrize("channels", [1, 3])
def test_trying_out_roundings_pays(blind, channels, rate):
    with codec.full_precision(blind):
        encoder = encoder_of(blind, channels, rate)
        costs = encoder.rough_costs
        before, after = (
            sum(bits_and_error(encoder, blind, encoder.run(costs, rounding)))
            for rounding in (encoder.level, encoder.best_level)
        )
    assert after < before


def test_the_best_rounding(released):
    """No integer costs less, at one table and price."""
    with codec.full_precision(released):
        encoder = encoder_of(released, 3, 31)
    size = torch.linspace(0, 4, 401, dtype=torch.float64)
    for index in (20, 40, 50):
        table, price = torch.full(size.shape, index), torch.full_like(size, 9.0)
        levels = torch.arange(6, dtype=torch.float64)
        bits = released.symbol_bits(table[:, None], levels.long()[None])
        cost = BITS_SHARE * bits + 4.5 * (size[:, None] - levels).square()
        best = encoder.best_level(size, table, price)
        assert torch.equal(cost.gather(1, best.long()[:, None])[:, 0], cost.amin(1))


def test_code_symbols_is_the_second_run(released):
    planes = picture(130, 200, 3, seed=5, edge=0.4)
    with codec.full_precision(released):
        encoder = Encoder(released, planes, 31)
        first = encoder.run(encoder.rough_costs, encoder.level)
        second = encoder.run(encoder.costs_after(first), encoder.best_level)
        coded = codec.code_symbols(Encoder(released, planes, 31))
    for ours, theirs in zip(coded, second.passes, strict=True):
        assert np.array_equal(ours[0], theirs[0]) and np.array_equal(ours[1], theirs[1])


def test_bits_of_magnitudes_are_those_of_the_tables(released, weights_path):
    from safetensors.numpy import load_file

    arrays = load_file(weights_path)
    half = arrays["entropy.table_half"]
    bits = magnitude_bits(half, arrays["entropy.table_cdf"])
    assert not bits[0].any()
    for table in (1, 7, 30, 63):
        for size in (0, 1, int(half[table]), int(half[table]) + 1, 300):
            for symbol in (size, -size):
                told = ans.estimate_bits(
                    np.array([symbol], np.int16), np.array([table], np.uint8), released.tables
                )
                assert bits[table, min(size, bits.shape[1] - 1)] == pytest.approx(told, rel=1e-6)
    asked = released.symbol_bits(torch.tensor([63, 63]), torch.tensor([0, 30_000]))
    assert asked.tolist() == [bits[63, 0], bits[63, -1]]


def test_modes_that_are_far_too_dear_get_no_second_look(released, monkeypatch):
    with codec.full_precision(released):
        encoder = encoder_of(released, 3, 31)
        run = encoder.run(encoder.rough_costs, encoder.level)
        costs = encoder.costs_after(run)
        monkeypatch.setattr("mvmic_codec.encoder.SECOND_LOOK", float("inf"))
        everywhere = encoder.costs_after(run)
    dear = encoder.rough_costs > 1.25 * encoder.rough_costs.amin(1, keepdim=True)
    assert 0.1 < dear.float().mean() < 0.9
    dear.scatter_(1, run.modes[:, None], False)
    assert torch.equal(costs.isinf(), dear) and everywhere.isfinite().all()
    torch.testing.assert_close(costs[~dear], everywhere[~dear])
