"""How many blocks an image has, and which of them are coded. Encoder and decoder must agree."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BLOCK = 16  # side of a block, which has one mode and 256 coefficients a plane, in pixels
UNIT = 64  # side of what one position of the hyper-latent covers, in pixels
# A block whose pixels are all hidden is still coded if a pixel up to this far from it is visible.
VISIBLE_MARGIN = 4


def coded_sites(
    size: tuple[int, ...], hidden: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.bool_]:
    """Which sites of an image of `size` (H,W) are coded: [h,w] bool at 1/16 of the padded image.

    A site is one block of 16x16 pixels. It is coded if it holds at least one pixel of the image.
    hidden [H,W] marks pixels that are painted over. With it, a site is coded only if one of its own
    pixels, or one up to VISIBLE_MARGIN around them, is visible.
    """
    height, width = size
    rows, columns = (math.ceil(side / UNIT) * UNIT for side in size)
    seen = np.zeros((rows, columns), np.bool_)
    seen[:height, :width] = True
    sites = blocks_any(seen)
    if hidden is not None:
        seen[:height, :width] = ~hidden
        around = np.pad(seen, VISIBLE_MARGIN)
        for axis in (0, 1):
            parts = [np.roll(around, shift, axis) for shift in (-VISIBLE_MARGIN, 0, VISIBLE_MARGIN)]
            around = np.logical_or.reduce(parts)
        sites &= blocks_any(around[VISIBLE_MARGIN:-VISIBLE_MARGIN, VISIBLE_MARGIN:-VISIBLE_MARGIN])
    return sites


def blocks_any(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which blocks of [16h,16w] hold a True pixel: [h,w]."""
    height, width = pixels.shape
    blocks = pixels.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    any: npt.NDArray[np.bool_] = np.logical_or.reduce(blocks, (1, 3))
    return any


def hyper_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the hyper-latent z of an image of `size` (H,W)."""
    return math.ceil(size[0] / UNIT), math.ceil(size[1] / UNIT)
