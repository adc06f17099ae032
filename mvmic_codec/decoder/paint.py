"""Paint what is laid over decoded samples: flat areas, transparency, outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.flat import BLENDS, Flat, beside
from mvmic_codec.bitstream.grid import Box


@dataclass(frozen=True)
class Overlays:
    """What is laid over an image or a tile [H,W]; each is None where there is none.

    outliers  as flat areas, which have no blends
    alpha     uint8 [H,W]
    """

    flat: Flat | None = None
    outliers: Flat | None = None
    alpha: npt.NDArray[np.uint8] | None = None

    @property
    def hidden(self) -> npt.NDArray[np.bool_] | None:
        """Pixels [H,W] that the image data may leave out; None if all of them are coded."""
        parts = [
            None if self.flat is None else self.flat.hidden,
            None if self.outliers is None else self.outliers.map > 0,
            None if self.alpha is None else self.alpha == 0,
        ]
        given = [part for part in parts if part is not None]
        return np.logical_or.reduce(given) if given else None

    @property
    def painted(self) -> npt.NDArray[np.bool_] | None:
        """Pixels [H,W] whose samples say nothing of the decoded picture; None if there are none."""
        if self.flat is None:
            return self.hidden
        flat, hidden = self.flat.map > 0, self.hidden
        return flat if hidden is None else flat | hidden


def paint(samples: npt.NDArray[Any], flat: Flat, top: int = 0, left: int = 0) -> None:
    """Give flat pixels their colours, and mix blends in, in samples [h,w,J].

    samples are the part of a tile that begins in row `top` and column `left` of it. flat covers the
    whole tile. A blend of b quarters makes of a sample s and a colour c the nearest integer to
    ((4 - b) s + b c) / 4, halves up.
    """
    part = Box(top, left, *samples.shape[:2])
    map = flat.map[slices(part)]
    if flat.blends is not None:
        blends = flat.blends[slices(part)]
        at = np.nonzero(blends)
        share = blends[at].astype(np.int32)[:, None]
        colour = flat.colours[beside_in(flat, part)[at] - 1]
        parts = BLENDS + 1
        mixed = (parts - share) * samples[at].astype(np.int32) + share * colour
        samples[at] = (2 * mixed + parts) // (2 * parts)
    painted = map > 0
    samples[painted] = flat.colours[map[painted] - 1]


def paint_reduced(
    samples: npt.NDArray[Any], flat: Flat, scale: int, top: int = 0, left: int = 0
) -> None:
    """As `paint`, where each of the samples is the mean over a square of side `scale`.

    A colour counts as much as its share of the square: a flat pixel wholly, a blend by its
    quarters. The sample counts for the rest. At the edges of the tile only the pixels that it has
    make a square. So letters and edges come out as they would in a smaller copy of the picture.
    """
    if scale == 1:
        paint(samples, flat, top, left)
        return
    height, width, _ = samples.shape
    whole = Box(0, 0, *flat.map.shape)
    pixels = Box(scale * top, scale * left, scale * height, scale * width).overlap(whole)
    map = flat.map[slices(pixels)]
    parts = BLENDS + 1
    quarters = np.where(map > 0, np.uint8(parts), np.uint8(0))
    number = map
    if flat.blends is not None:
        quarters += flat.blends[slices(pixels)]
        number = np.where(map > 0, map, beside_in(flat, pixels))
    if not quarters.any():
        return
    free = sums_of_squares(parts - quarters.astype(np.int64), scale)
    mixed = free[..., None] * samples
    for k, colour in enumerate(flat.colours, 1):
        share = sums_of_squares(np.where(number == k, quarters, np.uint8(0)), scale)
        mixed += share[..., None] * colour
    count = parts * sums_of_squares(np.ones(map.shape, np.uint8), scale)[..., None]
    samples[...] = (2 * mixed + count) // (2 * count)


def slices(box: Box) -> tuple[slice, slice]:
    """The rows and the columns of a box."""
    return slice(box.top, box.bottom), slice(box.left, box.right)


def beside_in(flat: Flat, part: Box) -> npt.NDArray[np.uint8]:
    """What `flat.beside` gives for a part of a tile, whose neighbours may lie one pixel outside."""
    whole = Box(0, 0, *flat.map.shape)
    wider = Box(part.top - 1, part.left - 1, part.height + 2, part.width + 2).overlap(whole)
    return beside(flat.map[slices(wider)])[part.within(wider)]


def sums_of_squares(values: npt.NDArray[Any], scale: int) -> npt.NDArray[np.int64]:
    """Sums over squares of side `scale`; the last ones may be cut."""
    starts = [np.arange(0, side, scale) for side in values.shape]
    rows = np.add.reduceat(values, starts[0], axis=0, dtype=np.int64)
    return np.add.reduceat(rows, starts[1], axis=1)


class Painter:
    """Paints what is laid over tiles over parts of a window, and forgets it as soon as it can.

    window  of the image, in pixels
    scale   side of the square of pixels that a sample stands for, counted from the image's corner
    """

    def __init__(self, window: Box, scale: int = 1) -> None:
        self.scale, self.window = scale, window.reduced(scale)
        # By tile, what is laid over it and how many samples of the window are still to come.
        self.kept: dict[Box, tuple[Overlays, int]] = {}

    def keep(self, box: Box, laid: Overlays) -> None:
        """Take what is laid over the tile with this box."""
        if laid.painted is None:
            return
        tile = box.reduced(self.scale)
        seen = tile.overlap(self.window)
        # A tile may come twice, once for each strip of the window that needs it.
        if seen.height * seen.width and tile not in self.kept:
            self.kept[tile] = laid, seen.height * seen.width

    def paint(self, top: int, left: int, part: npt.NDArray[Any]) -> None:
        """Paint over a part of samples [h,w,J], which begins there from the window's corner."""
        place = Box(self.window.top + top, self.window.left + left, *part.shape[:2])
        for tile, (laid, waiting) in list(self.kept.items()):
            both = tile.overlap(place)
            if not both.height * both.width:
                continue
            samples, inner = part[both.within(place)], (both.top - tile.top, both.left - tile.left)
            self.paint_tile(samples, laid, *inner)
            waiting -= both.height * both.width
            if waiting:
                self.kept[tile] = laid, waiting
            else:
                del self.kept[tile]

    def paint_tile(self, samples: npt.NDArray[Any], laid: Overlays, top: int, left: int) -> None:
        """Paint over a part of a tile's samples, which begins there from the tile's corner."""
        if laid.flat is not None:
            paint_reduced(samples, laid.flat, self.scale, top, left)
        if laid.alpha is not None:
            part = alpha_part(laid.alpha, self.scale, Box(top, left, *samples.shape[:2]))
            samples[part == 0] = 0
        if laid.outliers is not None:
            paint_reduced(samples, laid.outliers, self.scale, top, left)


def alpha_part(alpha: npt.NDArray[np.uint8], scale: int, part: Box) -> npt.NDArray[np.uint8]:
    """A part of the transparency of a tile, each the mean over a square of side `scale`.

    part counts squares from the tile's corner. Halves are rounded up.
    """
    whole = Box(0, 0, *alpha.shape)
    pixels = Box(*(scale * each for each in part)).overlap(whole)
    mine = alpha[slices(pixels)]
    if scale == 1:
        return mine
    count = sums_of_squares(np.ones(mine.shape, np.uint8), scale)
    return ((2 * sums_of_squares(mine, scale) + count) // (2 * count)).astype(np.uint8)
