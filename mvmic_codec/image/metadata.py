"""Metadata as Pillow's `info` has it <-> the payloads of the container's metadata chunks.

EXIF is stored as it is, its orientation included: pixels are never rotated here, so whoever
shows the image applies the orientation, once.

What is taken over from an image is what the caller has left there, in `info` or elsewhere:

EXIF  `info["exif"]`, or `getexif()` where that was changed. A TIFF's tags are not taken over.
XMP   `info["xmp"]`; a PNG has it as `info["XML:com.adobe.xmp"]` and in `text`, too
text  the mapping `info["text"]`, or of a PNG what both `info` and its attribute `text` have
ICC   `info["icc_profile"]`, if its colour space is that of the samples stored
dpi   `info["dpi"]`

What is missing in one of several places was removed. What differs between two places, and nobody
can know which was last, is an InputError, or of text a warning; giving the kind avoids both.
"""

from __future__ import annotations

import struct
import warnings
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
# Names of what is no text among the texts of a PNG; the second is ImageMagick's.
_PNG_XMP = "XML:com.adobe.xmp"
_PNG_EXIF = "Raw profile type exif"
_NAMES = {
    container.EXIF: "exif",
    container.ICC: "icc_profile",
    container.XMP: "xmp",
    container.DPI: "dpi",
    container.TEXT: "text",
}


def to_chunks(
    given: Mapping[str, Any], image: Image.Image | None, *, gray: bool
) -> dict[bytes, bytes]:
    """Payloads by chunk type, for `container.write`.

    given: any of exif (bytes or PIL.Image.Exif), icc_profile (bytes), xmp (bytes or str), dpi (pair
    of numbers), text (mapping of str to str). One that is None or empty is left out of the file.
    One that is not given is taken over from the image, as the caller has left it there.
    gray: whether the samples are stored as gray, for which no other profile fits.

    InputError if one that was given cannot be stored, or if the image says two things; what comes
    with the image and cannot be stored is left out.
    """
    chunks = {}
    for kind, name in _NAMES.items():
        if name in given:
            payload = _payload(kind, given[name])
            if kind == container.ICC and payload and not profile_fits(payload, gray):
                raise InputError(
                    f"icc_profile is no ICC profile for {'gray' if gray else 'RGB'} samples, as "
                    "this image has; give one that is, or None"
                )
        elif image is None:
            continue
        else:
            carried = _carried(name, image)
            try:
                payload = _payload(kind, carried)
            except InputError:
                continue
            if kind == container.ICC and not profile_fits(payload, gray):
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


def _carried(name: str, image: Image.Image) -> Any:
    """What an image brings along under one of our names. InputError if it says two things."""
    if name == "exif":
        return _exif_of(image)
    if name == "xmp":
        return _xmp_of(image)
    if name == "text":
        return _text_of(image)
    return image.info.get(name)


def _exif_of(image: Image.Image) -> Any:
    """EXIF as `info` has it, or as `getexif` has it if that was changed.

    Pillow reads `info` once and keeps what it has read, so either may be changed without the other.
    Which was last cannot be known if both were: what `info` has lost is lost, and two different
    values are an InputError.
    """
    stored = _stored_exif(image.info)
    # Not getexif, which would read `info` now if nobody has asked for it before.
    held = getattr(image, "_exif", None)
    if held is None or not held._loaded or hasattr(image, "tag_v2"):
        # The tags of a TIFF describe that file: a caller who wants them gives exif=.
        return stored
    try:
        before = _exif_as_read(held, image.info)
    # Pillow's reader lets many kinds of errors through; what it cannot read stays as it is.
    except Exception:
        return stored
    written = _written(before)
    edited = _written(held)
    if written == edited and (written is not None or _directories(before) == _directories(held)):
        return stored
    if stored == (held._loaded_exif or b"").removeprefix(_EXIF_MARKER):
        if edited is None:
            raise InputError(
                "Pillow cannot write what the image's getexif() holds since it was changed; "
                "give exif= to say what to write"
            )
        return edited
    if not stored or _or_empty(stored) == edited:
        return edited if stored else None
    raise InputError(
        "the image's info['exif'] and getexif() were both changed and disagree; "
        "give exif= to say which to write"
    )


def _stored_exif(info: Mapping[Any, Any]) -> bytes:
    """EXIF in `info`, without marker; empty if there is none, or none that can be stored."""
    from PIL import Image

    stored = info.get("exif")
    if stored is None and isinstance(info.get(_PNG_EXIF), str):
        try:
            # The first lines are a name and a length.
            stored = bytes.fromhex("".join(info[_PNG_EXIF].split("\n")[3:]))
        except ValueError:
            return b""
    if isinstance(stored, bytes):
        return stored.removeprefix(_EXIF_MARKER)
    return (_written(stored) or b"") if isinstance(stored, Image.Exif) else b""


