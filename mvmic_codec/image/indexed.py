"""Images of few colours, which are coded exactly: masks of one bit, and palettes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A palette image stays one if its indices take no more bits for each pixel, or no more bytes in
# all. Above that it is a photograph with a palette, which the model codes better. Label maps take a
# tenth of it.
PALETTE_BITS_MAX = 1.0
PALETTE_BYTES_MAX = 512


@dataclass(frozen=True)
class Indexed:
    """An image as indices into a list of colours.

    indices  uint8 [H, W], below K
    colours  int32 [K, C] or [K, C + 1] with transparency; C = 1 (gray) or 3 (RGB), K = 1 to 256
    bits     bits per sample, 1 or 8
    alpha    whether colours have transparency
    palette  whether the image is shown as indices into a palette
    """

    indices: NDArray[np.uint8]
    colours: NDArray[np.int32]
    bits: int
    alpha: bool = False
    palette: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.indices.shape[0], self.indices.shape[1]

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB."""
        return int(self.colours.shape[1]) - self.alpha

    def part(self, top: int, left: int, height: int, width: int) -> Indexed:
        """A part of the image, with the same colours."""
        part = self.indices[top : top + height, left : left + width]
        return Indexed(part, self.colours, self.bits, self.alpha, self.palette)


def of_bits(mask: NDArray[np.bool_]) -> Indexed:
    """A bool array [H, W]: black and white."""
    return Indexed(mask.astype(np.uint8), np.array([[0], [1]], np.int32), 1)


def of_transparent_bits(image: Image.Image) -> Indexed | None:
    """A Pillow image of mode 1 as a palette with transparency, or None if every pixel is opaque."""
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("LA").getchannel("A"))
    mask = np.asarray(image)
    if alpha.all():
        return None
    # One of the two values is transparent, everywhere.
    colours = np.array([[0, 255], [255, 255]], np.int32)
    colours[int(mask[alpha == 0][0]), 1] = 0
    return Indexed(mask.astype(np.uint8), colours, 8, alpha=True, palette=True)


def of_palette(image: Image.Image) -> Indexed | None:
    """A Pillow image of mode P, or None if it is a photograph; see PALETTE_BITS_MAX."""
    from mvmic_codec.bitstream import plane

    indices = np.asarray(image)
    count = int(indices.max()) + 1
    stored = plane.to_payload(indices, count, ordered=False)
    if len(stored) > max(PALETTE_BYTES_MAX, PALETTE_BITS_MAX * indices.size / 8):
        return None
    alpha = image.has_transparency_data
    bands = "RGBA" if alpha else "RGB"
    flat = image.getpalette(bands) or []
    # Pillow may know fewer colours than there are indices: the others are black.
    flat = (flat + [0] * (count * len(bands)))[: count * len(bands)]
    colours = np.array(flat, np.int32).reshape(count, len(bands))
    transparency = image.info.get("transparency")
    if alpha and isinstance(transparency, bytes):
        known = np.frombuffer(transparency[:count], np.uint8)
        colours[:, 3] = 255
        colours[: len(known), 3] = known
    elif alpha and isinstance(transparency, int) and transparency < count:
        colours[:, 3] = 255
        colours[transparency, 3] = 0
    return Indexed(indices, colours, 8, alpha, palette=True)
