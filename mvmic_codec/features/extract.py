"""A whole file -> its features, with or without the pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.bitstream.container import Container, Header
from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.decoder.decode import decode_parts
from mvmic_codec.decoder.image import decode_samples, flat_areas
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.features.maps import Features
from mvmic_codec.features.statistics import load


class MapBuffers:
    """Whole feature maps, made from parts; without the margins that decoding adds."""

    def __init__(self, names: Sequence[str], size: tuple[int, int]) -> None:
        self.names, self.size = names, size
        self.maps: dict[str, Tensor] = {}

    def emit_map(self, name: str, top: int, left: int, part: Tensor) -> None:
        """Copy a part [1,C,h,w] of a map to its place, if the map is wanted."""
        if name not in self.names:
            return
        if name not in self.maps:
            height, width = (-(-side // STRIDES[name]) for side in self.size)
            self.maps[name] = torch.empty(1, part.shape[1], height, width, device=part.device)
        place = self.maps[name][..., top : top + part.shape[2], left : left + part.shape[3]]
        place.copy_(part[..., : place.shape[2], : place.shape[3]])


def decode_features(file: Container, names: Sequence[str], device: str | None) -> Features:
    """The features of a file. Synthesis runs only as far as the last map needs.

    Errors as `decode.decode_parts`. Damaged flat areas raise FormatError or one of its kinds, too.
    """
    areas = flat_areas(file, device)
    return normalised(raw_maps(file, areas, names, device), names, file.header, areas)


def decode_with_features(
    file: Container, names: Sequence[str], device: str | None
) -> tuple[npt.NDArray[Any], Features]:
    """The sample values of a file as `decode_samples` gives them, and its features."""
    areas = flat_areas(file, device)
    buffers = MapBuffers(names, (file.header.height, file.header.width))
    values = decode_samples(file, areas, device, buffers.emit_map)
    return values, normalised(buffers.maps, names, file.header, areas)


def raw_maps(
    file: Container, areas: Flat | None, names: Sequence[str], device: str | None
) -> dict[str, Tensor]:
    """Feature maps [1,C,h,w] by name, as the networks give them."""
    buffers = MapBuffers(names, (file.header.height, file.header.width))
    decode_parts(
        file.payload,
        file.header,
        lambda top, left, planes: None,
        hidden=None if areas is None else areas.hidden,
        device=device,
        emit_map=buffers.emit_map,
        until=last_of(names),
    )
    return buffers.maps


def last_of(names: Sequence[str]) -> str:
    """Of the names of maps the one that is computed last."""
    return max(names, key=list(STRIDES).index)


def normalised(
    maps: dict[str, Tensor], names: Sequence[str], header: Header, areas: Flat | None
) -> Features:
    """Features of one image. The maps are changed in place."""
    statistics = load(header.fingerprint)
    for name, each in maps.items():
        statistics.normalise(name, each, header.rate_index)
    size = header.height, header.width
    return Features(
        OrderedDict((name, maps[name]) for name in names),
        size,
        (header.rate_index,),
        header.fingerprint,
        np.zeros((1, *size), np.bool_) if areas is None else areas.map[None] > 0,
    )
