"""A whole file -> the features of its image's mirror image, without encoding that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.container import Container
from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.decoder import decode
from mvmic_codec.decoder.image import flat_areas
from mvmic_codec.decoder.reconstruct import synthesise_parts
from mvmic_codec.decoder.stripes import coefficients_of
from mvmic_codec.features.extract import MapBuffers, last_of, normalised
from mvmic_codec.features.maps import Features
from mvmic_codec.model.definition import STREAM_MAX
from mvmic_codec.model.team import Team


def decode_mirrored_features(file: Container, names: Sequence[str]) -> Features:
    """Features of the left-right mirror image of a file's image, to train with.

    Mirrored maps are not the maps of the mirror image. Here the coefficients are mirrored, and the
    networks run on them. Blocks stay what they are, so the mirror image has `margin_of` columns
    of padding on its left: the size and the flat areas of the result include them.

    Errors as `extract.decode_features`.
    """
    areas, header = flat_areas(file), file.header
    margin = margin_of(header.width)
    maps = raw_maps(file, areas, names)
    if areas is not None:
        areas = replace(areas, map=np.pad(areas.map[:, ::-1], ((0, 0), (margin, 0))))
    return normalised(maps, names, replace(header, width=header.width + margin), areas)


def margin_of(width: int) -> int:
    """Columns of padding on the left of the view that `decode_mirrored_features` gives of an image.

    They make the width a multiple of 16. They repeat the last column of the image, more or less.
    """
    return -width % BLOCK


def raw_maps(
    file: Container, areas: Flat | None, names: Sequence[str]
) -> dict[str, npt.NDArray[np.int16]]:
    """As `extract.raw_maps`, of the mirror image; see `decode_mirrored_features`."""
    header = file.header
    size = header.height, header.width
    model = decode.model_of_file(header)
    columns = -(-header.width // BLOCK)
    buffers = MapBuffers(names, (header.height, BLOCK * columns))
    hidden = None if areas is None else areas.hidden
    latent, modes = decode.decode_symbols(model, file.payload, header.rate_index, size, hidden)
    with Team() as team:
        x = coefficients_of(model.synthesis, team, latent, modes)
        mirrored = mirror(x, columns)
        synthesise_parts(
            model.synthesis,
            team,
            lambda rows, band: np.ascontiguousarray(mirrored[rows, band]),
            mirror_modes(modes, columns),
            header.rate_index,
            size,
            decode.levels_of(header),
            lambda top, left, part: None,
            emit_map=buffers.emit_map,
            until=last_of(names),
        )
    return buffers.maps


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
