"""`GroundTruth`: what is known of an image, and how it follows from masks, boxes and outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as runs
from scipy import ndimage
from torch import Tensor

# The class of samples that do not count, neither in a loss nor in a score.
IGNORED = 255
# Connected parts of a mask with fewer samples are slips of the pen, not objects.
SMALLEST_PART = 64


@dataclass(frozen=True)
class GroundTruth:
    """What is known of one image of H rows and W columns. None for what its data set lacks.

    mask       uint8 [H,W]: the class of each sample, 0 the background, or IGNORED
    boxes      float32 [K,4]: left, top, right and bottom edge of K objects, in samples
    labels     int64 [K]: the class of each object, from 1
    instances  bool [K,H,W]: which samples belong to each object
    """

    mask: Tensor | None = None
    boxes: Tensor | None = None
    labels: Tensor | None = None
    instances: Tensor | None = None


def of_binary_mask(mask: npt.NDArray[np.bool_]) -> GroundTruth:
    """The truth of a mask [H,W] of one class. Its objects are the connected parts, of class 1.

    Samples are connected to all eight neighbours. Parts of fewer than SMALLEST_PART samples are no
    objects: they have no box, but stay in the mask.
    """
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(parts.ravel())[1:]
    kept = [k for k, area in enumerate(areas, 1) if area >= SMALLEST_PART]
    places = ndimage.find_objects(parts)
    boxes = []
    for rows, columns in (places[k - 1] for k in kept):
        boxes.append([columns.start, rows.start, columns.stop, rows.stop])
    return GroundTruth(
        torch.from_numpy(mask.astype(np.uint8)),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.ones(len(kept), dtype=torch.int64),
        torch.from_numpy(parts[None] == np.reshape(kept, (-1, 1, 1)).astype(parts.dtype)),
    )


def of_objects(
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    outlines: Sequence[Any] | None,
    crowds: Sequence[Any] = (),
) -> GroundTruth:
    """The truth of K objects in an image of `size` (H,W).

    boxes     left, top, right, bottom of each
    outlines  COCO's segmentation of each: a list of polygons, each [x, y, x, y, ...], or a run
              length encoding. None if there are only boxes. Then there is no mask either
    crowds    outlines of what does not count

    In the mask the smaller of two objects lies on top. Polygons of fewer than three points have no
    area. An object without any other is its box.
    """
    found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    classes = torch.tensor(labels, dtype=torch.int64)
    if outlines is None:
        return GroundTruth(None, found, classes, None)
    height, width = size
    instances = np.zeros((len(boxes), height, width), np.bool_)
    for k, (outline, (left, top, right, bottom)) in enumerate(zip(outlines, boxes, strict=True)):
        instances[k] = _drawn(outline, size, [left, top, right - left, bottom - top])
    mask = np.zeros(size, np.uint8)
    for outline in crowds:
        mask[_drawn(outline, size, [0, 0, 0, 0])] = IGNORED
    for k in np.argsort(-instances.sum((1, 2)), kind="stable"):
        mask[instances[k]] = labels[k]
    return GroundTruth(torch.from_numpy(mask), found, classes, torch.from_numpy(instances))


def _drawn(outline: Any, size: tuple[int, int], box: list[float]) -> npt.NDArray[np.bool_]:
    """An outline as a mask [H,W]. A box (left, top, width, height) in place of one without area."""
    if isinstance(outline, dict):
        coded = outline
        if isinstance(outline["counts"], list):
            coded = runs.frPyObjects(outline, *size)
    else:
        # pycocotools takes four numbers for a box.
        polygons = [polygon for polygon in outline if len(polygon) >= 6]
        coded = runs.merge(runs.frPyObjects(polygons or [box], *size))
    drawn: npt.NDArray[np.bool_] = runs.decode(coded).astype(np.bool_)
    return drawn
