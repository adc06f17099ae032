"""Images as arrays of integers, in the form in which codecs are compared on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.metrics import Pixels

SUFFIXES = frozenset(
    {".png", ".webp", ".tif", ".tiff", ".bmp", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpg"}
    | {".jpeg", ".avif", ".tga", ".gif"}
)


def files_of(folder: Path, limit: int | None = None) -> list[Path]:
    """The images that lie directly in a folder, by name; the first `limit` of them."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder} holds no images")
    return files[:limit]


def load(path: Path) -> Pixels:
    """[H, W] uint8 or uint16 for gray, [H, W, 3] uint8 for colour.

    RGB with three equal channels is gray: WebP, for one, has no other way to hold it.
    """
    with Image.open(path) as image:
        mode = "RGB" if image.mode in ("1", "P") else image.mode
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    if mode.startswith("I"):
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise InputError(f"{path} has samples outside of 0 to 65535")
        return pixels.astype(np.uint16)
    if mode == "RGB":
        gray = (pixels == pixels[:, :, :1]).all()
        return np.ascontiguousarray(pixels[:, :, 0]) if gray else pixels
    if mode == "L":
        return pixels
    raise InputError(f"{path} has mode {mode}; convert it to gray or RGB to compare codecs on it")


def to_8_bits(pixels: Pixels) -> Pixels:
    """16-bit gray as round((x - min) / (max - min) * 255) with the image's own min and max."""
    lo, hi = int(pixels.min()), int(pixels.max())
    return np.round((pixels.astype(np.float64) - lo) / max(hi - lo, 1) * 255).astype(np.uint8)
