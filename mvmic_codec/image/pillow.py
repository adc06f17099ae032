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
        return Image.fromarray(values)
    if header.mode == "1":
        return Image.fromarray(values > 0)
    image = Image.fromarray(values)
    assert colours is not None
    image.putpalette(palette_of(header, colours))
    if header.alpha:
        image.info["transparency"] = transparency_of(colours)
    return image


def palette_of(header: Header, colours: NDArray[np.int32]) -> bytes:
    """Red, green and blue of each colour."""
    solid = colours[:, : colours.shape[1] - header.alpha]
    if solid.shape[1] == 1:
        solid = solid.repeat(3, 1)
    return solid.astype(np.uint8).tobytes()


def transparency_of(colours: NDArray[np.int32]) -> bytes:
    """Transparency of each colour, as Pillow's `info` has it."""
    return colours[:, -1].astype(np.uint8).tobytes()
