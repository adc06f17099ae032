"""The codecs that are compared: this one, and those that Pillow brings.

Each classic codec gets the settings that serve it best in PSNR, the measure of the comparison.
BPG and VVC have no encoder in Pillow; their rows come from tables, see `rows.read_rows`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, features

from mvmic_codec.errors import InputError, MvmError


@dataclass(frozen=True)
class Setting:
    """One point of a codec's curve."""

    label: str
    encode: Callable[[Image.Image], bytes]


@dataclass(frozen=True)
class Codec:
    """A codec under comparison.

    name    as in the tables
    deep    takes gray images of more than 8 bits
    curves  for gray (True) or colour (False), one list of settings for each variant of the codec
            that is worth a try; of these the better one is kept for each image
    decode  file -> image
    """

    name: str
    deep: bool
    curves: Callable[[bool], list[list[Setting]]]
    decode: Callable[[bytes], Image.Image]


# Qualities and sizes of the classic codecs that span about 28 to 46 dB on scans and photographs.
_JPEG_QUALITIES = (3, 8, 20, 45, 75, 90, 96)
_JPEG2000_BPP = (0.01, 0.025, 0.06, 0.15, 0.35, 0.8, 1.8)
_WEBP_QUALITIES = (0, 10, 30, 50, 70, 85, 95)
_AVIF_QUALITIES = (0, 14, 32, 52, 70, 86)

PEERS = ("jpeg", "jpeg2000", "webp", "avif")
_FEATURES = {"jpeg": "jpg", "jpeg2000": "jpg_2000", "webp": "webp", "avif": "avif"}


def peer(name: str) -> Codec:
    """One of PEERS. Raises InputError if the name is none, or if this Pillow lacks the codec."""
    if name not in _FEATURES:
        raise InputError(f"there is no codec {name!r}; choose from mvm, {', '.join(PEERS)}")
    # Pillow before 11.3 does not know the name "avif", and says so by a warning.
    if _FEATURES[name] not in features.get_supported():
        raise InputError(f"this Pillow was built without {name}; install one that has it")
    curves = {"jpeg": _jpeg, "jpeg2000": _jpeg2000, "webp": _webp, "avif": _avif}
    return Codec(name, deep=False, curves=curves[name], decode=_open)


def mvm(rate_indices: Sequence[int], device: str | None = None) -> Codec:
    """This codec at the given rate indices."""
    from mvmic_codec import api

    def setting(index: int) -> Setting:
        return Setting(str(index), lambda image: api.encode(image, rate_index=index, device=device))

    settings = [setting(index) for index in rate_indices]
    return Codec(
        "mvm",
        deep=True,
        curves=lambda gray: [settings],
        decode=lambda data: api.decode(data, device=device),
    )


def _jpeg(gray: bool) -> list[list[Setting]]:
    def curve(subsampling: str) -> list[Setting]:
        return [
            _save(
                str(quality) if gray else f"{quality}/{subsampling}",
                "JPEG",
                quality=quality,
                subsampling=subsampling,
                optimize=True,
                progressive=True,
            )
            for quality in _JPEG_QUALITIES
        ]

    # Full chroma wins at high rates and halved chroma at low ones.
    return [curve("4:4:4")] if gray else [curve("4:4:4"), curve("4:2:0")]


def _jpeg2000(gray: bool) -> list[list[Setting]]:
    channels = 1 if gray else 3
    # A bare codestream is the smallest file. Pillow does not decorrelate colours unless told.
    return [
        [
            _save(
                f"{bpp:g}",
                "JPEG2000",
                quality_mode="rates",
                quality_layers=[8 * channels / bpp],
                irreversible=True,
                mct=0 if gray else 1,
                no_jp2=True,
            )
            for bpp in _JPEG2000_BPP
        ]
    ]


def _webp(gray: bool) -> list[list[Setting]]:
    return [
        [
            _save(str(quality), "WEBP", quality=quality, method=6, use_sharp_yuv=not gray)
            for quality in _WEBP_QUALITIES
        ]
    ]


def _avif(gray: bool) -> list[list[Setting]]:
    # libavif tunes for SSIM or for the eye unless told, which costs 1 to 10% of the bits in PSNR.
    return [
        [
            _save(
                str(quality),
                "AVIF",
                quality=quality,
                subsampling="4:0:0" if gray else "4:4:4",
                speed=4,
                codec="aom",
                advanced={"tune": "psnr"},
                max_threads=1,
            )
            for quality in _AVIF_QUALITIES
        ]
    ]


def _save(label: str, form: str, **options: Any) -> Setting:
    def encode(image: Image.Image) -> bytes:
        file = io.BytesIO()
        try:
            image.save(file, form, **options)
        except (ValueError, RuntimeError) as error:
            raise MvmError(f"{form} cannot write this image: {error}") from error
        return file.getvalue()

    return Setting(label, encode)


def _open(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image
