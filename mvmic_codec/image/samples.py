"""A Pillow image or numpy array -> samples for the model, or indices to be coded exactly.

The header of a file says which sample values 0.0 and 1.0 of the model stand for, `lo` and `hi`.
They are 0 and 255 for images of 8 bits. For deeper ones they are the least and the largest value
that is no outlier; see `outliers`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.image.indexed import Indexed, of_bits, of_palette, of_transparent_bits
from mvmic_codec.image.metadata import profile_fits
from mvmic_codec.image.outliers import range_without_outliers

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_OPAQUE = 255


@dataclass(frozen=True)
class Samples:
    """One image as it is given to the encoder.

    values  [H, W, C], C = 1 (gray) or 3 (RGB): integers, or floats in 0 to 1
    bits    bits per sample of the original image, 1 to 16
    signed  whether the original samples can be negative
    lo, hi  the sample values at 0.0 and 1.0 of the model; equal for a constant 16-bit image. Other
            values are `outliers`
    alpha   uint8 [H, W], 0 where the image is transparent; None if it is opaque
    """

    values: NDArray[Any]
    bits: int
    signed: bool
    lo: int
    hi: int
    alpha: NDArray[np.uint8] | None = None

    @cached_property
    def planes(self) -> NDArray[np.float32]:
        """What the model sees: float32 [C, H, W] in 0 to 1. Outliers are cut."""
        planes = self.values.transpose(2, 0, 1).astype(np.float32, order="C")
        if self.values.dtype.kind == "f":
            return planes
        if self.lo:
            planes -= np.float32(self.lo)
        # In a constant image every sample is lo, whatever the divisor.
        planes /= np.float32(max(self.hi - self.lo, 1))
        return planes if self.outliers is None else planes.clip(0, 1)

    @cached_property
    def outliers(self) -> NDArray[np.bool_] | None:
        """Pixels [H, W] whose value lies outside of lo to hi; None if there are none."""
        if self.values.dtype.kind == "f" or self.bits <= 8:
            return None
        out: NDArray[np.bool_] = ((self.values < self.lo) | (self.values > self.hi))[:, :, 0]
        return out if out.any() else None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB."""
        return int(self.values.shape[2])

    @property
    def equal_channels(self) -> bool:
        """Whether it is RGB whose three channels are equal."""
        if self.channels == 1:
            return False
        # Some rows at a time: an image may be as large as memory.
        rows = (self.values[top : top + 256] for top in range(0, len(self.values), 256))
        return all(bool((part[:, :, 1:] == part[:, :, :1]).all()) for part in rows)

    def error(self, planes: NDArray[np.float32]) -> tuple[float, int]:
        """The sum of squared errors of decoded planes [C, H, W], and of how many samples.

        lo to hi counts as 1, and planes are rounded to sample values. Transparent pixels are left
        out, and outliers have no error. C may be 1 where all channels are equal.
        """
        span = np.float32(max(self.hi - self.lo, 1))
        squared = np.square(np.rint(planes.clip(0, 1) * span) / span - self.planes)
        if self.outliers is not None:
            squared[:, self.outliers] = 0
        if self.alpha is not None:
            squared = squared[:, self.alpha > 0]
        return float(squared.sum(dtype=np.float64)), squared.size

    def part(self, top: int, left: int, height: int, width: int) -> Samples:
        """A part of the image, with the same range."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        alpha = None if self.alpha is None else self.alpha[rows, columns]
        return replace(self, values=self.values[rows, columns], alpha=alpha)


def from_input(image: object) -> Samples | Indexed:
    """A Pillow image or numpy array, to be coded by the model or exactly.

    Raises InputError for anything that cannot be stored.
    """
    if isinstance(image, Image.Image):
        return from_image(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    raise InputError(
        f"a Pillow image or a numpy array is needed, got {type(image).__name__}; convert it first"
    )


def from_image(image: Image.Image) -> Samples | Indexed:
    """A Pillow image, to be coded by the model or exactly.

    1 and P are coded exactly; but P of a photograph becomes RGB, or gray if its palette is gray;
    see `indexed.of_palette`. 1 with transparent pixels becomes P. RGB, RGBX, CMYK, YCbCr and HSV
    become RGB. I;16 in every byte order, I and F are taken like their arrays; see `from_array`.

    LA, PA, RGBA and transparent colours have transparency. It is dropped if every pixel is opaque.
    """
    _check_size(image.width, image.height)
    mode = image.mode
    if mode == "1":
        return of_transparent_bits(image) or of_bits(np.asarray(image))
    if mode == "P":
        indexed = of_palette(image)
        if indexed is not None:
            return indexed
    if image.has_transparency_data and mode in (*_DEEP, "F"):
        # A 16-bit PNG may have a transparent gray value.
        if np.any(np.asarray(image) == image.info["transparency"]):
            raise InputError(
                "samples of more than 8 bits have no transparency; fill transparent pixels, and "
                "delete image.info['transparency']"
            )
    elif image.has_transparency_data:
        return _with_alpha(image)
    if mode in _DEEP or mode == "F":
        return from_array(np.asarray(image))
    if mode == "L":
        return from_array(np.asarray(image))
    if mode == "P" and _palette_is_gray(image) and not _is_for_rgb(image):
        return from_array(np.asarray(image.convert("RGB").getchannel(0)))
    if mode in ("RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV"):
        return from_array(np.asarray(image.convert("RGB")))
    raise InputError(f"mode {mode} cannot be stored; convert the image to RGB or L first")


def from_array(array: NDArray[Any]) -> Samples | Indexed:
    """An array [H, W], [H, W, 1] or [H, W, 3], to be coded by the model or exactly.

    bool                    black and white, coded exactly
    uint8                   8 bits
    uint16, int8, int16     16 bits, gray only, with the sign of the type
    wider integers          16 bits, gray only, where the values fit; signed if one is negative
    float in [0, 1]         8 bits: 0.0 is 0 and 1.0 is 255

    A last dimension of 2 or 4 has transparency in its last channel, for uint8 and floats. It is
    dropped if all pixels are opaque. Arrays of any byte order and any subclass are accepted.

    Raises InputError for another shape or type, for values that are not finite or do not fit, and
    for masked values.
    """
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise InputError(
            f"{np.sum(np.ma.getmaskarray(array))} samples of the array are masked, and a file has "
            "no mask; put values there with array.filled(value)"
        )
    # A plain array: np.matrix always has two dimensions.
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise InputError(f"an array [H, W] or [H, W, C] is needed, got shape {array.shape}")
    _check_size(array.shape[1], array.shape[0])
    if array.shape[2] not in (1, 2, 3, 4):
        raise InputError(
            f"an array has 1 to 4 channels in its last dimension, got shape {array.shape}; "
            "move the channels there, or give a series as an array [N, H, W]"
        )
    kind = array.dtype.kind
    if kind == "b":
        if array.shape[2] == 1:
            return of_bits(array[:, :, 0])
        array = array.astype(np.uint8) * np.uint8(255)
    if kind == "f":
        return _from_float(array)
    if array.dtype == np.uint8:
        return _from_bytes(array)
    if kind in "iu":
        return _from_deep(array)
    raise InputError(f"an array of {array.dtype} holds no image samples; convert it to a number")


def array_type(bits: int, signed: bool) -> np.dtype[Any]:
    """The type of decoded samples. Pillow turns arrays of it into mode L or RGB, I;16, or I."""
    if signed:
        return np.dtype(np.int32)
    # Pillow's I;16 is little-endian on every machine.
    return np.dtype(np.uint8 if bits <= 8 else "<u2")


def psnr_of(error: float, count: int) -> float:
    """Peak signal-to-noise ratio in dB of a sum of squared errors, the peak being 1.

    Infinite if nothing differs.
    """
    return float("inf") if error == 0 else -10 * float(np.log10(error / count))


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"the image is empty: {width}x{height} pixels; it needs at least 1x1")


def _with_alpha(image: Image.Image) -> Samples:
    """Samples of an image with transparency of whatever kind."""
    gray = image.mode in ("L", "LA", "La") or (
        image.mode in ("1", "P", "PA") and _palette_is_gray(image) and not _is_for_rgb(image)
    )
    if image.mode == "La":
        image = image.convert("LA")
    whole = np.asarray(image.convert("RGBA"))
    return _from_bytes(whole[:, :, (0, 3)] if gray else whole)


def _palette_is_gray(image: Image.Image) -> bool:
    palette = image.getpalette("RGB") or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _is_for_rgb(image: Image.Image) -> bool:
    """Whether the image comes with an ICC profile for RGB."""
    profile = image.info.get("icc_profile")
    return isinstance(profile, bytes) and profile_fits(profile, gray=False)


def _from_bytes(array: NDArray[np.uint8]) -> Samples:
    values, alpha = _without_alpha(array)
    return Samples(values, 8, False, 0, 255, alpha)


def _from_float(array: NDArray[Any]) -> Samples:
    if not np.isfinite(array).all():
        raise InputError("the array holds NaN or infinite values; replace them first")
    least, most = float(array.min()), float(array.max())
    if least < 0 or most > 1:
        raise InputError(
            f"float samples must lie in 0 to 1, these reach from {least:g} to {most:g}; "
            "scale them, or round them to integers (up to 16 bits are stored)"
        )
    values, alpha = _without_alpha(array)
    if alpha is not None:
        alpha = np.rint(alpha.astype(np.float64) * _OPAQUE).astype(np.uint8)
        if alpha.min() == _OPAQUE:
            alpha = None
    return Samples(values, 8, False, 0, 255, alpha)


def _from_deep(array: NDArray[Any]) -> Samples:
    if array.shape[2] != 1:
        raise InputError(
            f"colour and transparency are stored with 8 bits, this array is {array.dtype}; scale "
            "it to uint8"
        )
    lo, hi = int(array.min()), int(array.max())
    signed = array.dtype.itemsize <= 2 and array.dtype.kind == "i" or lo < 0
    least, most = (-(2**15), 2**15 - 1) if signed else (0, 2**16 - 1)
    if not least <= lo <= hi <= most:
        raise InputError(f"values from {lo} to {hi} do not fit 16 bits; scale them first")
    values = array.astype(np.int16 if signed else np.uint16, copy=False)
    return Samples(values, 16, signed, *range_without_outliers([values]))


def _without_alpha(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Values and transparency [H, W]; that is None if all pixels are opaque."""
    if array.shape[2] not in (2, 4):
        return array, None
    alpha = array[:, :, -1]
    opaque = 1 if array.dtype.kind == "f" else _OPAQUE
    return array[:, :, :-1], None if alpha.min() == opaque else alpha
