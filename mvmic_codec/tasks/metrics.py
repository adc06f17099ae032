"""How good predicted masks are: for each image, over a set, and one method against another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mvmic_codec.errors import InputError
from mvmic_codec.tasks.truth import IGNORED

Confusion = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Overlap:
    """How well a predicted foreground covers the true one, each 0 to 1.

    iou   of the foreground: intersection over union
    miou  mean of the IoU of the foreground and that of the background
    dice  twice the intersection over the sum of both areas

    Where the true mask is empty, an empty prediction counts 1 and anything else 0. The same holds
    for the background.
    """

    iou: float
    miou: float
    dice: float


def overlap(predicted: Tensor, mask: Tensor) -> Overlap:
    """The overlap in one image.

    predicted  [H,W], not 0 where the foreground is predicted
    mask       [H,W], 0 is background, other numbers are foreground, IGNORED is left out
    """
    if predicted.shape != mask.shape:
        raise InputError(
            f"a predicted mask of {tuple(predicted.shape)} cannot be compared with a true one of "
            f"{tuple(mask.shape)}"
        )
    counted = mask != IGNORED
    guess, truth = predicted[counted] != 0, mask[counted] != 0
    both, either = int((guess & truth).sum()), int((guess | truth).sum())
    neither = truth.numel() - either
    iou = ratio(both, either)
    background = ratio(neither, truth.numel() - both)
    return Overlap(iou, (iou + background) / 2, ratio(2 * both, both + either))


def ratio(part: int, whole: int) -> float:
    """Part over whole; 1 if both are 0."""
    return part / whole if whole else 1.0


@dataclass(frozen=True)
class ClassScores:
    """Of all pixels of a set together, each 0 to 1.

    miou      mean of the IoU of each class that is in a true or a predicted mask
    accuracy  share of pixels whose class is right
    """

    miou: float
    accuracy: float


def confusion(predicted: Tensor, mask: Tensor, classes: int) -> Confusion:
    """How many pixels of each class (row) are taken for which (column), int64 [K,K].

    predicted, mask  masks [H,W], classes 0 to `classes` - 1. Pixels whose true class is IGNORED are
                     left out
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts = multiclass_confusion_matrix(
        predicted.long().cpu()[None], mask.long().cpu()[None], classes, ignore_index=IGNORED
    )
    return counts.numpy().astype(np.int64)


def class_scores(confusions: Sequence[Confusion]) -> ClassScores:
    """Scores of a set, of the confusion of each image. Raises InputError if there are none."""
    if not len(confusions):
        raise InputError("there are no masks to score")
    counts = np.sum(confusions, axis=0)
    right, either = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    there = either > 0
    iou = right[there] / either[there]
    total = int(counts.sum())
    return ClassScores(float(iou.mean()) if total else 1.0, ratio(int(right.sum()), total))


def class_errors(confusions: Sequence[Confusion], draws: int = 100) -> ClassScores:
    """Standard errors of `class_scores` over images, by the bootstrap. Of one image they are nan.

    It draws as many images as there are, with replacement (Efron 1979).
    """
    count = len(confusions)
    if count < 2:
        return ClassScores(math.nan, math.nan)
    rng = np.random.default_rng(0)
    drawn = [
        class_scores([confusions[k] for k in rng.integers(count, size=count)]) for _ in range(draws)
    ]
    miou, accuracy = np.array([(each.miou, each.accuracy) for each in drawn]).std(axis=0, ddof=1)
    return ClassScores(float(miou), float(accuracy))


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences and its standard error."""

    mean: float
    standard_error: float
    count: int


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """By how much `first` is ahead of `second`, image by image.

    Raises InputError unless both have as many values, at least 2.
    """
    if len(first) != len(second) or len(first) < 2:
        raise InputError(
            "a paired difference needs two lists of equal length, at least 2; "
            f"got {len(first)} and {len(second)} values"
        )
    differences = np.subtract(first, second)
    return Difference(float(differences.mean()), standard_error(differences), len(differences))


def standard_error(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Of the mean. Of one value it is nan."""
    if len(values) < 2:
        return math.nan
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
