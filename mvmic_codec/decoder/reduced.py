"""The coefficients -> samples of a smaller picture: means over squares of pixels.

They come from the linear picture of formats/model.md, section 9: no network runs on the image.
Trained networks also shift brightness and colour. So what they make of a picture of zeros is added
everywhere.

A mean over k x k pixels is linear in the coefficients, and separable. A block's coefficients reach
8 pixels beyond the block on each side, since the filter across borders spreads them. So each block
gives a patch of 32/k x 32/k means, and patches overlap by half. All of it is sums of integers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.grid import BLOCK, Box, block_size
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.decode import levels_of, model_of_file
from mvmic_codec.decoder.reconstruct import (
    EmitPart,
    Levels,
    Slab,
    blocks_needed,
    samples_of_planes,
    stripe_height,
)
from mvmic_codec.decoder.stripes import StripedSynthesis
from mvmic_codec.decoder.tiles import EmitOverlays, TileOf, tile_slabs, tiling_of
from mvmic_codec.model.definition import (
    AREA,
    COEFFICIENT_BITS,
    MATRIX_BITS,
    PLANE_BITS,
    PLANE_MAX,
)
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.model.team import Team

Wide = npt.NDArray[np.int64]
# Integers below 2^53: their sums are exact, in any order, and matrices multiply fast.
Reals = npt.NDArray[np.float64]

# Sides of the squares of pixels that one sample may stand for.
SCALES = (2, 4, 8, 16)
# A patch of larger squares would end within one. Their means are those of four smaller ones.
_LARGEST_SQUARE = 8
_HALF = BLOCK // 2
# Blocks around a window whose patches reach into it, an even number as that of all blocks.
_REACH = 2
# Fractional bits of what `Patches` adds up.
_SUM_BITS = COEFFICIENT_BITS + 2 * MATRIX_BITS


def decode_reduced_parts(
    header: Header,
    tile_of: TileOf,
    emit: EmitPart,
    scale: int,
    *,
    window: Box,
    emit_overlays: EmitOverlays = lambda box, areas: None,
) -> None:
    """As `parts.decode_parts` on the CPU, of the picture of means over squares of side `scale`.

    window is one of the image, in pixels. Parts are of `window.reduced(scale)`. Squares at the
    right and bottom edge take in pixels of the padding.
    """
    model = model_of_file(header)
    grid = block_size(tiling_of(header).size)
    blocks = blocks_needed(window, grid, _REACH)
    with Team() as team:
        reduce_parts(
            model.synthesis,
            team,
            tile_slabs(model, header, tile_of, blocks, team, emit_overlays),
            blocks,
            grid,
            header.rate_index,
            scale,
            window.reduced(scale),
            levels_of(header),
            emit,
        )


def reduce_parts(
    net: NativeSynthesis,
    team: Team,
    slabs: Iterable[Slab],
    blocks: Box,
    grid: tuple[int, int],
    rate: int,
    scale: int,
    window: Box,
    levels: Levels,
    emit: EmitPart,
) -> None:
    """Pass the samples of a window of the smaller picture to `emit` part by part.

    slabs   one below the other, all `blocks` of the image
    blocks  at least those that `blocks_needed` says for the window and _REACH
    grid    rows and columns of blocks of the padded image
    scale   one of SCALES
    window  of the smaller picture
    """
    patches, added = Patches(net, blocks, grid, scale), added_to_nothing(net, team, rate)
    per_block = BLOCK // scale
    top, left, width = (per_block * each for each in (blocks.top, blocks.left, blocks.width))
    height = stripe_height(blocks.width)
    for modes, coefficients in slabs:
        for start in range(0, len(modes), height):
            stripe = slice(start, min(start + height, len(modes)))
            planes = patches.add(coefficients(stripe, slice(0, blocks.width))) + added
            rows = Box(top, left, planes.shape[1], width)
            top += rows.height
            mine = rows.overlap(window)
            if mine.height:
                inner, columns = mine.within(rows)
                cut = np.ascontiguousarray(planes[:, inner, columns])
                part = samples_of_planes(net, team, cut, mine.width, levels)
                emit(mine.top - window.top, mine.left - window.left, part)
        # Forgotten before the next one is made.
        del modes, coefficients


def added_to_nothing(net: NativeSynthesis, team: Team, rate: int) -> npt.NDArray[np.int32]:
    """What the networks make of a picture of zeros: a mean of planes, [J,1,1] in 2^-12.

    It is that of the inner of 8 x 8 blocks: edges do not matter there.
    """
    parts: list[npt.NDArray[np.int32]] = []
    synthesis = StripedSynthesis(net, rate, 8, team, lambda rows: parts.append(rows.copy()))
    nothing = np.zeros((8, 8, AREA * net.planes), np.int16), np.zeros((8, 8), np.uint8)
    synthesis(*nothing, last=True)
    inner = np.concatenate(parts, 1)[:, 3 * BLOCK : 5 * BLOCK, 3 * BLOCK : 5 * BLOCK]
    count = inner[0].size
    sums = inner.sum((1, 2), np.int64, keepdims=True)
    mean: npt.NDArray[np.int32] = ((sums + count // 2) // count).astype(np.int32)
    return mean


class Patches:
    """Adds up the patches of blocks, row of blocks by row of blocks.

    blocks  those that come, from the top
    grid    rows and columns of blocks of the padded image
    scale   one of SCALES

    Means that reach out of blocks are wrong, unless the image ends there.
    """

    def __init__(
        self, net: NativeSynthesis, blocks: Box, grid: tuple[int, int], scale: int
    ) -> None:
        self.blocks, self.grid = blocks, grid
        square = min(scale, _LARGEST_SQUARE)
        self.joined = scale // square
        self.means = BLOCK // square
        self.inner, self.first, self.last = patch_matrices(net, square)
        self.row = blocks.top
        width = self.means * blocks.width
        # Rows of sums that are complete, but not all those of their blocks; and what the last row
        # of patches adds to rows that are not.
        self.rest: Reals = np.empty((net.planes, 0, width))
        self.carry: Reals = np.zeros((net.planes, self.means, width))

    def add(self, coefficients: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
        """Take the next rows of coefficients, [h,w,256J] in eighths.

        Returns the next rows of planes, [J,rows,columns] in 2^-12: all that are complete.
        """
        sums = self.down(self.across(coefficients)).astype(np.int64)
        bits = _SUM_BITS - PLANE_BITS
        if self.joined > 1:
            planes, rows, columns = sums.shape
            sums = sums.reshape(planes, rows // 2, 2, columns // 2, 2).sum((2, 4))
            bits += 2
        means = (sums + (1 << bits - 1)) >> bits
        return means.clip(-PLANE_MAX, PLANE_MAX).astype(np.int32)

    def across(self, coefficients: npt.NDArray[np.int16]) -> Reals:
        """Sums along rows: [h,w+1,J,16,means], by vertical frequency, from half a block before."""
        height, width, count = coefficients.shape
        x = coefficients.reshape(height, width, -1, BLOCK, BLOCK).astype(np.float64)
        y = x @ self.inner.T
        if self.blocks.left == 0:
            y[:, 0] = x[:, 0] @ self.first.T
        if self.blocks.right == self.grid[1]:
            y[:, -1] = x[:, -1] @ self.last.T
        sums = np.zeros((height, width + 1, count // AREA, BLOCK, self.means))
        sums[:, :-1] += y[..., : self.means]
        sums[:, 1:] += y[..., self.means :]
        return sums

    def down(self, across: Reals) -> Reals:
        """Sums along columns, [J,rows,columns], of whole blocks."""
        height, width, planes, _, means = across.shape
        y = self.inner @ across
        is_first, is_last = self.row == self.blocks.top, self.row + height == self.blocks.bottom
        if self.row == 0:
            y[0] = self.first @ across[0]
        self.row += height
        if self.row == self.grid[0]:
            y[-1] = self.last @ across[-1]
        patches = y.reshape(height, width, planes, 2, means, means).transpose(2, 0, 3, 4, 1, 5)
        halves = patches.reshape(planes, height, 2, means, -1)[..., means // 2 : -(means // 2)]
        sums = np.zeros((planes, height + 1, *halves.shape[3:]))
        sums[:, :-1] += halves[:, :, 0]
        sums[:, 1:] += halves[:, :, 1]
        sums[:, 0] += self.carry
        self.carry = sums[:, -1]
        rows = sums[:, :-1].reshape(planes, height * means, -1)
        # These, too, begin half a block before the first.
        if is_first:
            rows = rows[:, means // 2 :]
        rows = np.concatenate((self.rest, rows, *([self.carry] if is_last else [])), 1)
        whole = rows.shape[1] // means * means
        self.rest = rows[:, whole:]
        return rows[:, :whole]


def patch_matrices(net: NativeSynthesis, square: int) -> tuple[Reals, Reals, Reals]:
    """From the 16 frequencies of a block to the means of its patch: [32/square,16] in 2^-14.

    For a block between others, for the first one and for the last one of the image, whose outer 8
    samples are not filtered.

    Sums of |entries| of a row, also with those of the next block that reach the same mean, are at
    most 2^18, by the bounds that `arrays.check_synthesis` asks for. So all sums stay below 2^52.
    """
    samples = net.dct.T.astype(np.int64)
    borders = net.borders.astype(np.int64)
    one, nothing = 1 << MATRIX_BITS, np.zeros((_HALF, BLOCK), np.int64)
    before, after = borders[:, _HALF:] @ samples[:_HALF], borders[:, :_HALF] @ samples[_HALF:]
    alone = one * samples
    patches = (
        (before, after),
        (nothing, alone[:_HALF], after),
        (before, alone[_HALF:], nothing),
    )
    inner, first, last = (means_of(np.concatenate(each), square) for each in patches)
    return inner, first, last


def means_of(patch: Wide, square: int) -> Reals:
    """Means of every `square` rows of [32,16] in 2^-28; in 2^-14, rounded to integers."""
    sums = patch.reshape(-1, square, BLOCK).sum(1)
    bits = MATRIX_BITS + square.bit_length() - 1
    means: Wide = (sums + (1 << bits - 1)) >> bits
    return means.astype(np.float64)
