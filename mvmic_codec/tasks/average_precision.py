"""Average precision of detections, as COCO defines it, by torchmetrics and pycocotools."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from mvmic_codec.errors import InputError


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


def detection_scores(
    pairs: Iterable[tuple[dict[str, Tensor], dict[str, Tensor]]], *, masks: bool = False
) -> DetectionScores:
    """Scores of the detections and targets of each image, in pairs.

    A detection has boxes [K,4] (left, top, right, bottom), labels [K] and scores [K], a target
    boxes and labels; with `masks` both have masks [K,H,W] bool. Pairs are taken one by one, so
    that masks of one image at a time are in memory.

    Raises InputError for masks of two sizes, and if no target has a box: average precision is not
    defined then.
    """
    names = ("boxes", "labels", *(("masks",) if masks else ()))
    metric = MeanAveragePrecision(iou_type=("bbox", "segm") if masks else "bbox")
    boxes = 0
    for detection, target in pairs:
        boxes += len(target["boxes"])
        if masks and detection["masks"].shape[1:] != target["masks"].shape[1:]:
            raise InputError(
                f"masks of detections are {list(detection['masks'].shape[1:])}, but those of "
                f"targets {list(target['masks'].shape[1:])}; give both the size of the image"
            )
        metric.update(
            [{name: detection[name].cpu() for name in ("scores", *names)}],
            [{name: target[name].cpu() for name in names}],
        )
    if not boxes:
        raise InputError(
            "average precision is not defined for images without a single box; "
            "give at least one image with a box"
        )
    found = metric.compute()
    return DetectionScores(
        _precision(found, "bbox_" if masks else ""), _precision(found, "segm_") if masks else None
    )


def _precision(found: dict[str, Tensor], kind: str) -> AveragePrecision:
    return AveragePrecision(*(float(found[kind + key]) for key in ("map", "map_50", "map_75")))
