"""A whole file -> sample values: planes from the networks, with flat areas painted over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import flat
from mvmic_codec.bitstream.container import GRAY_RGB, Container
from mvmic_codec.decoder.decode import EmitMapPart, check_start, decode_parts
from mvmic_codec.decoder.paint import paint
from mvmic_codec.image.samples import Samples, array_type, to_array


def decode_samples(
    file: Container,
    areas: flat.Flat | None,
    device: str | None,
    emit_map: EmitMapPart | None = None,
) -> npt.NDArray[Any]:
    """The sample values of a file, [H,W] or [H,W,3], of the types of `samples.to_array`.

    Decodes part by part, since planes of the whole image would take four times as much memory.
    areas are the file's `flat_areas`. emit_map gets the feature maps on the way.

    Errors as `decode.decode_parts`.
    """
    header = file.header
    size = (header.height, header.width)
    shape = size if header.channels == 1 else (*size, 3)
    values = np.empty(shape, array_type(header.bits, header.signed))

    def emit(top: int, left: int, planes: npt.NDArray[np.float32]) -> None:
        if areas is not None:
            planes = paint(planes, areas, header.lo, header.hi, top, left)
        if header.photometric == GRAY_RGB:
            planes = planes.repeat(3, axis=0)
        samples = Samples(planes, header.bits, header.signed, header.lo, header.hi)
        _, height, width = planes.shape
        values[top : top + height, left : left + width] = to_array(samples)

    hidden = None if areas is None else areas.hidden
    decode_parts(file.payload, header, emit, hidden=hidden, device=device, emit_map=emit_map)
    return values


def flat_areas(file: Container, device: str | None) -> flat.Flat | None:
    """The flat areas of a file, or None if it has no FLAT chunk.

    Raises FormatError or one of its kinds if they are damaged.
    """
    if file.flat is None:
        return None
    # First, because a map of any size may take no bytes.
    check_start(file.payload, file.header, device=device)
    return flat.from_payload(file.flat, file.header)
