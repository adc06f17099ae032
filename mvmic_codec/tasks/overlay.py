"""What a network found, drawn over the image: masks, boxes, and the truth beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mvmic_codec.errors import InputError

# Cyan stands out from tissue and from gray. Colour-blind eyes tell it from yellow.
FOUND = (0, 220, 255)
TRUE = (255, 235, 60)
# The share of FOUND within a mask.
TINT = 0.3
# Lines are this share of the shorter side wide, and at least 1.
LINE = 1 / 250


def draw_overlay(
    image: Image.Image,
    *,
    mask: npt.NDArray[np.bool_ | np.uint8] | None = None,
    boxes: npt.NDArray[np.float32] | None = None,
    truth: npt.NDArray[np.bool_ | np.uint8] | None = None,
) -> Image.Image:
    """An RGB copy of an image of H rows and W columns, with lines over it.

    mask   [H,W], not 0 where something was found: tinted, with a contour just inside, in cyan
    boxes  [K,4] left, top, right and bottom of what was found, in samples: outlined in cyan
    truth  [H,W], not 0 where something is: its contour just outside, in yellow. So it can be seen
           where the mask is right

    Images of more than 8 bits are stretched from their least to their greatest value.

    Raises InputError for masks of another size than the image, and for boxes of another shape.
    """
    pixels = _as_rgb(image)
    width = max(1, round(LINE * min(image.size)))
    if mask is not None:
        inside = _checked(mask, image, "the mask")
        tinted = pixels[inside] * (1 - TINT) + np.array(FOUND) * TINT
        pixels[inside] = np.rint(tinted).astype(np.uint8)
        pixels[inside & ~_shrunk(inside, width)] = FOUND
    if truth is not None:
        outside = ~_checked(truth, image, "the true mask")
        pixels[outside & ~_shrunk(outside, width, beyond=True)] = TRUE
    drawn = Image.fromarray(pixels)
    if boxes is not None:
        if np.ndim(boxes) != 2 or np.shape(boxes)[1] != 4:
            raise InputError(f"boxes have the shape [K,4], but got {list(np.shape(boxes))}")
        pen = ImageDraw.Draw(drawn)
        for left, top, right, bottom in np.rint(boxes).astype(int).tolist():
            # Pillow draws the last column and row too.
            corners = (left, top, max(left, right - 1), max(top, bottom - 1))
            pen.rectangle(corners, outline=FOUND, width=width)
    return drawn


def _as_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Pixels [H,W,3] of any image, free to be changed."""
    if image.mode[0] in "IF":
        values = np.asarray(image).astype(np.float64)
        low, high = float(values.min()), float(values.max())
        image = Image.fromarray(np.uint8(np.rint(255 * (values - low) / max(high - low, 1e-9))))
    return np.array(image.convert("RGB"))


def _checked(
    mask: npt.NDArray[np.bool_ | np.uint8], image: Image.Image, name: str
) -> npt.NDArray[np.bool_]:
    """A mask [H,W] as bool. Raises InputError if it is not of the size of the image."""
    if np.shape(mask) != (image.height, image.width):
        raise InputError(
            f"{name} has the shape {list(np.shape(mask))}, but the image "
            f"{[image.height, image.width]}; give one value for each pixel"
        )
    inside: npt.NDArray[np.bool_] = np.asarray(mask) != 0
    return inside


def _shrunk(mask: npt.NDArray[np.bool_], steps: int, beyond: bool = False) -> npt.NDArray[np.bool_]:
    """A mask without its outermost samples. `beyond` is what the samples around the image are."""
    for _ in range(steps):
        wide = np.pad(mask, 1, constant_values=beyond)
        mask = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask
