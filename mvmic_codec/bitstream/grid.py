"""What an image's size says of its symbols: encoder and decoder ask alike."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BLOCK = 16  # side of what has a mode and coefficients, in pixels
UNIT = 64  # the hyper-latent's grid, in pixels
# A block whose pixels are all hidden is coded if one this near to it is not, in pixels.
SEEN_AROUND = 4


def coded_sites(
    size: tuple[int, ...], hidden: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.bool_]:
    """[h,w] bool at 1/16 of an image of `size` (H,W), padded: sites that something is coded of.

    These are sites that hold at least one pixel. With hidden [H,W], pixels that are painted over,
    one of these or of those around the site, up to SEEN_AROUND away, must be seen.
    """
    height, width = size
    rows, columns = (math.ceil(side / UNIT) * UNIT for side in size)
    seen = np.zeros((rows, columns), np.bool_)
    seen[:height, :width] = True
    sites = blocks_any(seen)
    if hidden is not None:
        seen[:height, :width] = ~hidden
        around = np.pad(seen, SEEN_AROUND)
        for axis in (0, 1):
            parts = [np.roll(around, shift, axis) for shift in (-SEEN_AROUND, 0, SEEN_AROUND)]
            around = np.logical_or.reduce(parts)
        sites &= blocks_any(around[SEEN_AROUND:-SEEN_AROUND, SEEN_AROUND:-SEEN_AROUND])
    return sites


def blocks_any(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[h,w]: which blocks of [16h,16w] hold a true one."""
    height, width = pixels.shape
    blocks = pixels.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    any: npt.NDArray[np.bool_] = np.logical_or.reduce(blocks, (1, 3))
    return any


def hyper_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of z, of an image of `size` (H,W)."""
    return math.ceil(size[0] / UNIT), math.ceil(size[1] / UNIT)
