"""What analysis makes of an image, and of another version of it that differs in places only.

A layer's result is the same where nothing differs within its reach, and is taken over there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.encoder.boxes import boxes_of
from mvmic_codec.model.analysis import Analysis

Mask = npt.NDArray[np.bool_]
Layer = Callable[[Tensor], Tensor]

# Blocks that a rectangle has at least: it is not worth cutting.
LEAST = 64
# Side in blocks of the least part that a layer is given. torch multiplies smaller ones in another
# order, and sums would differ in their last bit.
SIDE = 12
# All is computed if the parts come to this share of it.
MOST = 0.8


class Analysed:
    """Coefficients [1,256P,h,w] of rotated planes [1,P,16h,16w] at rates [1].

    like is another version of the image at the same rate, analysed before.
    """

    linear: Tensor
    coefficients: Tensor

    def __init__(
        self, net: Analysis, rotated: Tensor, rates: Tensor, like: Analysed | None = None
    ) -> None:
        self.rotated = rotated
        changed = None if like is None else blocks_changed(rotated, like.rotated)
        before = None if like is None else like.linear
        self.linear = again(net.linear_coefficients, 1, rotated, before, grown(changed, 1))
        # What each stage of the branch gives.
        self.given: list[Tensor] = []
        x = rotated
        for number, (layer, reach) in enumerate(net.stages(rates)):
            changed = grown(changed, reach)
            x = again(layer, reach, x, like.given[number] if like else None, changed)
            self.given.append(x)
        self.coefficients = self.linear + x


def blocks_changed(now: Tensor, before: Tensor) -> Mask:
    """[h,w]: blocks of [1,P,16h,16w] that differ anywhere."""
    differ = (now != before).any(1)[0].cpu().numpy()
    height, width = differ.shape
    blocks = differ.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    out: Mask = np.logical_or.reduce(blocks, (1, 3))
    return out


def grown(mask: Mask | None, reach: int) -> Mask | None:
    """With what is up to `reach` blocks away."""
    if mask is None or not reach:
        return mask
    wide = F.max_pool2d(torch.from_numpy(mask)[None].float(), 2 * reach + 1, 1, reach)
    out: Mask = wide[0].numpy() > 0
    return out


def again(
    layer: Layer, reach: int, x: Tensor, before: Tensor | None, changed: Mask | None
) -> Tensor:
    """Layer of x, if it gave `before` of what differs from x in the blocks `changed` alone."""
    if before is None or changed is None:
        return layer(x)
    height, width = changed.shape
    boxes = boxes_of(changed, LEAST)
    parts = [
        [margin(side, size, reach) for side, size in zip(box, (height, width), strict=True)]
        for box in boxes
    ]
    area = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    if area >= MOST * changed.size:
        return layer(x)
    out = before.clone()
    size, scale = x.shape[2] // height, before.shape[2] // height
    for box, (rows, columns) in zip(boxes, parts, strict=True):
        part = layer(x[:, :, times(rows, size), times(columns, size)].contiguous())
        down, right = (
            times(slice(side.start - start.start, side.stop - start.start), scale)
            for side, start in zip(box, (rows, columns), strict=True)
        )
        out[:, :, times(box[0], scale), times(box[1], scale)] = part[:, :, down, right]
    return out


def margin(side: slice, size: int, reach: int) -> slice:
    """With `reach` on either side, and more where that would be too small, within 0 to size."""
    more = max(reach, -(-(SIDE - (side.stop - side.start)) // 2))
    start, stop = side.start - more, side.stop + more
    # What sticks out on one side is added on the other.
    start, stop = start - max(0, stop - size), stop + max(0, -start)
    return slice(max(0, start), min(size, stop))


def times(side: slice, scale: int) -> slice:
    """In rows of blocks of that many."""
    return slice(scale * side.start, scale * side.stop)
