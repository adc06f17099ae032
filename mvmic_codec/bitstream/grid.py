"""How an image is cut into tiles and blocks, and which blocks are coded.

Encoder and decoder must agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 16  # side of a block, which has one mode and 256 coefficients a plane, in pixels
UNIT = 64  # side of what one position of the hyper-latent covers, in pixels
# A block whose pixels are all hidden is still coded if a pixel up to this far from it is visible.
VISIBLE_MARGIN = 4


class Box(NamedTuple):
    """A rectangle of pixels, or of blocks."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The column after the last."""
        return self.left + self.width

    def overlap(self, other: Box) -> Box:
        """What both cover. Its height or width is 0 if they do not meet."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height = min(self.bottom, other.bottom) - top
        width = min(self.right, other.right) - left
        return Box(top, left, max(height, 0), max(width, 0))

    def reduced(self, scale: int) -> Box:
        """The squares of side `scale` that have pixels in it, as a box of such squares."""
        top, left = self.top // scale, self.left // scale
        bottom, right = math.ceil(self.bottom / scale), math.ceil(self.right / scale)
        return Box(top, left, bottom - top, right - left)

    def within(self, outer: Box) -> tuple[slice, slice]:
        """Its rows and columns, counted from the corner of a box that it lies in."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.height), slice(left, left + self.width)


class Sides(NamedTuple):
    """On which sides a tile borders on other tiles. The other sides are edges of the image."""

    top: bool = False
    left: bool = False
    bottom: bool = False
    right: bool = False


ALONE = Sides()


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles, row by row from the top left.

    size  the image's (H,W)
    side  of a tile in pixels, a multiple of UNIT; or 0, where the whole image is one tile
    """

    size: tuple[int, int]
    side: int

    @property
    def rows(self) -> int:
        """How many rows of tiles there are."""
        return math.ceil(self.size[0] / self.side) if self.side else 1

    @property
    def columns(self) -> int:
        """How many columns of tiles there are."""
        return math.ceil(self.size[1] / self.side) if self.side else 1

    @property
    def image(self) -> Box:
        """The whole image."""
        return Box(0, 0, *self.size)

    def box(self, row: int, column: int) -> Box:
        """The pixels of a tile. The edges of the image cut the last row and the last column."""
        full = Box(row * self.side, column * self.side, self.side, self.side)
        return full.overlap(self.image) if self.side else self.image

    def sides(self, row: int, column: int) -> Sides:
        """Where a tile borders on others."""
        return Sides(row > 0, column > 0, row < self.rows - 1, column < self.columns - 1)

    def covering(self, window: Box) -> tuple[range, range]:
        """Rows and columns of the tiles that have pixels in a window of the image."""
        if not self.side:
            return range(1), range(1)
        rows = range(window.top // self.side, math.ceil(window.bottom / self.side))
        columns = range(window.left // self.side, math.ceil(window.right / self.side))
        return rows[: self.rows], columns[: self.columns]


def coded_sites(
    size: tuple[int, ...], hidden: npt.NDArray[np.bool_] | None, sides: Sides = ALONE
) -> npt.NDArray[np.bool_]:
    """Which sites of a tile of `size` (H,W) are coded: [h,w] bool at 1/16 of the padded tile.

    A site is one block of 16x16 pixels. It is coded if it holds at least one pixel of the tile.
    hidden [H,W] marks pixels that are painted over. With it, a site is coded only if one of its own
    pixels, or one up to VISIBLE_MARGIN around them, is visible. Pixels of other tiles count as
    visible; sides says where there are any.
    """
    height, width = size
    rows, columns = (math.ceil(side / UNIT) * UNIT for side in size)
    seen = np.zeros((rows, columns), np.bool_)
    seen[:height, :width] = True
    sites = blocks_any(seen)
    if hidden is not None:
        seen[:height, :width] = ~hidden
        around = np.pad(seen, VISIBLE_MARGIN)
        around[:VISIBLE_MARGIN] |= sides.top
        around[-VISIBLE_MARGIN:] |= sides.bottom
        around[:, :VISIBLE_MARGIN] |= sides.left
        around[:, -VISIBLE_MARGIN:] |= sides.right
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


def block_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of blocks of an image of `size` (H,W), padded to whole units."""
    rows, columns = hyper_size(size)
    return rows * (UNIT // BLOCK), columns * (UNIT // BLOCK)
