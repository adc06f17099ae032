"""The codecs that are compared: this one, and those that Pillow and its plugins bring.

Each classic codec gets the settings that serve it best in PSNR, the measure of the comparison.
`programs` has those that are programs of their own. Rows of any other codec come from tables, see
`rows.read_rows`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, features

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation import programs, require
from mvmic_codec.evaluation.codec import LEARNED, MVM, PEERS, Codec, Setting

# Qualities and sizes of the classic codecs that span about 28 to 46 dB on scans and photographs.
_JPEG_QUALITIES = (3, 8, 20, 45, 75, 90, 96)
_JPEG2000_BPP = (0.01, 0.025, 0.06, 0.15, 0.35, 0.8, 1.8)
_WEBP_QUALITIES = (0, 10, 30, 50, 70, 85, 95)
_AVIF_QUALITIES = (0, 14, 32, 52, 70, 86)
_HEIC_QUALITIES = (0, 12, 26, 40, 54, 68)
# Quality 0 is the coarsest that JPEG XL has, which on scans is still well above 28 dB.
_JXL_QUALITIES = (0, 10, 20, 45, 75, 90, 96)

# What Pillow calls the codecs that it may bring itself.
FEATURES = {"jpeg": "jpg", "jpeg2000": "jpg_2000", "webp": "webp", "avif": "avif"}


def codec(
    name: str, rate_indices: Sequence[int], device: str | None, weights: Path | None
) -> Codec:
    """One of MVM at the given rate indices, one of PEERS, or one of LEARNED with weights."""
    if name in LEARNED:
        # Imports torch and, where it is there, CompressAI.
        from mvmic_codec.evaluation.learned import learned

        return learned(name, weights)
    for effort, ours in MVM.items():
        if name == ours:
            return mvm(rate_indices, device, effort)
    return peer(name)


def peer(name: str) -> Codec:
    """One of PEERS.

    Raises InputError if the name is none, or if this Pillow or this machine lacks the codec, and
    MvmError if a plugin of Pillow has to be installed.
    """
    if name not in PEERS:
        raise InputError(f"there is no codec {name!r}; choose from mvm, {', '.join(PEERS)}")
    if name == "bpg":
        return programs.bpg()
    if name == "vvc":
        return programs.vvc()
    if name == "heic":
        _register_heic()
    elif name == "jxl":
        _register_jxl()
    # Pillow before 11.3 does not know the name "avif", and says so by a warning.
    elif FEATURES[name] not in features.get_supported():
        raise InputError(f"this Pillow was built without {name}; install one that has it")
    return Codec(name, deep=False, curves=_CURVES[name], decode=_open)


def _register_heic() -> None:
    require("pillow_heif", extra="peers")
    import pillow_heif

    if "x265" not in pillow_heif.libheif_info()["encoders"]:
        raise InputError("this pillow_heif was built without x265; install one that has it")
    pillow_heif.register_heif_opener(decode_threads=1)


def _register_jxl() -> None:
    require("pillow_jxl", extra="peers")
    from pillow_jxl import JpegXLImagePlugin

    # Decoding takes no option of its own; 0 is the calling thread alone.
    JpegXLImagePlugin.DECODE_THREADS = 0


def mvm(
    rate_indices: Sequence[int],
    device: str | None = None,
    effort: int = 1,
    *,
    name: str | None = None,
    **options: Any,
) -> Codec:
    """This codec at the given rate indices. Other options of `encode` need a name of their own."""
    from mvmic_codec import api

    def setting(index: int) -> Setting:
        return Setting(
            str(index),
            lambda image: api.encode(
                image, rate_index=index, effort=effort, device=device, **options
            ),
        )

    settings = [setting(index) for index in rate_indices]
    return Codec(
        name or MVM[effort],
        deep=True,
        curves=lambda gray: [settings],
        decode=lambda data: api.decode(data, device=device),
        features=True,
    )


def _jpeg(gray: bool) -> list[list[Setting]]:
    # Full chroma wins at high rates and halved chroma at low ones.
    return [
        [jpeg(quality, gray, subsampling) for quality in _JPEG_QUALITIES]
        for subsampling in (("4:4:4",) if gray else ("4:4:4", "4:2:0"))
    ]


def jpeg(quality: int, gray: bool, subsampling: str) -> Setting:
    """JPEG at quality 1 to 100; the label names the subsampling of colour."""
    return _save(
        str(quality) if gray else f"{quality}/{subsampling}",
        "JPEG",
        quality=quality,
        subsampling=subsampling,
        optimize=True,
        progressive=True,
    )


def jpeg2000(bpp: float, gray: bool) -> Setting:
    """JPEG 2000 at a rate in bits per pixel."""
    # A bare codestream is the smallest file. Pillow does not decorrelate colours unless told.
    return _save(
        f"{bpp:g}",
        "JPEG2000",
        quality_mode="rates",
        quality_layers=[(8 if gray else 24) / bpp],
        irreversible=True,
        mct=0 if gray else 1,
        no_jp2=True,
    )


def webp(quality: int, gray: bool) -> Setting:
    """WebP at quality 0 to 100."""
    return _save(str(quality), "WEBP", quality=quality, method=6, use_sharp_yuv=not gray)


def avif(quality: int, gray: bool) -> Setting:
    """AVIF at quality 0 to 100."""
    # libavif tunes for SSIM or for the eye unless told, which costs 1 to 10% of the bits in PSNR.
    return _save(
        str(quality),
        "AVIF",
        quality=quality,
        subsampling="4:0:0" if gray else "4:4:4",
        speed=4,
        codec="aom",
        advanced={"tune": "psnr"},
        max_threads=1,
    )


def _heic(gray: bool) -> list[list[Setting]]:
    # libheif tunes x265 for SSIM unless told, which costs about 10% of the bits in PSNR. Pools of
    # threads are off, as rows of blocks beside each other cost 1%. In 4:4:4 x265 takes an offset of
    # 0 of the chroma QPs, or none, for +6, which costs 11% in colour: -1 is as near as one gets.
    # Without an nclx box, 19 bytes less, readers take the colours for what libheif codes anyway:
    # BT.601, full range.
    parameters = {"chroma": "444", "preset": "placebo", "tune": "psnr", "x265:pools": "none"}
    if not gray:
        parameters |= {"x265:cbqpoffs": "-1", "x265:crqpoffs": "-1"}
    return [
        [
            _save(
                str(quality),
                "HEIF",
                quality=quality,
                save_nclx_profile=False,
                enc_params=parameters,
            )
            for quality in _HEIC_QUALITIES
        ]
    ]


def _jxl(gray: bool) -> list[list[Setting]]:
    # A bare codestream, without the boxes of a container, is the plugin's own choice.
    return [
        [
            _save(str(quality), "JXL", quality=quality, effort=7, num_threads=0)
            for quality in _JXL_QUALITIES
        ]
    ]


_CURVES: dict[str, Callable[[bool], list[list[Setting]]]] = {
    "jpeg": _jpeg,
    "jpeg2000": lambda gray: [[jpeg2000(bpp, gray) for bpp in _JPEG2000_BPP]],
    "webp": lambda gray: [[webp(quality, gray) for quality in _WEBP_QUALITIES]],
    "avif": lambda gray: [[avif(quality, gray) for quality in _AVIF_QUALITIES]],
    "heic": _heic,
    "jxl": _jxl,
}


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
