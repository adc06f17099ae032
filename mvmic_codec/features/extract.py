"""A whole file -> its features, with or without the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.container import Container, Header
from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.decoder.decode import decode_parts
from mvmic_codec.decoder.image import decode_samples, flat_areas
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.features.maps import Features
from mvmic_codec.features.statistics import load


class MapBuffers:
    """Whole feature maps, made from parts; without the margins that decoding adds.

    maps  by name, [h,w,C]: int16 arrays, or tensors where a device of torch decodes
    """

    def __init__(self, names: Sequence[str], size: tuple[int, int]) -> None:
        self.names, self.size = names, size
        self.maps: dict[str, Any] = {}

    def emit_map(self, name: str, top: int, left: int, part: Any) -> None:
        """Copy a part [h,w,C] of a map to its place, if the map is wanted."""
        if name not in self.names:
            return
        if name not in self.maps:
            height, width = (-(-side // STRIDES[name]) for side in self.size)
            shape = height, width, part.shape[2]
            is_array = isinstance(part, np.ndarray)
            self.maps[name] = np.empty(shape, part.dtype) if is_array else part.new_empty(shape)
        place = self.maps[name][top : top + part.shape[0], left : left + part.shape[1]]
        place[...] = part[: place.shape[0], : place.shape[1]]


def decode_features(file: Container, names: Sequence[str], device: str | None) -> Features:
    """The features of a file. Synthesis runs only as far as the last map needs.

    Errors as `decode.decode_parts`. Damaged flat areas raise FormatError or one of its kinds, too.
    """
    areas = flat_areas(file)
    return normalised(raw_maps(file, areas, names, device), names, file.header, areas)


def decode_with_features(
    file: Container, names: Sequence[str], device: str | None
) -> tuple[npt.NDArray[Any], Features]:
    """The sample values of a file as `decode_samples` gives them, and its features."""
    areas = flat_areas(file)
    buffers = MapBuffers(names, (file.header.height, file.header.width))
    values = decode_samples(file, areas, device, buffers.emit_map)
    return values, normalised(buffers.maps, names, file.header, areas)


def raw_maps(
    file: Container, areas: Flat | None, names: Sequence[str], device: str | None
) -> dict[str, Any]:
    """Feature maps by name, as `MapBuffers` has them: the integers of synthesis."""
    buffers = MapBuffers(names, (file.header.height, file.header.width))
    decode_parts(
        file.payload,
        file.header,
        lambda top, left, part: None,
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
    maps: Mapping[str, Any], names: Sequence[str], header: Header, areas: Flat | None
) -> Features:
    """Features of one image, from maps as `raw_maps` gives them."""
    statistics = load(header.fingerprint)
    size = header.height, header.width
    return Features(
        {name: statistics.normalised(name, maps[name], header.rate_index) for name in names},
        size,
        (header.rate_index,),
        header.fingerprint,
        np.zeros((1, *size), np.bool_) if areas is None else areas.map[None] > 0,
    )
