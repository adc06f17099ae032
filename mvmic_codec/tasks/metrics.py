"""How good predicted masks are: for each image, over a set, and one method against another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mvmic_codec.errors import InputError
from mvmic_codec.tasks.train import NOT_COUNTED


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
    mask       [H,W], 0 is background, other numbers are foreground, NOT_COUNTED is left out
    """
    if predicted.shape != mask.shape:
        raise InputError(
            f"a predicted mask of {tuple(predicted.shape)} cannot be compared with a true one of "
            f"{tuple(mask.shape)}"
        )
    counted = mask != NOT_COUNTED
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


def class_scores(pairs: Iterable[tuple[Tensor, Tensor]], classes: int) -> ClassScores:
    """Scores of a set with several classes, by torchmetrics.

    pairs  predicted and true masks [H,W], classes 0 to `classes` - 1. Pixels whose true class is
           NOT_COUNTED are left out.

    Raises InputError if there are no masks.
    """
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    iou = MulticlassJaccardIndex(classes, average="macro", ignore_index=NOT_COUNTED)
    accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=NOT_COUNTED)
    count = 0
    for predicted, mask in pairs:
        for metric in (iou, accuracy):
            metric.update(predicted[None].long().cpu(), mask[None].long().cpu())
        count += 1
    if count == 0:
        raise InputError("there are no masks to score")
    return ClassScores(float(iou.compute()), float(accuracy.compute()))


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
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return Difference(float(differences.mean()), float(error), len(differences))
