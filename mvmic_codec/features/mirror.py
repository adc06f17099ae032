"""A whole file -> the features of its image's mirror image, without encoding that."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.container import Container
from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.decoder import decode
from mvmic_codec.decoder.image import flat_areas
from mvmic_codec.decoder.stripes import StripedSynthesis
from mvmic_codec.features.extract import MapBuffers, last_of, normalised
from mvmic_codec.features.maps import Features
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.transforms import AREA


def decode_mirrored_features(file: Container, names: Sequence[str], device: str | None) -> Features:
    """Features of the left-right mirror image of a file's image, to train with.

    Mirrored maps are not the maps of the mirror image. Here the coefficients are mirrored, and the
    networks run on them. Blocks stay what they are, so the mirror image has `margin_of` columns
    of padding on its left: the size and the flat areas of the result include them.

    Errors as `extract.decode_features`.
    """
    areas, header = flat_areas(file, device), file.header
    margin = margin_of(header.width)
    maps = raw_maps(file, areas, names, device)
    if areas is not None:
        areas = replace(areas, map=np.pad(areas.map[:, ::-1], ((0, 0), (margin, 0))))
    return normalised(maps, names, replace(header, width=header.width + margin), areas)


def margin_of(width: int) -> int:
    """Columns of padding on the left of the view that `decode_mirrored_features` gives of an image.

    They make the width a multiple of 16. They repeat the last column of the image, more or less.
    """
    return -width % BLOCK


def raw_maps(
    file: Container, areas: Flat | None, names: Sequence[str], device: str | None
) -> dict[str, Tensor]:
    """As `extract.raw_maps`, of the mirror image; see `decode_mirrored_features`."""
    header = file.header
    size = header.height, header.width
    model = decode.model_of_file(header, device)
    columns = -(-header.width // BLOCK)
    buffers = MapBuffers(names, (header.height, BLOCK * columns))
    exact = decode.single_precision(model, header.rate_index)
    with full_precision(model.device):
        hidden = None if areas is None else areas.hidden
        latent, modes = decode.decode_symbols(model, file.payload, header.rate_index, size, hidden)
        rows, padded = modes.shape[1:]
        synthesis = StripedSynthesis(
            model.synthesis,
            torch.tensor([header.rate_index], device=model.device),
            decode.MapsOfBand(buffers.emit_map, 0, 0, padded),
            last_of(names),
        )
        height = max(decode.STRIPE_BLOCKS // padded, 2 * synthesis.reach)
        for top in range(0, rows, height):
            of_rows = modes[:, top : top + height]
            coefficients = model.blocks.inverse(latent[:, :, top : top + height], of_rows)
            with nullcontext() if exact else model.bfloat16_autocast():
                synthesis(*mirror(coefficients, of_rows, columns), last=top + height >= rows)
    return buffers.maps


def mirror(coefficients: Tensor, modes: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Coefficients [B,256P,h,w] and modes [B,h,w] of the left-right mirror image.

    columns  how many columns of blocks hold the image; the others are padding on its right

    Basis functions of odd horizontal frequency change their sign. Modes stay: the basis of each is
    nearly its own mirror image. The mirror image has its padding on the right, too. There a file
    has no symbols, and decoding goes on in mode 0 with something like the last block. This goes on
    with the mean of each of its rows.
    """
    frequency = torch.arange(AREA, device=coefficients.device) % BLOCK
    planes = coefficients.shape[1] // AREA
    sign = (1 - 2 * (frequency % 2)).repeat(planes)[:, None, None]
    constant = (frequency == 0).repeat(planes)[:, None, None]
    image = (coefficients[..., :columns] * sign).flip(3)
    padding = coefficients.shape[3] - columns
    right = (image[..., -1:] * constant).expand(-1, -1, -1, padding)
    return torch.cat((image, right), 3), F.pad(modes[..., :columns].flip(2), (0, padding))
