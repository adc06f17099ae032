"""Images as files of formats that Pillow writes, with the metadata that these can hold."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mvmic_codec.cli.lost import NESTED, PNG_XMP, exif_of
from mvmic_codec.errors import InputError
from mvmic_codec.image.metadata import KINDS

if TYPE_CHECKING:
    from PIL import Image, PngImagePlugin

    from mvmic_codec.bitstream.header import Header

# Format and options for each suffix: without loss where the format can, else with little.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".jp2": ("JPEG2000", {"irreversible": False}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".pgm": ("PPM", {}),
    ".ppm": ("PPM", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
}
# Formats that hold these Pillow modes; every format holds L and RGB.
_HOLDERS = {
    "I;16": ("PNG", "TIFF", "JPEG2000", "PPM"),
    "I": ("TIFF",),
    "LA": ("PNG", "TIFF", "JPEG2000", "WEBP"),
    "RGBA": ("PNG", "TIFF", "JPEG2000", "WEBP"),
}
# Formats that hold images of 1 bit, of a palette, and of a palette with transparency; others get
# the same colours as L, RGB and RGBA.
_INDEXED_HOLDERS = {"1": ("PNG", "TIFF", "BMP", "PPM"), "P": ("PNG", "TIFF", "BMP")}
_TRANSPARENT_PALETTE_HOLDERS = ("PNG",)
# Formats that hold several frames; deep ones in TIFF only.
_SERIES_HOLDERS = ("TIFF", "PNG", "WEBP")
# What Pillow's writers raise for metadata or sizes that their format cannot hold.
_WRITER_ERRORS = (ValueError, RuntimeError, SyntaxError, struct.error)
_TIFF_XMP = 700  # the tag of XMP in a TIFF file


def check_kind(header: Header, form: str, frames: int) -> None:
    """Raise InputError if the format cannot hold so many frames of the file's kind."""
    # A palette with transparency becomes RGBA where the format does not hold it.
    holders = _HOLDERS.get("RGBA" if header.palette and header.alpha else header.mode)
    if holders is not None and form not in holders:
        kind = "signed samples" if header.signed else f"{header.bits} bits per sample"
        if header.alpha:
            kind = "transparency"
        better = ".tif" if header.signed else ".png or .tif"
        raise InputError(f"has {kind}, which {form} cannot hold; decode it to {better}")
    deep = header.signed or header.bits > 8
    if frames > 1 and (form not in _SERIES_HOLDERS or deep and form != "TIFF"):
        raise InputError(
            f"has {frames} frames, which {form} cannot hold; decode it to .tif, or one of them "
            "with --frame"
        )


def encoded(images: Sequence[Image.Image], suffix: str, metadata: Mapping[str, Any]) -> bytes:
    """The frames of an image as the bytes of a file of the suffix's format.

    metadata: by names of `info`; the image's own `info` has no others. Raises InputError if the
    format cannot hold the image, or metadata as large as this.
    """
    form, options = FORMATS[suffix.lower()]
    image, *others = (_held(each, form) for each in images)
    if others:
        options = {**options, "save_all": True, "append_images": others}
    try:
        return _save(image, form, options, metadata)
    except _WRITER_ERRORS as error:
        causes = [
            kind.option
            for kind in KINDS
            if kind.name in metadata and not _takes(image, suffix, {kind.name: metadata[kind.name]})
        ]
        hint = " ".join(f"--drop {option}" for option in causes)
        hint = f"; {hint} leaves that metadata out" if hint else ""
        raise InputError(f"cannot be written as {form}: {error}{hint}") from error


def _held(image: Image.Image, form: str) -> Image.Image:
    """An image of few colours as the format can hold it, with the same colours."""
    if image.mode == "P" and image.has_transparency_data:
        return image if form in _TRANSPARENT_PALETTE_HOLDERS else image.convert("RGBA")
    holders = _INDEXED_HOLDERS.get(image.mode)
    if holders is None or form in holders:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _save(
    image: Image.Image, form: str, options: Mapping[str, Any], metadata: Mapping[str, Any]
) -> bytes:
    known = dict(metadata)
    text = known.pop("text", {})
    if form == "PNG":
        known["pnginfo"] = _png_text(text, known.pop("xmp", b""))
    elif form == "TIFF":
        exif = exif_of(known.pop("exif", b""))
        if "xmp" in known:
            exif[_TIFF_XMP] = known.pop("xmp")
        known["exif"] = exif.tobytes()
        # Pillow writes nested directories by itself only, and compresses by libtiff only.
        if any(tag in exif for tag in NESTED):
            options = {}
    buffer = io.BytesIO()
    image.save(buffer, form, **options, **known)
    return buffer.getvalue()


def _takes(image: Image.Image, suffix: str, metadata: Mapping[str, Any]) -> bool:
    """Whether the suffix's format holds the metadata beside one pixel."""
    try:
        _save(image.crop((0, 0, 1, 1)), *FORMATS[suffix.lower()], metadata)
    except _WRITER_ERRORS:
        return False
    return True


def _png_text(text: Mapping[str, str], xmp: bytes) -> PngImagePlugin.PngInfo:
    """What of text a PNG file can hold: its keys are of 1 to 79 letters of Latin-1."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        if 1 <= len(key) <= 79 and key.isprintable() and max(map(ord, key)) < 256:
            info.add_text(key, value)
    if xmp:
        info.add_itxt(PNG_XMP, xmp.decode("utf-8", "replace"))
    return info
