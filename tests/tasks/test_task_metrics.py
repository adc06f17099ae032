"""Scores of masks, and paired differences."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    multiclass_jaccard_index,
)

from mvmic_codec.errors import InputError
from mvmic_codec.tasks.metrics import (
    Overlap,
    class_errors,
    class_scores,
    confusion,
    overlap,
    paired_difference,
)
from mvmic_codec.tasks.truth import IGNORED


def masks(classes=2, seed=0):
    """A true mask with pixels that are not counted, and a prediction that is right by half."""
    torch.manual_seed(seed)
    mask = torch.randint(0, classes, (30, 40))
    predicted = torch.where(torch.rand(30, 40) < 0.5, mask, torch.randint(0, classes, (30, 40)))
    mask[:, :7] = IGNORED
    return predicted, mask


@pytest.mark.parametrize("seed", range(3))
def test_overlap_agrees_with_torchmetrics(seed):
    predicted, mask = masks(seed=seed)
    scores = overlap(predicted.byte(), mask.byte())
    options = {"ignore_index": IGNORED}
    assert scores.iou == pytest.approx(binary_jaccard_index(predicted, mask, **options).item())
    assert scores.dice == pytest.approx(binary_f1_score(predicted, mask, **options).item())
    both = multiclass_jaccard_index(predicted, mask, 2, average="macro", **options)
    assert scores.miou == pytest.approx(both.item())


EMPTY, FULL = torch.zeros(4, 4), torch.ones(4, 4)
ONE = EMPTY.clone()
ONE[0, 0] = 1
NONE_COUNTED = torch.full((4, 4), IGNORED)


@pytest.mark.parametrize(
    ("predicted", "mask", "expected"),
    [
        (EMPTY, EMPTY, Overlap(1, 1, 1)),
        (ONE, EMPTY, Overlap(0, 15 / 32, 0)),
        (EMPTY, ONE, Overlap(0, 15 / 32, 0)),
        (FULL, FULL, Overlap(1, 1, 1)),
        (ONE, FULL, Overlap(1 / 16, 1 / 32, 2 / 17)),
        (FULL, EMPTY, Overlap(0, 0, 0)),
        (ONE, NONE_COUNTED, Overlap(1, 1, 1)),
    ],
)
def test_overlap_of_empty_and_full_masks(predicted, mask, expected):
    assert overlap(predicted, mask) == expected
    assert overlap(predicted.bool(), mask.byte()) == expected


def test_masks_of_two_sizes():
    with pytest.raises(InputError, match=r"of \(4, 4\) cannot be compared with .* \(4, 5\)"):
        overlap(EMPTY, torch.zeros(4, 5))


def test_class_scores_are_of_all_pixels_together():
    predicted, mask = masks(classes=4)
    one = class_scores([confusion(predicted, mask, 6)])
    parts = (predicted[:9].byte(), mask[:9]), (predicted[9:].byte(), mask[9:])
    assert class_scores([confusion(*each, 6) for each in parts]) == one
    counted = mask != IGNORED
    p, t = predicted[counted].numpy(), mask[counted].numpy()
    # Classes 4 and 5 are nowhere.
    iou = [((p == k) & (t == k)).sum() / ((p == k) | (t == k)).sum() for k in range(4)]
    assert one.miou == pytest.approx(np.mean(iou), abs=1e-6)
    assert one.accuracy == pytest.approx((p == t).mean(), abs=1e-6)


def test_class_scores_of_nothing():
    with pytest.raises(InputError, match="there are no masks to score"):
        class_scores([])


def test_standard_errors_of_class_scores():
    """Of accuracy it is nearly that of a mean, as all images have as many pixels."""
    rng = np.random.default_rng(3)
    right = rng.integers(20, 80, 40)
    confusions = [np.array([[k, 100 - k], [100 - k, k]]) for k in right]
    found = class_errors(confusions)
    assert found.accuracy == pytest.approx((right / 100).std(ddof=1) / 40**0.5, rel=0.25)
    assert found.miou > 0 and found == class_errors(confusions)
    assert np.isnan(class_errors(confusions[:1]).miou)


def test_paired_difference():
    rng = np.random.default_rng(0)
    second = rng.random(30)
    first = second + rng.normal(0.1, 0.2, 30)
    found = paired_difference(list(first), list(second))
    assert found.mean == pytest.approx((first - second).mean())
    assert found.mean / found.standard_error == pytest.approx(
        ttest_1samp(first - second, 0).statistic
    )
    assert found.count == 30


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_lists_that_are_no_pairs(first, second):
    with pytest.raises(InputError, match="two lists of equal length, at least 2"):
        paired_difference(first, second)
