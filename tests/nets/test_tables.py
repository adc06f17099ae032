"""Frequency tables: valid, symmetric, and close to the distribution they stand for."""

import numpy as np
import pytest

from mvmic_codec import ans
from mvmic_codec.nets.entropy import TABLES
from mvmic_codec.nets.integer import scale_ladder
from mvmic_codec.nets.tables import TOTAL, logistic_table, make_tables

SCALES = scale_ladder().numpy()
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


def test_arrays_are_what_the_coder_takes():
    half, cdf = make_tables(SCALES)
    assert half.dtype == cdf.dtype == np.uint16
    assert ans.Tables(half, cdf).count == TABLES
    assert int(half.max()) <= 255
