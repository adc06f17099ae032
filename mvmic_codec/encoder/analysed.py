"""Analysis of an image, and of another version of it that differs in a few places.

A layer's output is the same where its input does not differ within its reach. There the output of
the first version is reused.
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

# A rectangle of at most so many blocks is not cut in two: that is not worth it.
BOX_MIN = 64
# Least side, in blocks, of a part that a layer gets. torch multiplies smaller ones in another
# order, and sums would differ in their last bit.
SIDE_MIN = 12
# If the parts come to this share of the image, the whole image is computed.
SHARE_MAX = 0.8


class Analysed:
    """Coefficients [1,256P,h,w] of rotated planes [1,P,16h,16w] at rates [1].

    like is the analysis of another version of the image at the same rate.
    """

    linear: Tensor
    coefficients: Tensor

    def __init__(
        self, net: Analysis, rotated: Tensor, rates: Tensor, like: Analysed | None = None
    ) -> None:
        self.rotated = rotated
        changed = None if like is None else blocks_changed(rotated, like.rotated)
        before = None if like is None else like.linear
        self.linear = apply_in_part(net.linear_coefficients, 1, rotated, before, grown(changed, 1))
        # The output of each stage of the branch.
        self.outputs: list[Tensor] = []
        x = rotated
        for number, (layer, reach) in enumerate(net.stages(rates)):
            changed = grown(changed, reach)
            before = like.outputs[number] if like else None
            x = apply_in_part(layer, reach, x, before, changed)
            self.outputs.append(x)
        self.coefficients = self.linear + x


def blocks_changed(now: Tensor, before: Tensor) -> Mask:
    """[h,w]: blocks of [1,P,16h,16w] that differ anywhere."""
    differ = (now != before).any(1)[0].cpu().numpy()
    height, width = differ.shape
    blocks = differ.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    out: Mask = np.logical_or.reduce(blocks, (1, 3))
    return out


def grown(mask: Mask | None, reach: int) -> Mask | None:
    """The mask [h,w] and all blocks up to `reach` away from it."""
    if mask is None or not reach:
        return mask
    wide = F.max_pool2d(torch.from_numpy(mask)[None].float(), 2 * reach + 1, 1, reach)
    out: Mask = wide[0].numpy() > 0
    return out


def apply_in_part(
    layer: Layer, reach: int, x: Tensor, before: Tensor | None, changed: Mask | None
) -> Tensor:
    """The layer's output for x, computed only in and near the blocks `changed` [h,w].

    before is its output for another input, which differs from x in those blocks alone.
    """
    if before is None or changed is None:
        return layer(x)
    height, width = changed.shape
    boxes = boxes_of(changed, BOX_MIN)
    parts = [
        [with_margin(side, size, reach) for side, size in zip(box, (height, width), strict=True)]
        for box in boxes
    ]
    area = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)
    if area >= SHARE_MAX * changed.size:
        return layer(x)
    out = before.clone()
    size, scale = x.shape[2] // height, before.shape[2] // height
    for box, (rows, columns) in zip(boxes, parts, strict=True):
        part = layer(x[:, :, scaled(rows, size), scaled(columns, size)].contiguous())
        down, right = (
            scaled(slice(side.start - start.start, side.stop - start.start), scale)
            for side, start in zip(box, (rows, columns), strict=True)
        )
        out[:, :, scaled(box[0], scale), scaled(box[1], scale)] = part[:, :, down, right]
    return out


def with_margin(side: slice, size: int, reach: int) -> slice:
    """A range of blocks with `reach` more on either side, or more than that up to SIDE_MIN.

    It stays within 0 to size.
    """
    more = max(reach, -(-(SIDE_MIN - (side.stop - side.start)) // 2))
    start, stop = side.start - more, side.stop + more
    # What would lie outside on one side is added on the other.
    start, stop = start - max(0, stop - size), stop + max(0, -start)
    return slice(max(0, start), min(size, stop))


def scaled(side: slice, scale: int) -> slice:
    """A range of blocks as a range of rows or columns, of which each block has `scale`."""
    return slice(scale * side.start, scale * side.stop)
