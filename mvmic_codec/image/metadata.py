"""Metadata as Pillow's `info` has it <-> the payloads of the container's metadata chunks.

EXIF is stored as it is, its orientation included: pixels are never rotated here, so whoever
shows the image applies the orientation, once.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mvmic_codec import rate
from mvmic_codec.bitstream import container
from mvmic_codec.errors import FormatError, InputError

if TYPE_CHECKING:
    from PIL import Image

# JPEG's marker before the TIFF header; Pillow's info["exif"] has it, the chunk does not.
_EXIF_MARKER = b"Exif\0\0"
_DPI = struct.Struct("<II")
_DPI_SCALE = 1000
_PNG_XMP = "XML:com.adobe.xmp"
_NAMES = {
    container.EXIF: "exif",
    container.ICC: "icc_profile",
    container.XMP: "xmp",
    container.DPI: "dpi",
    container.TEXT: "text",
}


def to_chunks(given: Mapping[str, Any], image: Image.Image | None) -> dict[bytes, bytes]:
    """Payloads by chunk type, for `container.write`.

    given: exif (bytes or PIL.Image.Exif), icc_profile (bytes), xmp (bytes or str), dpi (pair of
    numbers), text (mapping of str to str). One that is None is taken over from the image; an
    empty one is left out of the file. InputError if one that was given cannot be stored; one
    that comes with the image and cannot be is left out.
    """
    carried = {} if image is None else _carried(image)
    chunks = {}
    for kind, name in _NAMES.items():
        value = given.get(name)
        if value is not None:
            payload = _payload(kind, value)
        else:
            try:
                payload = _payload(kind, carried.get(name))
            except InputError:
                continue
        if payload:
            chunks[kind] = payload
    return chunks


def to_info(
    header: container.Header, chunks: Mapping[bytes, bytes]
) -> dict[str | tuple[int, int], Any]:
    """Pillow's `info`: model, rate_index, quality, and of exif, icc_profile, xmp, dpi, text what
    there is. Raises FormatError for a chunk that does not hold what it should.
    """
    info: dict[str | tuple[int, int], Any] = {
        "model": header.model,
        "rate_index": header.rate_index,
        "quality": round(rate.quality_of(header.rate_index), 2),
    }
    if container.EXIF in chunks:
        info["exif"] = _EXIF_MARKER + chunks[container.EXIF]
    if container.ICC in chunks:
        info["icc_profile"] = chunks[container.ICC]
    if container.XMP in chunks:
        info["xmp"] = chunks[container.XMP]
    if container.DPI in chunks:
        info["dpi"] = _parse_dpi(chunks[container.DPI])
    if container.TEXT in chunks:
        info["text"] = _parse_text(chunks[container.TEXT])
    return info


def _carried(image: Image.Image) -> dict[str, Any]:
    """The metadata an image brings along, under our names."""
    info = image.info
    text = info.get("text")
    if not isinstance(text, Mapping):
        text = getattr(image, "text", None)  # PNG images have it as an attribute
    if not isinstance(text, Mapping):
        text = {}
    profile = info.get("icc_profile")
    if isinstance(profile, bytes) and profile[16:20] == b"CMYK":
        profile = None  # it describes inks, and the samples are converted to RGB
    return {
        "exif": _exif_of(image),
        "icc_profile": profile,
        "xmp": info.get("xmp", info.get(_PNG_XMP)),
        "dpi": info.get("dpi"),
        "text": {key: value for key, value in text.items() if key != _PNG_XMP},
    }


def _exif_of(image: Image.Image) -> Any:
    """EXIF as the image came with it, or as `getexif` has it if that was changed since."""
    from PIL import Image

    stored = image.info.get("exif")
    if not isinstance(stored, bytes):
        return stored
    before = Image.Exif()
    try:
        before.load(stored)
        now = image.getexif()
    # Pillow's reader lets many kinds of errors through; what it cannot read stays as it is.
    except Exception:
        return stored
    if dict(now) == dict(before):
        return stored
    return now.tobytes() if now else b""


def _payload(kind: bytes, value: Any) -> bytes:
    """Payload of one chunk, empty for nothing to store; InputError if the value cannot be."""
    if not value:
        return b""
    if kind == container.DPI:
        return _format_dpi(value)
    if kind == container.TEXT:
        return _format_text(value)
    if kind == container.EXIF:
        if not isinstance(value, bytes) and hasattr(value, "tobytes"):
            value = value.tobytes()
        if isinstance(value, bytes):
            value = value.removeprefix(_EXIF_MARKER)
    if kind == container.XMP and isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if not isinstance(value, bytes):
        raise InputError(f"{_NAMES[kind]} must be bytes, got {type(value).__name__}")
    return value


def _format_dpi(value: Any) -> bytes:
    try:
        x, y = value
        steps = [round(float(axis) * _DPI_SCALE) for axis in (x, y)]
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        steps = [0]
    if not all(0 < step < 1 << 32 for step in steps):
        raise InputError(f"dpi must be a pair of positive numbers of dots per inch, got {value!r}")
    return _DPI.pack(*steps)


def _parse_dpi(payload: bytes) -> tuple[float, float]:
    if len(payload) != _DPI.size or not all(_DPI.unpack(payload)):
        raise FormatError("the dpIX chunk does not hold two resolutions; the file is damaged")
    x, y = _DPI.unpack(payload)
    return x / _DPI_SCALE, y / _DPI_SCALE


def _format_text(value: Any) -> bytes:
    try:
        parts = [part for pair in value.items() for part in pair]
        if any("\0" in part for part in parts):
            raise InputError("text must not hold NUL characters")
        return "\0".join(parts).encode("utf-8")
    except (AttributeError, TypeError, UnicodeEncodeError):
        raise InputError("text must be a mapping of str to str, in valid Unicode") from None


def _parse_text(payload: bytes) -> dict[str, str]:
    try:
        parts = payload.decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise FormatError("the teXT chunk is not UTF-8; the file is damaged") from None
    if len(parts) % 2:
        raise FormatError("the teXT chunk has a key without a value; the file is damaged")
    return dict(zip(parts[0::2], parts[1::2], strict=True))
