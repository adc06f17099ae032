"""The tiles of an image: from their payloads to the latent, one row of tiles after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Generic, Protocol

import numpy as np

from mvmic_codec.bitstream import flat, overlays
from mvmic_codec.bitstream.grid import BLOCK, Box, Tiling, block_size
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.decode import Latent, SymbolModel, check_start, decode_symbols
from mvmic_codec.decoder.paint import Overlays
from mvmic_codec.decoder.reconstruct import Slab, latent_slab
from mvmic_codec.model.decoding import DecodingModel
from mvmic_codec.model.team import Team


class CodedTile(Protocol):
    """A tile as a file has it: payloads of DATA and, if it has them, of what is laid over that."""

    @property
    def payload(self) -> bytes:
        """The image data."""

    @property
    def alpha(self) -> bytes | None:
        """The transparency."""

    @property
    def flat(self) -> bytes | None:
        """The flat areas."""

    @property
    def outliers(self) -> bytes | None:
        """The outliers."""


# Gives the tile in a row and a column of tiles. It is called by one thread, row by row, whenever a
# tile is decoded: twice for some tiles of very wide images.
TileOf = Callable[[int, int], CodedTile]
# Takes the box of a tile and what is laid over it, before any sample in the box is given out.
EmitOverlays = Callable[[Box, Overlays], object]


def only_tile(tile: CodedTile) -> TileOf:
    """The tiles of an image that has one."""
    return lambda row, column: tile


def tiling_of(header: Header) -> Tiling:
    """How the image is cut into tiles."""
    return Tiling((header.height, header.width), header.tile)


def overlays_of(tile: CodedTile, header: Header) -> Overlays:
    """What is laid over a tile.

    header is that of an image of the tile's size. Raises FormatError or one of its kinds if it is
    damaged.
    """
    if (tile.alpha, tile.flat, tile.outliers) == (None, None, None):
        return Overlays()
    # First, because a plane of any size may take no bytes.
    check_start(tile.payload, header)
    size = header.height, header.width
    return Overlays(
        None if tile.flat is None else flat.from_payload(tile.flat, header),
        None if tile.outliers is None else overlays.outliers_of(tile.outliers, header, size),
        None if tile.alpha is None else overlays.alpha_of(tile.alpha, header, size),
    )


@dataclass(frozen=True)
class DecodedTile(Generic[Latent]):
    """A tile: what is laid over it, and latent and modes as `decode_symbols` gives them.

    blocks  those of the image that are the tile's, the padding included
    """

    overlays: Overlays
    latent: Latent
    modes: Latent
    blocks: Box


def decode_tile(
    model: SymbolModel[Latent], header: Header, tile: CodedTile, row: int, column: int
) -> DecodedTile[Latent]:
    """Decode the tile in a row and a column of tiles. Errors as `decode_symbols`."""
    tiling = tiling_of(header)
    box = tiling.box(row, column)
    size = box.height, box.width
    laid = overlays_of(tile, replace(header, height=box.height, width=box.width))
    sides = tiling.sides(row, column)
    latent, modes = decode_symbols(model, tile.payload, header.rate_index, size, laid.hidden, sides)
    blocks = Box(box.top // BLOCK, box.left // BLOCK, *block_size(size))
    return DecodedTile(laid, latent, modes, blocks)


def tile_slabs(
    model: DecodingModel,
    header: Header,
    tile_of: TileOf,
    blocks: Box,
    team: Team,
    emit_overlays: EmitOverlays,
) -> Iterator[Slab]:
    """Slabs of some of the blocks of an image: those of a row of tiles each.

    Only tiles that have some of the blocks are decoded, each when its row's turn comes. Errors as
    `decode_symbols`.
    """
    rows, columns = tiling_of(header).covering(Box(*(BLOCK * each for each in blocks)))
    for row in rows:
        # Nothing of a row is kept here while the next one is decoded.
        yield tile_row(model, header, tile_of, row, columns, blocks, team, emit_overlays)


def tile_row(
    model: DecodingModel,
    header: Header,
    tile_of: TileOf,
    row: int,
    columns: range,
    blocks: Box,
    team: Team,
    emit_overlays: EmitOverlays,
) -> Slab:
    """The slab of a row of tiles: what `blocks` have of the tiles in these columns."""
    tiling, net = tiling_of(header), model.synthesis

    if len(columns) == 1:
        together = replace(model, entropy=model.entropy.in_team(team))
        one = decode_tile(together, header, tile_of(row, columns[0]), row, columns[0])
        emit_overlays(tiling.box(row, columns[0]), one.overlays)
        inside = one.blocks.overlap(blocks).within(one.blocks)
        return latent_slab(net, team, one.latent[inside], one.modes[inside])

    box = tiling.box(row, columns[0])
    full = Box(box.top // BLOCK, blocks.left, block_size((box.height, box.width))[0], blocks.width)
    slab = full.overlap(blocks)
    latent = np.empty((slab.height, slab.width, model.shape.latent), np.int16)
    modes = np.empty(latent.shape[:2], np.uint8)

    def decode(column: int, tile: CodedTile) -> Overlays:
        one = decode_tile(model, header, tile, row, column)
        mine = one.blocks.overlap(slab)
        latent[mine.within(slab)] = one.latent[mine.within(one.blocks)]
        modes[mine.within(slab)] = one.modes[mine.within(one.blocks)]
        return one.overlays

    tiles = [tile_of(row, column) for column in columns]
    # A thread for a tile: that takes no longer than all threads for each, and less waiting.
    with ThreadPoolExecutor(min(team.threads, len(tiles))) as pool:
        for column, laid in zip(columns, pool.map(decode, columns, tiles), strict=True):
            emit_overlays(tiling.box(row, column), laid)
    return latent_slab(net, team, latent, modes)