def _exif_payload(exif: Image.Exif) -> bytes:
    """The TIFF structure of an Exif object, empty if that has no tag."""
    return _or_empty(exif.tobytes().removeprefix(_EXIF_MARKER))


def _or_empty(payload: bytes) -> bytes:
    """A TIFF structure, or nothing in place of one without tags: their number is in byte 8 on."""
    return payload if any(payload[8:10]) else b""


def _exif_as_read(held: Image.Exif, info: Mapping[Any, Any]) -> Image.Exif:
    """What Pillow read before the caller could change it."""
    from PIL import Image

    # Pillow reads an orientation out of XMP, too.
    image = Image.Image()
    image.info = {key: info[key] for key in ("xmp", _PNG_XMP) if key in info}
    if held._loaded_exif is not None:
        image.info["exif"] = held._loaded_exif
    exif = image.getexif()
    # Only to look at a nested directory can add an empty one.
    for tag in held._ifds:
        exif.get_ifd(tag)
    return exif


def _written(exif: Image.Exif) -> bytes | None:
    """The TIFF structure of an Exif object, or None if Pillow cannot write it."""
    try:
        return _exif_payload(exif)
    # Of the many kinds of errors that Pillow's writer lets through, for tags that it has read.
    except Exception:
        return None


def _directories(exif: Image.Exif) -> list[dict[int, Any]]:
    """The tags of an Exif object by directory: the first, EXIF, GPS and interoperability."""
    return [dict(exif), *(dict(exif.get_ifd(tag)) for tag in (0x8769, 0x8825, 0xA005))]


def _xmp_of(image: Image.Image) -> Any:
    """XMP as `info` has it; of a PNG it has two copies, and `image.text` has the original.

    The copy that was changed counts. Two different ones are an InputError.
    """
    from PIL import Image

    xmp, copy = _as_bytes(image.info.get("xmp")), _as_bytes(image.info.get(_PNG_XMP))
    text = _png_text(image)
    # Pillow before 11 has one of them only, and getxmp elsewhere.
    if xmp is None and not hasattr(Image.Image, "getxmp"):
        xmp = copy
    if text is None:
        return xmp
    original = _as_bytes(text.get(_PNG_XMP))
    if xmp == copy:
        return None if original is None else xmp
    changed = [value for value in (xmp, copy) if value is not None and value != original]
    if len(changed) > 1:
        raise InputError(
            "the image's info['xmp'] and info['XML:com.adobe.xmp'] were both changed and disagree; "
            "give xmp= to say which to write"
        )
    return changed[0] if changed else None


def _as_bytes(value: Any) -> Any:
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


def _text_of(image: Image.Image) -> dict[str, str]:
    """Text as `info` has it: under "text", or of a PNG under the keys that `image.text` has."""
    info = image.info
    if isinstance(info.get("text"), Mapping):
        return dict(info["text"])
    found = {}
    for key, value in (_png_text(image) or {}).items():
        # What is gone from one of the two was removed.
        if key not in info or key in (_PNG_XMP, _PNG_EXIF):
            continue
        # Pillow has other things in info, too, whose names may be those of texts.
        found[key] = info[key] if isinstance(info[key], str) else value
        if found[key] != value:
            warnings.warn(
                f"text {key!r} is one in the image's info and another in its attribute text; "
                "the one in info is written, give text= for the other",
                stacklevel=2,
            )
    return found


def _png_text(image: Image.Image) -> Mapping[str, str] | None:
    """The text chunks of an opened PNG, which Pillow has as an attribute."""
    text = getattr(image, "text", None)
    return text if isinstance(text, Mapping) else None


def profile_fits(profile: bytes, gray: bool) -> bool:
    """Whether an ICC profile is for gray samples, or else for RGB.

    Bytes 16 to 19 of its header name the colour space (ICC.1:2022, section 7.2).
    """
    return profile[16:20] == (b"GRAY" if gray else b"RGB ")


def _payload(kind: bytes, value: Any) -> bytes:
    """Payload of one chunk, empty for nothing to store; InputError if the value cannot be."""
    # Not the emptiness of EXIF: that counts no tags in nested directories.
    if not value and not hasattr(value, "get_ifd"):
        return b""
    if kind == container.DPI:
        return _format_dpi(value)
    if kind == container.TEXT:
        return _format_text(value)
    if kind == container.EXIF:
        if hasattr(value, "get_ifd"):
            value = _exif_payload(value)
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
