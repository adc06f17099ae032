"""The latent and the modes -> samples and feature maps: synthesis in C, part by part.

The latent comes in slabs of rows, from top to bottom. Synthesis takes stripes of these, and forgets
a slab before it asks for the next. A wide image is cut into bands of columns, which overlap by the
blocks that their samples depend on, and take each stripe one after the other. For a window of an
image, only the blocks that its samples depend on are looked at. No result depends on any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.grid import BLOCK, Box
from mvmic_codec.decoder.stripes import (
    PLANES,
    STRIDES,
    StripedSynthesis,
    coefficients_of,
    reach_of,
)
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.model.synthnet import samples
from mvmic_codec.model.team import Team

Array = npt.NDArray[Any]
# Takes a part of a window: its first row and column, from the window's corner, and samples [h,w,J].
EmitPart = Callable[[int, int, Array], object]
# Takes a part of a feature map: its name, its first row, its first column, and the part [h,w,C]. It
# may reach beyond the image, which is padded to whole units of `grid.UNIT`.
EmitMapPart = Callable[[str, int, int, Any], object]

# A stripe has about so many blocks, and a band so many columns of blocks, an even number.
STRIPE_BLOCKS = 2048
BAND_BLOCKS = 512


class Slab(NamedTuple):
    """Some rows of the blocks that synthesis needs, in all columns of these.

    modes         uint8 [h,w]; h is even
    coefficients  gives int16 [h,w,256J] for rows and columns of the slab
    """

    modes: Array
    coefficients: Callable[[slice, slice], Array]


@dataclass(frozen=True)
class Levels:
    """What samples are: from lo to hi, of a type as `image.samples.array_type` gives it."""

    lo: int
    hi: int
    type: np.dtype[Any]


def reconstruct(
    net: NativeSynthesis,
    latent: Array,
    modes: Array,
    rate: int,
    size: tuple[int, int],
    levels: Levels,
) -> Array:
    """Samples [H,W,J] of an image of `size` (H,W); the rest as `reconstruct_parts`."""
    whole = np.empty((*size, net.planes), levels.type)
    reconstruct_parts(net, latent, modes, rate, size, levels, partial(put, whole))
    return whole


def put(whole: Array, top: int, left: int, part: Array) -> None:
    """Copy a part [h,w,J] to its place in the whole [H,W,J]."""
    height, width, _ = part.shape
    whole[top : top + height, left : left + width] = part


def reconstruct_parts(
    net: NativeSynthesis,
    latent: Array,
    modes: Array,
    rate: int,
    size: tuple[int, int],
    levels: Levels,
    emit: EmitPart,
    *,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
    team: Team | None = None,
) -> None:
    """Pass the samples of an image of `size` (H,W) to `emit` part by part.

    latent  int16 [h,w,C] in eighths on the 255 scale, as `decode.decode_symbols` gives it
    modes   uint8 [h,w]
    team    whose threads compute; None makes one

    The rest is as for `synthesise_parts`.
    """
    blocks = Box(0, 0, *modes.shape)
    with Team() if team is None else nullcontext(team) as ours:
        synthesise_parts(
            net,
            ours,
            [latent_slab(net, ours, latent, modes)],
            blocks,
            rate,
            Box(0, 0, *size),
            levels,
            emit,
            emit_map=emit_map,
            until=until,
        )


def latent_slab(net: NativeSynthesis, team: Team, latent: Array, modes: Array) -> Slab:
    """A slab of a latent, int16 [h,w,C] in eighths on the 255 scale, and of modes, uint8 [h,w]."""

    def coefficients(rows: slice, columns: slice) -> Array:
        y, mine = (np.ascontiguousarray(each[rows, columns]) for each in (latent, modes))
        return coefficients_of(net, team, y, mine)

    return Slab(modes, coefficients)


def blocks_needed(window: Box, grid: tuple[int, int], reach: int) -> Box:
    """The blocks of a window of pixels, and so many around them where the image has them.

    grid  rows and columns of blocks of the padded image, even numbers like the edges of the result
    """
    top, left = (max(0, start // BLOCK // 2 * 2 - reach) for start in window[:2])
    ends = (-(-end // (2 * BLOCK)) * 2 for end in (window.bottom, window.right))
    bottom, right = (min(all, end + reach) for all, end in zip(grid, ends, strict=True))
    return Box(top, left, bottom - top, right - left)


def synthesise_parts(
    net: NativeSynthesis,
    team: Team,
    slabs: Iterable[Slab],
    blocks: Box,
    rate: int,
    window: Box,
    levels: Levels,
    emit: EmitPart,
    *,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
) -> None:
    """Pass the samples of a window of an image to `emit` part by part, each sample once.

    slabs     one below the other, all `blocks` of the image; each is taken when it is needed
    blocks    at least those that `blocks_needed` says for the window and `stripes.reach_of`
    window    in pixels
    emit_map  gets the feature maps on the way, part by part too; for the whole image only
    until     the feature map after which to stop, before there are samples
    """
    first, end = window.left // BLOCK // 2 * 2, -(-window.right // BLOCK)
    bands = [
        Band(net, team, left, min(BAND_BLOCKS, end - left), blocks, window, levels)
        for left in range(first, end, BAND_BLOCKS)
    ]
    done = 0
    for slab in slabs:
        # If this slab is all, a band is over before the next one begins, and needs no memory then.
        alone = len(slab.modes) == blocks.height
        for group in [[band] for band in bands] if alone else [bands]:
            if done == 0:
                for band in group:
                    band.begin(rate, emit, emit_map, until)
            take_slab(group, slab, is_last=done + len(slab.modes) == blocks.height)
            if alone:
                group[0].end()
        done += len(slab.modes)
        # Forgotten before the next one is made.
        del slab


def take_slab(bands: list[Band], slab: Slab, *, is_last: bool) -> None:
    """Bands take the next slab, stripe by stripe, together."""
    rows = len(slab.modes)
    height = stripe_height(max(band.covered.width for band in bands))
    for top in range(0, rows, height):
        stripe = slice(top, min(top + height, rows))
        for band in bands:
            mine = np.ascontiguousarray(slab.modes[stripe, band.columns])
            x = slab.coefficients(stripe, band.columns)
            band.synthesis(x, mine, last=is_last and stripe.stop == rows)


def stripe_height(columns: int) -> int:
    """Rows of blocks of a stripe that is so many blocks wide: an even number."""
    return max(2, STRIPE_BLOCKS // columns // 2 * 2)


class Band:
    """Synthesis of a band of columns, without those where it overlaps others.

    left, width  where the band begins, and how wide it is, without its overlap, in blocks
    covered      the blocks that it takes, with its overlap
    columns      its columns of a slab
    """

    def __init__(
        self,
        net: NativeSynthesis,
        team: Team,
        left: int,
        width: int,
        blocks: Box,
        window: Box,
        levels: Levels,
    ) -> None:
        self.net, self.team, self.levels, self.window = net, team, levels, window
        self.left, self.width = left, width + width % 2
        start = max(blocks.left, left - reach_of(net))
        end = min(blocks.right, left + self.width + reach_of(net))
        self.covered = Box(blocks.top, start, blocks.height, end - start)
        self.columns = slice(start - blocks.left, end - blocks.left)

    def begin(self, rate: int, emit: EmitPart, emit_map: EmitMapPart | None, until: str) -> None:
        """Be ready to take stripes from the top."""
        self.emit, self.emit_map = emit, emit_map
        # Rows that were given out.
        self.given = dict.fromkeys((*STRIDES, PLANES), 0)
        self.synthesis = StripedSynthesis(
            self.net,
            rate,
            self.covered.width,
            self.team,
            self.emit_planes,
            self.emit_map_rows,
            until,
        )

    def end(self) -> None:
        """Forget the rows that it has seen."""
        del self.synthesis

    def emit_map_rows(self, name: str, rows: Array) -> None:
        """Take the next rows [h,w,C] of a map."""
        if self.emit_map is None:
            return
        scale = BLOCK // STRIDES[name]
        margin = self.left - self.covered.left
        inner = slice(scale * margin, scale * (margin + self.width))
        self.emit_map(name, self.given[name], scale * self.left, rows[:, inner])
        self.given[name] += len(rows)

    def emit_planes(self, planes: Array) -> None:
        """Take the next rows of planes [J,h,w]."""
        count, width = planes.shape[1:]
        top = BLOCK * self.covered.top + self.given[PLANES]
        rows = Box(top, BLOCK * self.covered.left, count, width)
        self.given[PLANES] += count
        mine = Box(top, BLOCK * self.left, count, BLOCK * self.width).overlap(self.window)
        if mine.height == 0:
            return
        inner, columns = mine.within(rows)
        planes = planes[:, inner]
        if columns.start:
            planes = np.ascontiguousarray(planes[:, :, columns])
        part = samples_of_planes(self.net, self.team, planes, mine.width, self.levels)
        self.emit(mine.top - self.window.top, mine.left - self.window.left, part)


def samples_of_planes(
    net: NativeSynthesis, team: Team, planes: Array, width: int, levels: Levels
) -> Array:
    """Samples [h,width,J] of the first columns of planes, int32 [J,h,w] in 2^-12."""
    lo, hi = levels.lo, levels.hi
    out = np.empty((planes.shape[1], width, len(planes)), levels.type)
    if lo == hi:
        out[...] = lo
    else:
        rows = partial(samples, planes, net.matrix, lo, hi - lo, out)
        team.run(lambda first, count: rows(first, count, net.path), planes.shape[1], 1)
    return out
