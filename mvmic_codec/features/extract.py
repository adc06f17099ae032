"""A whole file -> its features, with or without the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.container import Reader
from mvmic_codec.bitstream.grid import Box
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.frame import decode_frame
from mvmic_codec.decoder.paint import Overlays
from mvmic_codec.decoder.parts import decode_parts
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.decoder.tiles import TileOf
from mvmic_codec.features.maps import Features
from mvmic_codec.features.statistics import load


class MapBuffers:
    """Whole feature maps, made from parts; without the margins that decoding adds.

    maps  by name, [h,w,C]: int16 arrays, or tensors where a device of torch decodes
    """

    def __init__(self, names: Sequence[str], size: tuple[int, ...]) -> None:
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


class FlatMask:
    """Which pixels of an image are flat, or hidden otherwise: bool [H,W], from its tiles."""

    def __init__(self, header: Header) -> None:
        self.flat = np.zeros((header.height, header.width), np.bool_)

    def emit_overlays(self, box: Box, laid: Overlays) -> None:
        """Take what is laid over the tile with this box."""
        painted = laid.painted
        if painted is not None:
            self.flat[box.top : box.bottom, box.left : box.right] = painted


def decode_features(
    header: Header, tile_of: TileOf, names: Sequence[str], device: str | None
) -> Features:
    """The features of a file. Synthesis runs only as far as the last map needs.

    tile_of gives the tiles; see `tiles.TileOf`. Errors as `parts.decode_parts`.
    """
    mask = FlatMask(header)
    maps = raw_maps(header, tile_of, names, device, mask)
    return normalised(maps, names, header, mask.flat)


def decode_with_features(
    reader: Reader, frame: int, names: Sequence[str], device: str | None
) -> tuple[npt.NDArray[Any], Features]:
    """The samples of a frame as `decode_frame` gives them, and its features."""
    header = reader.header
    mask = FlatMask(header)
    buffers = MapBuffers(names, mask.flat.shape)
    values = decode_frame(
        reader, frame, device=device, emit_map=buffers.emit_map, emit_overlays=mask.emit_overlays
    )
    return values, normalised(buffers.maps, names, header, mask.flat)


def raw_maps(
    header: Header,
    tile_of: TileOf,
    names: Sequence[str],
    device: str | None,
    mask: FlatMask | None = None,
) -> dict[str, Any]:
    """Feature maps by name, as `MapBuffers` has them: the integers of synthesis.

    mask takes the flat areas, if they are wanted.
    """
    mask = FlatMask(header) if mask is None else mask
    buffers = MapBuffers(names, mask.flat.shape)
    decode_parts(
        header,
        tile_of,
        lambda top, left, part: None,
        emit_overlays=mask.emit_overlays,
        device=device,
        emit_map=buffers.emit_map,
        until=last_of(names),
    )
    return buffers.maps


def last_of(names: Sequence[str]) -> str:
    """Of the names of maps the one that is computed last."""
    return max(names, key=list(STRIDES).index)


def normalised(
    maps: Mapping[str, Any], names: Sequence[str], header: Header, flat: npt.NDArray[np.bool_]
) -> Features:
    """Features of one image, from maps as `raw_maps` gives them; flat is a `FlatMask`'s."""
    statistics = load(header.fingerprint)
    size = header.height, header.width
    return Features(
        {name: statistics.normalised(name, maps[name], header.rate_index) for name in names},
        size,
        (header.rate_index,),
        header.fingerprint,
        flat[None],
    )
