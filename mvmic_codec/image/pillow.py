"""Samples or indices -> a Pillow image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvmic_codec.bitstream.header import Header


def image_of(
    header: Header, values: NDArray[Any], colours: NDArray[np.int32] | None
) -> Image.Image:
    """The image of what `decoder.frame.decode_frame` gives.

    colours are those of an indexed image, as `overlays.colours_of` gives them.
    """
    if not header.indexed or header.mode not in ("1", "P"):
        return Image.fromarray(spread(values, header.bits))
    if header.mode == "1":
        return Image.fromarray(values > 0)
    image = Image.fromarray(values)
    assert colours is not None
    image.putpalette(palette_of(header, colours))
    if header.alpha:
        image.info["transparency"] = transparency_of(colours)
    return image


def spread(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Samples of fewer than 8 bits as Pillow shows them: from 0 to 255, rounded.

    Signed ones stay as they are, as those of more bits.
    """
    if bits >= 8 or values.dtype != np.uint8:
        return values
    most = (1 << bits) - 1
    levels = (np.arange(most + 1) * 255 + most // 2) // most
    out: NDArray[np.uint8] = levels.astype(np.uint8)[values]
    return out


def palette_of(header: Header, colours: NDArray[np.int32]) -> bytes:
    """Red, green and blue of each colour."""
    solid = colours[:, : colours.shape[1] - header.alpha]
    if solid.shape[1] == 1:
        solid = solid.repeat(3, 1)
    return solid.astype(np.uint8).tobytes()


def transparency_of(colours: NDArray[np.int32]) -> bytes:
    """Transparency of each colour, as Pillow's `info` has it."""
    return colours[:, -1].astype(np.uint8).tobytes()
