"""Frequency tables: valid, symmetric, and close to the distribution they stand for."""

import numpy as np
import pytest
import torch

from mvmic_codec import ans
from mvmic_codec.nets.entropy import FLAG_TABLES, TABLES, flag_logit
from mvmic_codec.nets.integer import scale_ladder
from mvmic_codec.nets.tables import (
    HALF_MAX,
    TOTAL,
    fitted_table,
    flag_table,
    logistic_table,
    logistic_tail,
    make_tables,
)

SCALES = scale_ladder().numpy()
ODDS = flag_logit(torch.arange(FLAG_TABLES, dtype=torch.float64)).numpy()
ESCAPE_BITS = 16


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


@pytest.mark.parametrize("scale", SCALES)
def test_a_table_is_valid_and_symmetric(scale):
    frequency = logistic_table(scale)
    half = (len(frequency) - 2) // 2
    assert len(frequency) == 2 * half + 2
    assert frequency.min() >= 1 and frequency.sum() == TOTAL
    symbols = frequency[:-1]
    assert np.array_equal(symbols, symbols[::-1])
    assert np.all(np.diff(symbols[half + 1 :]) <= 0)


@pytest.mark.parametrize("scale", SCALES[SCALES <= 40])
def test_bits_are_close_to_the_entropy(scale):
    exact = probabilities(scale)
    assert exact.sum() == pytest.approx(1, abs=1e-9)
    positive = exact[exact > 0]
    entropy = -(positive * np.log2(positive)).sum()
    frequency = logistic_table(scale)
    half, middle = (len(frequency) - 2) // 2, len(exact) // 2
    escape = -np.log2(frequency[-1] / TOTAL) + ESCAPE_BITS
    bits = np.full(len(exact), escape)
    bits[middle - half : middle + half + 1] = -np.log2(frequency[:-1] / TOTAL)
    assert (exact * bits).sum() - entropy < max(0.01 * entropy, 0.002)


def bits_of(frequency, tail):
    """Mean bits of a symbol."""
    half = (len(frequency) - 2) // 2
    bits = np.full(len(tail), np.log2(TOTAL / frequency[-1]) + ESCAPE_BITS)
    bits[: half + 1] = np.log2(TOTAL / frequency[half : 2 * half + 1])
    return float(tail @ (bits * np.where(np.arange(len(tail)), 2, 1)))


@pytest.mark.parametrize("scale", SCALES[::4])
@pytest.mark.parametrize("outliers", [0.0, 0.02])
def test_a_fitted_table_is_valid_and_has_the_entries_that_pay(scale, outliers):
    tail = (1 - outliers) * logistic_tail(scale) + outliers * logistic_tail(4 * scale)
    frequency = fitted_table(tail)
    half = (len(frequency) - 2) // 2
    assert frequency.min() >= 1 and frequency.sum() == TOTAL and 1 <= half <= HALF_MAX
    assert np.array_equal(frequency[:-1], frequency[:-1][::-1])
    # Where hundreds of small shares are rounded, by 0.2% more or less.
    assert bits_of(frequency, tail) <= 1.002 * bits_of(logistic_table(scale), tail)


def test_outliers_get_entries():
    tail = 0.98 * logistic_tail(0.3) + 0.02 * logistic_tail(2.0)
    frequency = fitted_table(tail)
    assert len(frequency) > len(logistic_table(0.3)) + 4
    assert bits_of(frequency, tail) < 0.95 * bits_of(logistic_table(0.3), tail)


def test_a_table_of_which_only_zeros_are_known():
    frequency = fitted_table(np.eye(1, HALF_MAX + 1)[0])
    assert frequency.tolist() == [1, TOTAL - 3, 1, 1]


def test_flag_tables():
    """Entries -1, 0, 1, escape; the odds rise evenly and are symmetric."""
    tables = np.stack([flag_table(each) for each in ODDS])
    assert tables.shape == (FLAG_TABLES, 4)
    assert (tables.sum(1) == TOTAL).all()
    assert (tables[:, [0, 3]] == 1).all() and (tables >= 1).all()
    odds = np.log(tables[:, 2] / tables[:, 1])
    assert np.allclose(odds, ODDS, atol=0.15)
    assert np.array_equal(tables[:, 2], tables[::-1, 1])
    assert np.allclose(np.diff(ODDS), 0.4) and np.diff(odds).min() > 0.2
    for extreme in (-30, 30):
        assert flag_table(extreme).min() == 1 and flag_table(extreme).sum() == TOTAL


def test_arrays_are_what_the_coder_takes():
    half, cdf = make_tables(SCALES, ODDS)
    assert half.dtype == cdf.dtype == np.uint16
    assert ans.Tables(half, cdf).count == TABLES + FLAG_TABLES == 96
    assert int(half.max()) <= 255
    assert (half[TABLES:] == 1).all()
    assert np.array_equal(np.diff(cdf[TABLES:, :5].astype(int)), [flag_table(o) for o in ODDS])
