"""A whole file -> the features of its image's mirror image, without encoding that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.grid import BLOCK, Box, block_size
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder import decode
from mvmic_codec.decoder.reconstruct import Slab, synthesise_parts
from mvmic_codec.decoder.tiles import TileOf, tile_slabs
from mvmic_codec.features.extract import FlatMask, MapBuffers, last_of, normalised
from mvmic_codec.features.maps import Features
from mvmic_codec.model.definition import STREAM_MAX
from mvmic_codec.model.team import Team


def decode_mirrored_features(header: Header, tile_of: TileOf, names: Sequence[str]) -> Features:
    """Features of the left-right mirror image of a file's image, to train with.

    Mirrored maps are not the maps of the mirror image. Here the coefficients are mirrored, and the
    networks run on them. Blocks stay what they are, so the mirror image has `margin_of` columns
    of padding on its left: the size and the flat areas of the result include them.

    Errors as `extract.decode_features`.
    """
    margin, mask = margin_of(header.width), FlatMask(header)
    maps = raw_maps(header, tile_of, names, mask)
    flat = np.pad(mask.flat[:, ::-1], ((0, 0), (margin, 0)))
    return normalised(maps, names, replace(header, width=header.width + margin), flat)


def margin_of(width: int) -> int:
    """Columns of padding on the left of the view that `decode_mirrored_features` gives of an image.

    They make the width a multiple of 16. They repeat the last column of the image, more or less.
    """
    return -width % BLOCK


def raw_maps(
    header: Header, tile_of: TileOf, names: Sequence[str], mask: FlatMask
) -> dict[str, npt.NDArray[np.int16]]:
    """As `extract.raw_maps`, of the mirror image; see `decode_mirrored_features`."""
    size = header.height, header.width
    model = decode.model_of_file(header)
    columns = -(-header.width // BLOCK)
    buffers = MapBuffers(names, (header.height, BLOCK * columns))
    blocks = Box(0, 0, *block_size(size))
    with Team() as team:
        slabs = tile_slabs(model, header, tile_of, blocks, team, mask.emit_overlays)
        synthesise_parts(
            model.synthesis,
            team,
            (mirrored_slab(slab, columns) for slab in slabs),
            blocks,
            header.rate_index,
            Box(0, 0, *size),
            decode.levels_of(header),
            lambda top, left, part: None,
            emit_map=buffers.emit_map,
            until=last_of(names),
        )
    return buffers.maps


def mirrored_slab(slab: Slab, columns: int) -> Slab:
    """The slab of the mirror image; columns as for `mirror`."""
    every = slice(0, len(slab.modes)), slice(0, slab.modes.shape[1])
    mirrored = mirror(slab.coefficients(*every), columns)
    return Slab(
        mirror_modes(slab.modes, columns),
        lambda rows, band: np.ascontiguousarray(mirrored[rows, band]),
    )


def mirror(coefficients: npt.NDArray[np.int16], columns: int) -> npt.NDArray[np.int16]:
    """Coefficients [h,w,256P] of the left-right mirror image.

    columns  how many columns of blocks hold the image; the others are padding on its right

    Basis functions of odd horizontal frequency change their sign. The mirror image has its padding
    on the right, too. There a file has no symbols, and decoding goes on with something like the
    last block. This goes on with the mean of each of its rows.
    """
    frequency = np.arange(coefficients.shape[2]) % BLOCK
    # -32768 has no positive counterpart.
    image = np.maximum(coefficients[:, :columns], -STREAM_MAX)[:, ::-1]
    image = image * (1 - 2 * (frequency % 2)).astype(np.int16)
    right = np.where(frequency == 0, image[:, -1:], np.int16(0))
    padding = coefficients.shape[1] - columns
    return np.concatenate((image, right.repeat(padding, axis=1)), 1)


def mirror_modes(modes: npt.NDArray[np.uint8], columns: int) -> npt.NDArray[np.uint8]:
    """Modes [h,w] of the mirror image: the basis of each is nearly its own mirror image.

    In the padding on the right the mode is 0.
    """
    return np.pad(modes[:, :columns][:, ::-1], ((0, 0), (0, modes.shape[1] - columns)))
