"""Average precision of detections, as COCO defines it, by pycocotools."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as runs
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mvmic_codec.errors import InputError

# COCO looks at so many detections of an image, the surest.
MOST_DETECTIONS = 100
# Sets of images that are drawn for a standard error. It is then itself good to about 7%.
DRAWS = 100


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision over recall from 0 to 1, mean over classes; each 0 to 1, 1 the best.

    mean  over thresholds of intersection over union from .50 to .95 in steps of .05
    at50  at a threshold of .50
    at75  at a threshold of .75
    """

    mean: float
    at50: float
    at75: float


@dataclass(frozen=True)
class DetectionScores:
    """Average precision of boxes, and of masks where they are asked for."""

    boxes: AveragePrecision
    masks: AveragePrecision | None


class DetectionMeter:
    """Takes the detections and targets of images one by one, and gives scores of all together.

    A detection has boxes [K,4] (left, top, right, bottom), labels [K] and scores [K], a target
    boxes and labels; with `masks` both have masks [K,H,W] bool. They may be tensors on the CPU or
    arrays. Masks are kept as runs, so that those of one image at a time are in memory.
    """

    def __init__(self, *, masks: bool = False) -> None:
        self.masks = masks
        self.images = 0
        self._found: list[dict[str, Any]] = []
        self._true: list[dict[str, Any]] = []

    @property
    def objects(self) -> int:
        """How many boxes the targets have, of all images."""
        return len(self._true)

    def add(self, detection: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """The detection and the target of one image. Raises InputError for masks of two sizes."""
        if self.masks and detection["masks"].shape[1:] != target["masks"].shape[1:]:
            raise InputError(
                f"masks of detections are {list(detection['masks'].shape[1:])}, but those of "
                f"targets {list(target['masks'].shape[1:])}; give both the size of the image"
            )
        self.images += 1
        self._found += self._entries(detection, len(self._found))
        self._true += self._entries(target, len(self._true))

    def scores(self) -> DetectionScores:
        """Scores of all images. Raises InputError if no target has a box."""
        if not self.objects:
            raise InputError(
                "average precision is not defined for images without a single box; "
                "give at least one image with a box"
            )
        return self._scores(_precision)

    def standard_errors(self) -> DetectionScores:
        """Standard errors of `scores` over images, by the bootstrap.

        As many images are drawn as there are, again and again (Efron 1979, "Bootstrap methods").
        The same images give the same errors. They are nan where draws with a box are fewer than 2.
        """
        return self._scores(self._spread)

    def _entries(self, objects: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
        """Objects of the last image as COCO writes them. Numbers go on from `count`."""
        entries = []
        masks: Iterable[Any] = objects["masks"] if self.masks else [None] * len(objects["labels"])
        scores = objects.get("scores", [1.0] * len(objects["labels"]))
        for k, (box, label, score, mask) in enumerate(
            zip(objects["boxes"], objects["labels"], scores, masks, strict=True)
        ):
            left, top, right, bottom = (float(edge) for edge in box)
            width, height = right - left, bottom - top
            entry = {
                # 0 stands for no match.
                "id": count + k + 1,
                "image_id": self.images,
                "category_id": int(label),
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": float(score),
            }
            if mask is not None:
                entry["segmentation"] = runs.encode(np.asfortranarray(mask, np.uint8))
            entries.append(entry)
        return entries

    def _scores(self, score: Callable[[COCOeval], Sequence[float]]) -> DetectionScores:
        boxes = AveragePrecision(*score(self._evaluated("bbox")))
        if not self.masks:
            return DetectionScores(boxes, None)
        return DetectionScores(boxes, AveragePrecision(*score(self._evaluated("segm"))))

    def _evaluated(self, kind: str) -> COCOeval:
        """What fits what in each image, by pycocotools."""
        images = []
        for number in range(1, self.images + 1):
            # Sides of masks are in their runs.
            images.append({"id": number, "height": 0, "width": 0})
        classes = [{"id": label} for label in sorted({e["category_id"] for e in self._true})]
        with redirect_stdout(io.StringIO()):
            sides = []
            for entries in (self._true, self._found):
                side = COCO()
                side.dataset = {"images": images, "categories": classes, "annotations": entries}
                side.createIndex()
                sides.append(side)
            evaluation = COCOeval(*sides, kind)
            evaluation.params.areaRng = [[0, 1e10]]
            evaluation.params.areaRngLbl = ["all"]
            evaluation.params.maxDets = [MOST_DETECTIONS]
            evaluation.evaluate()
        return evaluation

    def _spread(self, evaluation: COCOeval) -> list[float]:
        """Standard deviations of the three scores over sets of images that are drawn."""
        random = np.random.default_rng(0)
        # One for each class and image, by class.
        whole = np.reshape(np.array(evaluation.evalImgs, object), (-1, self.images))
        draws = []
        for _ in range(DRAWS):
            drawn = random.integers(0, self.images, self.images)
            evaluation.evalImgs = list(whole[:, drawn].ravel())
            draws.append(_precision(evaluation))
        defined = np.array(draws)
        defined = defined[~np.isnan(defined[:, 0])]
        if len(defined) < 2:
            return [math.nan] * 3
        return [float(each) for each in defined.std(0, ddof=1)]


def _precision(evaluation: COCOeval) -> tuple[float, float, float]:
    """Average precision over thresholds, and at .50 and .75; nan without a box."""
    with redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    # By threshold, recall and class. Classes without a box have -1.
    precision = evaluation.eval["precision"][..., 0, 0]
    precision = precision[:, :, (precision >= 0).all((0, 1))]
    if not precision.size:
        return (math.nan,) * 3
    # Thresholds rise from .50 in steps of .05.
    return float(precision.mean()), float(precision[0].mean()), float(precision[5].mean())


def detection_scores(
    pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], *, masks: bool = False
) -> DetectionScores:
    """Scores of the detections and targets of each image, in pairs. Errors as `DetectionMeter`."""
    meter = DetectionMeter(masks=masks)
    for detection, target in pairs:
        meter.add(detection, target)
    return meter.scores()
