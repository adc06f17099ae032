"""Filling flat areas gives, to the bit, what a plain loop over the whole image gives."""

import numpy as np
import pytest

from mvmic_codec.encoder import flat_fill
from mvmic_codec.encoder.boxes import boxes_of


def fill_plainly(planes, known):
    """As `flat_fill.fill`, each smoothing over all pixels."""
    if known.all():
        return planes
    _, height, width = planes.shape
    open_end = ((0, 0), (0, height % 2), (0, width % 2))

    def fours(values):
        even = np.pad(values, open_end)
        rows = even[:, ::2] + even[:, 1::2]
        return rows[:, :, ::2] + rows[:, :, 1::2]

    count = fours(known[None].astype(np.float32))
    coarse = fill_plainly(fours(planes * known) / count.clip(1), count[0] > 0)
    out = np.where(known, planes, coarse.repeat(2, 1).repeat(2, 2)[:, :height, :width])
    for _ in range(12):
        edged = np.pad(out, ((0, 0), (1, 1), (1, 1)), mode="edge")
        mean = edged[:, :-2, 1:-1] + edged[:, 2:, 1:-1]
        mean = mean + edged[:, 1:-1, :-2] + edged[:, 1:-1, 2:]
        out = np.where(known, planes, mean * np.float32(0.25))
    return out


def letters(random, height, width):
    mask = np.zeros((height, width), np.bool_)
    for _ in range(6):
        top, left = random.integers(height), random.integers(width)
        mask[top : top + 9, left : left + 25] = random.random() < 0.9
    return mask


def frame(random, height, width):
    """The corners around a circle."""
    y, x = np.mgrid[:height, :width]
    return np.hypot((y / height - 0.5), (x / width - 0.5)) > 0.45


def grains(random, height, width):
    return random.random((height, width)) < 0.3


MASKS = [letters, frame, grains]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 2), (130, 257), (512, 300)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mask", MASKS)
def test_to_the_bit(mask, channels, size):
    random = np.random.default_rng(7)
    planes = random.random((channels, *size), np.float32)
    hidden = mask(random, *size)
    if hidden.all():
        hidden[0, 0] = False
    filled = flat_fill.fill(planes, hidden)
    np.testing.assert_array_equal(filled, fill_plainly(planes, ~hidden))
    assert filled.dtype == np.float32


@pytest.mark.parametrize("least", [1, 64, 4096])
@pytest.mark.parametrize("mask", MASKS)
def test_boxes_hold_each_true_place_once(mask, least):
    true = mask(np.random.default_rng(3), 130, 257)
    times = np.zeros(true.shape, int)
    for box in boxes_of(true, least):
        times[box] += 1
    assert times.max() == 1
    assert (times[true] == 1).all()


def test_boxes_hold_little_else():
    mask = np.zeros((400, 600), np.bool_)
    mask[:40], mask[:, 570:] = True, True
    places = sum(mask[box].size for box in boxes_of(mask, 1))
    assert places < 1.3 * np.count_nonzero(mask)


def test_no_boxes_of_nothing():
    assert boxes_of(np.zeros((5, 7), np.bool_), 1) == []
