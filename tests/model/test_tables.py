"""Frequency tables: valid, symmetric, and close to the distribution they stand for."""

import numpy as np
import pytest
import torch

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.ans import SLOTS
from mvmic_codec.encoder import trellis
from mvmic_codec.model.definition import FLAG_TABLES, FRACTION, SECOND, SPACING, TABLES
from mvmic_codec.model.entropy import flag_logit
from mvmic_codec.model.integerise import scale_ladder
from mvmic_codec.model.tables import (
    HALF_MAX,
    as_arrays,
    fitted_table,
    flag_table,
    logistic_table,
    logistic_tail,
    magnitude_bits,
    make_tables,
    quantiser_steps,
    whole_step_bits,
)

SCALES = scale_ladder().numpy()
ODDS = flag_logit(torch.arange(FLAG_TABLES, dtype=torch.float64)).numpy()
ESCAPE_BITS = 16
WHOLE = np.arange(HALF_MAX + 1.0)  # what numbers stand for if nothing is dependent


def probabilities(scale, reach=4096):
    """P(-reach..reach) of the discretised logistic, without cancellation in the tails."""
    s = np.abs(np.arange(-reach, reach + 1.0))
    low, high = -(s - 0.5) / scale, -(s + 0.5) / scale
    log_p = -np.logaddexp(0, -low) - np.logaddexp(0, high) + np.log(-np.expm1(-1 / scale))
    return np.exp(log_p)


def test_the_ladder():
    assert len(SCALES) == TABLES - 1
    assert SCALES[0] == pytest.approx(0.07) and SCALES[-1] == pytest.approx(70)
    assert np.allclose(np.diff(np.log(SCALES)), np.log(1000) / 62)


@pytest.mark.parametrize("values", [WHOLE, quantiser_steps(0), quantiser_steps(1)])
@pytest.mark.parametrize("scale", SCALES)
def test_a_table_is_valid_and_symmetric(scale, values):
    frequency = logistic_table(scale, values)
    half = (len(frequency) - 2) // 2
    assert len(frequency) == 2 * half + 2
    assert frequency.min() >= 1 and frequency.sum() == SLOTS
    symbols = frequency[:-1]
    assert np.array_equal(symbols, symbols[::-1])
    # What is nearest to 1 is a narrower range in the second quantiser.
    first = 1 if values[2] == 2 * values[1] else 2
    assert np.all(np.diff(symbols[half + first :]) <= 0)


def test_two_quantisers_share_the_levels():
    """Even ones, and odd ones and 0, with their shares of a logistic."""
    first, second = (quantiser_steps(which) * 16 / SPACING for which in (0, 1))
    assert first[:4].tolist() == [0, 2, 4, 6] and second[:4].tolist() == [0, 1, 3, 5]
    unit = SPACING / 16
    drawn = np.abs(np.random.default_rng(0).logistic(scale=0.8, size=200_000))
    for which, values in enumerate((first * unit, second * unit)):
        tail = logistic_tail(0.8, quantiser_steps(which))
        nearest = np.abs(drawn[:, None] - values[:5]).argmin(1)
        share = np.bincount(nearest, minlength=5)[:4] / len(drawn)
        assert np.allclose(share, tail[:4] * [1, 2, 2, 2], atol=0.005)
        assert tail[0] + 2 * tail[1:].sum() == pytest.approx(1)


@pytest.mark.parametrize("scale", [0.1, 0.5, 2.0, 20.0])
def test_whole_steps_cost_what_lies_between_levels(scale):
    """By what is drawn: the bits of the nearest levels of both, each at its distance."""
    table = 1 + int(np.abs(SCALES - scale).argmin())
    bits = magnitude_bits(*make_tables(SCALES, ODDS))
    whole = whole_step_bits(bits)
    assert whole.shape[0] == TABLES and not whole[0].any()
    tail = logistic_tail(SCALES[table - 1], WHOLE)[: whole.shape[1]]
    exact = -np.log2(tail.clip(1e-30))
    likely = exact < 9
    assert likely.sum() > 1 or scale < 0.2
    assert np.abs(whole[table, : len(exact)][likely] - exact[likely]).max() < 0.9
    assert abs(whole[table, 0] - exact[0]) < 0.25


@pytest.mark.parametrize("scale", SCALES[SCALES <= 40])
def test_bits_are_close_to_the_entropy(scale):
    exact = probabilities(scale)
    assert exact.sum() == pytest.approx(1, abs=1e-9)
    positive = exact[exact > 0]
    entropy = -(positive * np.log2(positive)).sum()
    frequency = logistic_table(scale, WHOLE)
    half, middle = (len(frequency) - 2) // 2, len(exact) // 2
    escape = -np.log2(frequency[-1] / SLOTS) + ESCAPE_BITS
    bits = np.full(len(exact), escape)
    bits[middle - half : middle + half + 1] = -np.log2(frequency[:-1] / SLOTS)
    assert (exact * bits).sum() - entropy < max(0.01 * entropy, 0.002)


