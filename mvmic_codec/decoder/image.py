"""A whole file -> sample values: samples from the networks, with flat areas painted over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import flat
from mvmic_codec.bitstream.container import Container
from mvmic_codec.decoder.decode import check_start, decode_parts, levels_of
from mvmic_codec.decoder.paint import paint
from mvmic_codec.decoder.reconstruct import EmitMapPart


def decode_samples(
    file: Container,
    areas: flat.Flat | None,
    device: str | None,
    emit_map: EmitMapPart | None = None,
) -> npt.NDArray[Any]:
    """The sample values of a file, [H,W] or [H,W,3], of the types of `samples.array_type`.

    Decodes part by part, since activations of the whole image would take many times the memory.
    areas are the file's `flat_areas`. emit_map gets the feature maps on the way.

    Errors as `decode.decode_parts`.
    """
    header = file.header
    size = (header.height, header.width)
    values = np.empty((*size, header.channels), levels_of(header).type)

    def emit(top: int, left: int, part: npt.NDArray[Any]) -> None:
        if areas is not None:
            paint(part, areas, top, left)
        height, width, _ = part.shape
        # One channel counts for all where they are equal.
        values[top : top + height, left : left + width] = part

    hidden = None if areas is None else areas.hidden
    decode_parts(file.payload, header, emit, hidden=hidden, device=device, emit_map=emit_map)
    return values[:, :, 0] if header.channels == 1 else values


def flat_areas(file: Container) -> flat.Flat | None:
    """The flat areas of a file, or None if it has no FLAT chunk.

    Raises FormatError or one of its kinds if they are damaged.
    """
    if file.flat is None:
        return None
    # First, because a map of any size may take no bytes.
    check_start(file.payload, file.header)
    return flat.from_payload(file.flat, file.header)
