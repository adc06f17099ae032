"""What is put in the place of flat areas."""

import numpy as np
import pytest

from mvmic_codec.encoder import flat_fill

RNG = np.random.default_rng(8)
ROW, COLUMN = np.mgrid[0:160, 0:200]
DISC = (ROW - 80) ** 2 + (COLUMN - 100) ** 2 < 70**2


def planes(channel):
    return (channel[None] / 255).astype(np.float32)


def test_nothing_is_known():
    assert np.ptp(flat_fill.fill(planes(ROW), np.ones(ROW.shape, bool))) == 0


@pytest.mark.parametrize("size", [(160, 200), (1, 7), (37, 53), (2, 1)])
def test_filling_never_looks_at_what_is_hidden(size):
    rows, columns = size
    hidden = (np.arange(rows * columns).reshape(size) * 7 // 5) % 3 == 1
    one = RNG.random((3, rows, columns), np.float32)
    other = np.where(hidden, np.float32(np.nan), one)
    filled = flat_fill.fill(one, hidden)
    np.testing.assert_array_equal(filled[:, ~hidden], one[:, ~hidden])
    assert filled.dtype == np.float32
    with np.errstate(invalid="ignore"):
        again = flat_fill.fill(np.nan_to_num(other, nan=0.125), hidden)
    np.testing.assert_array_equal(filled, again)


def test_filling_is_smooth():
    """Where the margin was a hard edge there is none left."""
    picture = planes(np.where(DISC, 140, 0))
    filled = flat_fill.fill(picture, ~DISC)
    assert np.abs(filled - 140 / 255).max() < 0.01
    sloped = planes(np.where(DISC, COLUMN, 0))
    filled = flat_fill.fill(sloped, ~DISC)
    assert np.abs(np.diff(filled, axis=2)).max() < 0.06
