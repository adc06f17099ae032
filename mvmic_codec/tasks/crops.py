"""Crops of samples and batches of them, maps and ground truth together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK, UNIT
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.errors import InputError
from mvmic_codec.tasks.dataset import TaskSample
from mvmic_codec.tasks.truth import IGNORED, GroundTruth

# Samples for each element of a map. Networks that learn from pixels keep those among the maps.
SAMPLES = {**STRIDES, "pixels": 1}


class Batch(TypedDict):
    """N samples, padded on the right and below to the largest height H and the largest width W.

    names         of the images
    maps          by name, float32 [N,C,ceil(H/stride),ceil(W/stride)], zero in the padding
    sizes         (H,W) of each sample without padding
    rate_indices  int64 [N]
    fingerprint   of the model that wrote all files
    flat          bool [N,H,W], False in the padding
    mask          int64 [N,H,W], IGNORED in the padding; None if the data set has no masks
    targets       for each sample boxes [K,4], labels [K] and, where there are instances, masks
                  uint8 [K,H,W], as torchvision's detectors want them; None if there are no boxes
    """

    names: list[str]
    maps: OrderedDict[str, Tensor]
    sizes: list[tuple[int, int]]
    rate_indices: Tensor
    fingerprint: bytes
    flat: Tensor
    mask: Tensor | None
    targets: list[dict[str, Tensor]] | None


def crop(sample: TaskSample, top: int, left: int, size: tuple[int, int]) -> TaskSample:
    """The part of a sample from row `top` and column `left`, of `size` (H,W).

    Where the sample ends before the part does, the maps are zero and the mask is IGNORED. Boxes are
    cut at the edges. Objects of which nothing is left are left out.

    Raises InputError for a corner that is no multiple of 16, and a size that is none of 64.
    """
    if top % BLOCK or left % BLOCK or min(top, left) < 0 or any(s % UNIT or s < 1 for s in size):
        raise InputError(
            f"a crop of {size[1]}x{size[0]} at {left},{top} does not lie on the grid of maps: its "
            f"corner must be at multiples of {BLOCK}, its size of {UNIT}"
        )
    return _cut(sample, top, left, size)


def random_crop(sample: TaskSample, size: tuple[int, int]) -> TaskSample:
    """A crop of `size` (H,W) at a random place of the grid, by torch's random numbers."""
    top, left = (
        BLOCK * int(torch.randint(max(-(-whole // BLOCK) - part // BLOCK, 0) + 1, ()))
        for whole, part in zip(sample.size, size, strict=True)
    )
    return crop(sample, top, left, size)


def collate(samples: Sequence[TaskSample]) -> Batch:
    """Samples as one batch. Raises InputError if they are of two models or have different maps."""
    first = samples[0]
    if any(each.fingerprint != first.fingerprint for each in samples):
        raise InputError(
            "features of gray and colour images, or of two models, cannot be in one batch"
        )
    if any(list(each.maps) != list(first.maps) for each in samples):
        raise InputError("samples with different maps cannot be in one batch")
    height, width = (max(each.size[side] for each in samples) for side in (0, 1))
    padded = [_cut(each, 0, 0, (height, width)) for each in samples]
    truths = [each.truth for each in padded]
    masks = [truth.mask for truth in truths if truth.mask is not None]
    targets = [_target(truth) for truth in truths if truth.boxes is not None]
    for known in (masks, targets):
        if known and len(known) < len(samples):
            raise InputError("samples with and without masks, or boxes, cannot be in one batch")
    return Batch(
        names=[each.name for each in samples],
        maps=OrderedDict(
            (name, torch.stack([each.maps[name] for each in padded])) for name in first.maps
        ),
        sizes=[each.size for each in samples],
        rate_indices=torch.tensor([each.rate_index for each in samples]),
        fingerprint=first.fingerprint,
        flat=torch.stack([each.flat for each in padded]),
        mask=torch.stack(masks).long() if masks else None,
        targets=targets or None,
    )


def _target(truth: GroundTruth) -> dict[str, Tensor]:
    assert truth.boxes is not None and truth.labels is not None
    target = {"boxes": truth.boxes, "labels": truth.labels}
    if truth.instances is not None:
        target["masks"] = truth.instances.to(torch.uint8)
    return target


def _cut(sample: TaskSample, top: int, left: int, size: tuple[int, int]) -> TaskSample:
    maps = OrderedDict(
        (name, _part(each, *(-(-side // SAMPLES[name]) for side in (top, left, *size))))
        for name, each in sample.maps.items()
    )
    flat = _part(sample.flat, top, left, *size)
    return replace(
        sample, maps=maps, size=size, flat=flat, truth=_cut_truth(sample.truth, top, left, size)
    )


def _cut_truth(truth: GroundTruth, top: int, left: int, size: tuple[int, int]) -> GroundTruth:
    mask, boxes, labels, instances = truth.mask, truth.boxes, truth.labels, truth.instances
    if mask is not None:
        mask = _part(mask, top, left, *size, value=IGNORED)
    if boxes is not None and labels is not None:
        boxes = boxes - boxes.new_tensor([left, top, left, top])
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([size[1], size[0]] * 2))
        kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
        if instances is not None:
            instances = _part(instances, top, left, *size)
            kept &= instances.flatten(1).any(1)
            instances = instances[kept]
        boxes, labels = boxes[kept], labels[kept]
    return GroundTruth(mask, boxes, labels, instances)


def _part(whole: Tensor, top: int, left: int, height: int, width: int, value: float = 0) -> Tensor:
    """Rows and columns of [...,H,W], with a value where the whole has none."""
    part = whole[..., top : top + height, left : left + width]
    return F.pad(part, (0, width - part.shape[-1], 0, height - part.shape[-2]), value=value)
