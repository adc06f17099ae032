import math

import numpy as np
import pytest

from mvmic_codec import rate
from mvmic_codec.errors import InputError


def test_quality_and_index():
    assert [rate.index_of(q) for q in range(1, 9)] == [0, 9, 18, 27, 36, 45, 54, 63]
    assert rate.index_of(3.1) == 19
    assert rate.quality_of(0) == 1
    assert rate.quality_of(63) == 8
    for index in range(rate.RATES):
        assert rate.index_of(rate.quality_of(index)) == index


@pytest.mark.parametrize(
    "quality", [0.99, 8.01, 0, 90, -1, math.nan, math.inf, "3", True, [3], 10**400]
)
def test_wrong_quality(quality):
    with pytest.raises(InputError, match="quality"):
        rate.index_of(quality)


@pytest.mark.parametrize("index", [-1, 64, 1.5, math.nan, math.inf, "3", True, 10**400])
def test_wrong_index(index):
    with pytest.raises(InputError, match="rate index"):
        rate.checked_index(index)


def test_numpy_numbers_are_numbers():
    assert rate.index_of(np.float32(3)) == 18
    assert rate.checked_index(np.int64(7)) == 7


def test_lambda_ladder_is_geometric():
    ladder = [rate.lambda_of(index) for index in range(rate.RATES)]
    assert ladder[0] == rate.LAMBDA_MIN
    steps = [after / before for before, after in zip(ladder, ladder[1:], strict=False)]
    assert min(steps) > 1
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert rate.lambda_of(0.5) == pytest.approx(math.sqrt(ladder[0] * ladder[1]))


@pytest.mark.parametrize("target", [0, -1, math.nan, math.inf, "1", True, 10**400])
def test_wrong_target(target):
    with pytest.raises(InputError, match="bpp"):
        rate.checked_target("bpp", target)


def test_last_index_finds_every_threshold_in_seven_calls():
    for threshold in range(-1, rate.RATES):
        calls = []

        def holds(index, threshold=threshold, calls=calls):
            calls.append(index)
            return index <= threshold

        assert rate.last_index(holds) == (threshold if threshold >= 0 else None)
        assert len(calls) <= 7
        assert len(set(calls)) == len(calls)


def test_first_index_finds_every_threshold():
    for threshold in range(rate.RATES + 1):
        found = rate.first_index(lambda index, threshold=threshold: index >= threshold)
        assert found == (threshold if threshold < rate.RATES else None)


def test_answer_holds_even_if_not_monotone():
    import random

    generator = random.Random(3)
    for _ in range(300):
        truth = [generator.random() < 1 - index / 64 for index in range(64)]
        last = rate.last_index(truth.__getitem__)
        if last is not None:
            assert truth[last] and (last == 63 or not truth[last + 1])
        first = rate.first_index(truth.__getitem__)
        if first is not None:
            assert truth[first] and (first == 0 or not truth[first - 1])
