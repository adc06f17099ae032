"""The latent and the modes -> samples and feature maps: synthesis in C, part by part.

Parts are stripes of rows, from top to bottom. A wide image is first cut into bands of columns,
which overlap by the blocks that their samples depend on. No result depends on either.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.grid import BLOCK
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
# Takes a part of an image: its first row, its first column, and samples [h,w,J].
EmitPart = Callable[[int, int, Array], object]
# Takes a part of a feature map: its name, its first row, its first column, and the part [h,w,C]. It
# may reach beyond the image, which is padded to whole units of `grid.UNIT`.
EmitMapPart = Callable[[str, int, int, Any], object]

# A stripe has about so many blocks, and a band so many columns of blocks, an even number.
STRIPE_BLOCKS = 2048
BAND_BLOCKS = 512


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
    with Team() if team is None else nullcontext(team) as ours:

        def coefficients(rows: slice, columns: slice) -> Array:
            y, mine = (np.ascontiguousarray(each[rows, columns]) for each in (latent, modes))
            return coefficients_of(net, ours, y, mine)

        synthesise_parts(
            net, ours, coefficients, modes, rate, size, levels, emit, emit_map=emit_map, until=until
        )


def synthesise_parts(
    net: NativeSynthesis,
    team: Team,
    coefficients: Callable[[slice, slice], Array],
    modes: Array,
    rate: int,
    size: tuple[int, int],
    levels: Levels,
    emit: EmitPart,
    *,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
) -> None:
    """As `reconstruct_parts`, from coefficients.

    coefficients  gives int16 [h,w,256J] for rows and columns of blocks
    modes         uint8 [h,w]
    emit_map      gets the feature maps on the way, part by part too
    until         the feature map after which to stop, before there are samples
    """
    rows, columns = modes.shape
    width = min(columns, BAND_BLOCKS)
    for left in range(0, columns, width):
        start = max(0, left - reach_of(net))
        end = min(columns, left + width + reach_of(net))
        band = Band(net, team, left, left - start, width, size, levels, emit, emit_map)
        synthesis = StripedSynthesis(
            net, rate, end - start, team, band.emit_planes, band.emit_map_rows, until
        )
        height = max(2, STRIPE_BLOCKS // (end - start) // 2 * 2)
        for top in range(0, rows, height):
            stripe = slice(top, min(top + height, rows))
            x = coefficients(stripe, slice(start, end))
            mine = np.ascontiguousarray(modes[stripe, start:end])
            synthesis(x, mine, last=stripe.stop == rows)


class Band:
    """Passes on the rows of a band of columns without the columns where it overlaps others.

    left, margin, width in blocks: where the band begins without its overlap, how far it overlaps to
    the left, and how wide it is without.
    """

    def __init__(
        self,
        net: NativeSynthesis,
        team: Team,
        left: int,
        margin: int,
        width: int,
        size: tuple[int, int],
        levels: Levels,
        emit: EmitPart,
        emit_map: EmitMapPart | None,
    ) -> None:
        self.net, self.team, self.levels = net, team, levels
        self.left, self.margin, self.width, self.size = left, margin, width, size
        self.emit, self.emit_map = emit, emit_map
        self.top = dict.fromkeys((*STRIDES, PLANES), 0)

    def emit_map_rows(self, name: str, rows: Array) -> None:
        """Take the next rows [h,w,C] of a map."""
        if self.emit_map is None:
            return
        scale = BLOCK // STRIDES[name]
        inner = slice(scale * self.margin, scale * (self.margin + self.width))
        self.emit_map(name, self.top[name], scale * self.left, rows[:, inner])
        self.top[name] += len(rows)

    def emit_planes(self, planes: Array) -> None:
        """Take the next rows of planes [J,h,w]."""
        top, left = self.top[PLANES], BLOCK * self.left
        self.top[PLANES] += planes.shape[1]
        height = min(planes.shape[1], self.size[0] - top)
        width = min(BLOCK * self.width, self.size[1] - left)
        if height <= 0 or width <= 0:
            return
        if self.margin or BLOCK * self.width < planes.shape[2]:
            first = BLOCK * self.margin
            planes = np.ascontiguousarray(planes[:, :, first : first + BLOCK * self.width])
        lo, hi = self.levels.lo, self.levels.hi
        out = np.empty((planes.shape[1], width, len(planes)), self.levels.type)
        if lo == hi:
            out[...] = lo
        else:
            rows = partial(samples, planes, self.net.matrix, lo, hi - lo, out)
            path = self.net.path
            self.team.run(lambda first, count: rows(first, count, path), planes.shape[1], 1)
        self.emit(top, left, out[:height])
