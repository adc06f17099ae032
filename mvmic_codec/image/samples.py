"""A Pillow image or numpy array -> planes in [0, 1], and the depth, sign and range of its samples.

The file's header records which sample values 0.0 and 1.0 stand for, `lo` and `hi`. They are 0 and
255 for images of 8 bits, and the image's own minimum and maximum for deeper ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.image.metadata import profile_fits

_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_ALPHA = "the format has no transparency: put the image on a background and convert it to RGB or L"


@dataclass(frozen=True)
class Samples:
    """One image as the model sees it.

    planes  float32 [C, H, W] in [0, 1], C = 1 (gray) or 3 (RGB)
    bits    bits per sample of the original image, 1 to 16
    signed  whether the original samples can be negative
    lo, hi  the sample values at 0.0 and 1.0; equal for a constant 16-bit image
    """

    planes: NDArray[np.float32]
    bits: int
    signed: bool
    lo: int
    hi: int


def from_input(image: object) -> Samples:
    """Samples of a Pillow image or numpy array. InputError for anything that cannot be stored."""
    if isinstance(image, Image.Image):
        return from_image(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    raise InputError(
        f"a Pillow image or a numpy array is needed, got {type(image).__name__}; convert it first"
    )


def from_image(image: Image.Image) -> Samples:
    """Samples of a Pillow image.

    1, L, and P with a gray palette become gray. RGB, RGBX, other P, CMYK, YCbCr and HSV become RGB.
    P with a gray palette and an RGB profile becomes RGB, too, so that the profile still fits. I;16
    in every byte order, I and F are taken like their arrays; see `from_array`.

    Alpha is dropped if every pixel is opaque, and refused (InputError) if one is not.
    """
    _check_size(image.width, image.height)
    if image.has_transparency_data:
        _check_opaque(image)
    mode = image.mode
    if mode in _DEEP or mode == "F":
        return from_array(np.asarray(image))
    if mode in ("L", "LA", "La"):
        return from_array(np.asarray(image.getchannel(0)))
    if mode == "1" or (mode in ("P", "PA") and _palette_is_gray(image) and not _is_for_rgb(image)):
        return from_array(np.asarray(image.convert("RGB").getchannel(0)))
    if mode in ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV"):
        return from_array(np.asarray(image.convert("RGB")))
    raise InputError(f"mode {mode} cannot be stored; convert the image to RGB or L first")


def from_array(array: NDArray[Any]) -> Samples:
    """Samples of an array [H, W], [H, W, 1] or [H, W, 3].

    bool                    8-bit black and white
    uint8                   8 bits
    uint16, int8, int16     16 bits, gray only, with the sign of the type
    wider integers          16 bits, gray only, where the values fit; signed if one is negative
    float in [0, 1]         8 bits: 0.0 is 0 and 1.0 is 255

    A last dimension of 2 or 4 has alpha in its last channel. Alpha is dropped if all of it is
    opaque. Arrays of any byte order and any subclass are accepted.

    Raises InputError for another shape or type, for values that are not finite or do not fit, for
    masked values, and for alpha that is not opaque.
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
            f"an array has 1 or 3 channels in its last dimension, got shape {array.shape}; "
            "move the channels there, or store the images of a stack one by one"
        )
    kind = array.dtype.kind
    if kind == "f":
        return _from_float(array)
    if kind == "b":
        return _from_bytes(array.astype(np.uint8) * np.uint8(255))
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


def psnr(original: Samples, planes: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio in dB of decoded planes [C, H, W], rounded to sample values.

    The peak is the range hi - lo: 255 for 8 bits. Infinite if nothing differs.
    """
    span = original.hi - original.lo
    if span == 0:
        return float("inf")
    decoded = np.rint(np.clip(planes, 0, 1) * np.float32(span)) / np.float32(span)
    error = float(np.mean(np.square(decoded - original.planes), dtype=np.float64))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"the image is empty: {width}x{height} pixels; it needs at least 1x1")


def _check_opaque(image: Image.Image) -> None:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        alpha = image.getchannel(len(image.getbands()) - 1)
        opaque = alpha.getextrema()[0] == 255
    elif image.mode in ("1", "L", "P", "RGB"):
        # Pillow turns a transparent colour or palette entry into an alpha channel.
        opaque = image.convert("RGBA").getchannel("A").getextrema()[0] == 255
    else:
        # A 16-bit PNG may have a transparent gray value. No other of these modes has such a value.
        opaque = not np.any(np.asarray(image) == image.info["transparency"])
    if not opaque:
        raise InputError(_ALPHA)


def _palette_is_gray(image: Image.Image) -> bool:
    palette = image.getpalette("RGB") or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _is_for_rgb(image: Image.Image) -> bool:
    """Whether the image comes with an ICC profile for RGB."""
    profile = image.info.get("icc_profile")
    return isinstance(profile, bytes) and profile_fits(profile, gray=False)


def _planes(array: NDArray[Any], scale: float, offset: int) -> NDArray[np.float32]:
    planes = array.transpose(2, 0, 1).astype(np.float32, order="C")
    if offset:
        planes -= np.float32(offset)
    if scale != 1:
        planes /= np.float32(scale)
    return planes


def _from_bytes(array: NDArray[np.uint8]) -> Samples:
    return Samples(_planes(_without_alpha(array, 255), 255, 0), 8, False, 0, 255)


def _from_float(array: NDArray[Any]) -> Samples:
    if not np.isfinite(array).all():
        raise InputError("the array holds NaN or infinite values; replace them first")
    least, most = float(array.min()), float(array.max())
    if least < 0 or most > 1:
        raise InputError(
            f"float samples must lie in 0 to 1, these reach from {least:g} to {most:g}; "
            "scale them, or round them to integers (up to 16 bits are stored)"
        )
    return Samples(_planes(_without_alpha(array, 1), 1, 0), 8, False, 0, 255)


def _from_deep(array: NDArray[Any]) -> Samples:
    if array.shape[2] != 1:
        raise InputError(
            f"colour is stored with 8 bits, this array is {array.dtype}; scale it to uint8"
        )
    lo, hi = int(array.min()), int(array.max())
    signed = array.dtype.itemsize <= 2 and array.dtype.kind == "i" or lo < 0
    least, most = (-(2**15), 2**15 - 1) if signed else (0, 2**16 - 1)
    if not least <= lo <= hi <= most:
        raise InputError(f"values from {lo} to {hi} do not fit 16 bits; scale them first")
    # In a constant image every sample is lo, whatever the divisor.
    return Samples(_planes(array, max(hi - lo, 1), lo), 16, signed, lo, hi)


def _without_alpha(array: NDArray[Any], opaque: int) -> NDArray[Any]:
    if array.shape[2] not in (2, 4):
        return array
    if array[:, :, -1].min() < opaque:
        raise InputError(_ALPHA)
    return array[:, :, :-1]