def bits_of(frequency, tail):
    """Mean bits of a symbol."""
    half = (len(frequency) - 2) // 2
    bits = np.full(len(tail), np.log2(SLOTS / frequency[-1]) + ESCAPE_BITS)
    bits[: half + 1] = np.log2(SLOTS / frequency[half : 2 * half + 1])
    return float(tail @ (bits * np.where(np.arange(len(tail)), 2, 1)))


@pytest.mark.parametrize("scale", SCALES[::4])
@pytest.mark.parametrize("outliers", [0.0, 0.02])
def test_a_fitted_table_is_valid_and_has_the_entries_that_pay(scale, outliers):
    tail = (1 - outliers) * logistic_tail(scale, WHOLE) + outliers * logistic_tail(4 * scale, WHOLE)
    frequency = fitted_table(tail)
    half = (len(frequency) - 2) // 2
    assert frequency.min() >= 1 and frequency.sum() == SLOTS and 1 <= half <= HALF_MAX
    assert np.array_equal(frequency[:-1], frequency[:-1][::-1])
    # Where hundreds of small shares are rounded, by 0.2% more or less.
    assert bits_of(frequency, tail) <= 1.002 * bits_of(logistic_table(scale, WHOLE), tail)


def test_outliers_get_entries():
    tail = 0.98 * logistic_tail(0.3, WHOLE) + 0.02 * logistic_tail(2.0, WHOLE)
    frequency = fitted_table(tail)
    assert len(frequency) > len(logistic_table(0.3, WHOLE)) + 4
    assert bits_of(frequency, tail) < 0.95 * bits_of(logistic_table(0.3, WHOLE), tail)


def test_a_table_of_which_only_zeros_are_known():
    frequency = fitted_table(np.eye(1, HALF_MAX + 1)[0])
    assert frequency.tolist() == [1, SLOTS - 3, 1, 1]


def test_flag_tables():
    """Entries -1, 0, 1, escape; the odds rise evenly and are symmetric."""
    tables = np.stack([flag_table(each) for each in ODDS])
    assert tables.shape == (FLAG_TABLES, 4)
    assert (tables.sum(1) == SLOTS).all()
    assert (tables[:, [0, 3]] == 1).all() and (tables >= 1).all()
    odds = np.log(tables[:, 2] / tables[:, 1])
    assert np.allclose(odds, ODDS, atol=0.15)
    assert np.array_equal(tables[:, 2], tables[::-1, 1])
    assert np.allclose(np.diff(ODDS), 0.4) and np.diff(odds).min() > 0.2
    for extreme in (-30, 30):
        assert flag_table(extreme).min() == 1 and flag_table(extreme).sum() == SLOTS


def test_arrays_are_what_the_coder_takes():
    half, cdf = make_tables(SCALES, ODDS)
    assert half.dtype == cdf.dtype == np.uint16
    assert ans.Tables(half, cdf).count == SECOND + TABLES == 159
    assert int(half.max()) <= 255
    flags = slice(TABLES, TABLES + FLAG_TABLES)
    assert (half[flags] == 1).all()
    assert np.array_equal(np.diff(cdf[flags, :5].astype(int)), [flag_table(o) for o in ODDS])
    # One table of the first quantiser, one of the second.
    for index, values in ((20, quantiser_steps(0)), (20 + SECOND, quantiser_steps(1))):
        row = np.diff(cdf[index, : 2 * half[index] + 3].astype(int))
        assert np.array_equal(row, logistic_table(SCALES[19], values))


@pytest.mark.parametrize("table", [20, 30, 40])
def test_it_beats_steps_of_any_width(table):
    """Bits and error of a logistic source, each with its own best widths and tables."""
    count, price = 20_000, 8.0
    scale = float(SCALES[table - 1])
    positions = np.random.default_rng(0).logistic(scale=scale, size=count)

    def plain(step):
        row = logistic_table(scale / step, WHOLE)
        bits = magnitude_bits(*as_arrays([row]))[1]
        size = np.abs(positions) / step
        options = np.floor(size)[:, None] + np.array([0, 1])
        cost = bits[options.astype(int).clip(max=len(bits) - 1)]
        cost = cost + price / 2 * np.square(step * (size[:, None] - options))
        zero = bits[0] + price / 2 * np.square(positions)
        return np.minimum(cost.min(1), zero).sum()

    def dependent(step):
        half, cdf = make_tables(SCALES / step, ODDS)
        bits, indices = magnitude_bits(half, cdf), np.full(count, table, np.uint8)
        spacing, prices = SPACING / FRACTION, np.full(count, price * step**2)
        symbols = trellis.quantise(positions / step, indices, prices, bits, spacing, SECOND)
        numbers, tables = ans.resolve(symbols, indices, SECOND)
        cost = bits[tables, np.abs(numbers).clip(max=bits.shape[1] - 1)]
        return (cost + price / 2 * np.square(positions - step * spacing * symbols)).sum()

    widths = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
    assert min(map(dependent, widths)) < 0.98 * min(map(plain, widths))
