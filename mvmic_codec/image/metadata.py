"""Metadata: Pillow's `info` <-> the payloads of the container's metadata chunks.

EXIF is stored unchanged, with its orientation. Nothing here rotates pixels, so a viewer applies the
orientation, once.

What the caller last left in an image counts. Each kind is taken from these places:

EXIF  `info["exif"]`, or `getexif()` if that was changed. The tags of a TIFF are not taken over.
XMP   `info["xmp"]`. A PNG has it in `info["XML:com.adobe.xmp"]` and in its attribute `text`, too.
text  the mapping `info["text"]`. For a PNG: what is in both `info` and its attribute `text`.
ICC   `info["icc_profile"]`, if its colour space is that of the stored samples
dpi   `info["dpi"]`, but for what Pillow makes up where a TIFF or JPEG has no resolution

A value that is missing from one of its places was removed by the caller. If two places have
different values and the later one cannot be known, that is an InputError; for text it is a warning.
Giving that kind of metadata to `encode` avoids both.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mvmic_codec import rate
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.header import Header
from mvmic_codec.errors import FormatError, InputError

if TYPE_CHECKING:
    from PIL import Image


class Kind(NamedTuple):
    """One kind of metadata and its names.

    chunk   type of its chunk in a file
    name    in Pillow's `info`, and as an argument of `encode`
    option  of `--drop` on the command line
    label   for people
    """

    chunk: bytes
    name: str
    option: str
    label: str


KINDS = (
    Kind(container.EXIF, "exif", "exif", "EXIF"),
    Kind(container.ICC, "icc_profile", "icc", "colour profile"),
    Kind(container.XMP, "xmp", "xmp", "XMP"),
    Kind(container.DPI, "dpi", "dpi", "resolution"),
    Kind(container.TEXT, "text", "text", "text"),
)
NAMES = tuple(kind.name for kind in KINDS)
# JPEG's marker before the TIFF header. Pillow's info["exif"] has it, the chunk does not.
EXIF_MARKER = b"Exif\0\0"
_DPI = struct.Struct("<II")
_U32 = struct.Struct("<I")
_DPI_SCALE = 1000
_LARGEST_U32 = 2**32 - 1
# Text chunks of a PNG with these names hold other metadata. The second name is ImageMagick's.
_PNG_XMP = "XML:com.adobe.xmp"
# What Pillow's `info` of a PNG holds beside text. A text may have such a name, too.
_PNG_OTHERS = frozenset(
    ("dpi", "gamma", "srgb", "chromaticity", "transparency", "aspect", "interlace", "icc_profile")
    + ("exif", "xmp", "default_image", "loop", "duration", "disposal", "blend", "bbox", "timestamp")
)
_PNG_EXIF = "Raw profile type exif"
# Tags of TIFF and EXIF: both resolutions, and their unit with the value that is not per inch.
_RESOLUTION = (282, 283)
_UNIT = 296
_CENTIMETRE = 3
# A JPEG's density in dots per inch or per centimetre; others are a ratio.
_JFIF_UNITS = (1, 2)


def to_chunks(
    given: Mapping[str, Any], image: Image.Image | None, *, gray: bool
) -> dict[bytes, bytes]:
    """The payloads of the metadata chunks by type, for `container.write`.

    given  any of exif (bytes or PIL.Image.Exif), icc_profile (bytes), xmp (bytes or str), dpi (pair
           of numbers), text (mapping of str to str). None or an empty value leaves that kind out. A
           kind that is not given is taken over from the image.
    gray   whether the samples are stored as gray, which takes a gray profile

    Raises InputError if a given value cannot be stored, or if the image holds two different values.
    A value of the image that cannot be stored is left out.
    """
    chunks = {}
    for chunk, name, _, _ in KINDS:
        if name in given:
            payload = _payload(chunk, name, given[name])
            if chunk == container.ICC and payload and not profile_fits(payload, gray):
                raise InputError(
                    f"icc_profile is no ICC profile for {'gray' if gray else 'RGB'} samples, as "
                    "this image has; give one that is, or None"
                )
        elif image is None:
            continue
        else:
            value = carried(name, image)
            try:
                payload = _payload(chunk, name, value)
            except InputError:
                continue
            if chunk == container.ICC and not profile_fits(payload, gray):
                continue
        if payload:
            chunks[chunk] = payload
    return chunks


def to_info(
    header: Header, chunks: Mapping[bytes, bytes], frame: int = 0
) -> dict[str | tuple[int, int], Any]:
    """Pillow's `info` of a frame: model, rate_index, quality, and the metadata that there are.

    Raises FormatError for a chunk whose content is not valid.
    """
    info: dict[str | tuple[int, int], Any] = {
        "model": header.model,
        "rate_index": header.rate_index,
        "quality": round(rate.quality_of(header.rate_index), 2),
    }
    if container.EXIF in chunks:
        info["exif"] = EXIF_MARKER + chunks[container.EXIF]
    if container.ICC in chunks:
        info["icc_profile"] = chunks[container.ICC]
    if container.XMP in chunks:
        info["xmp"] = chunks[container.XMP]
    if container.DPI in chunks:
        info["dpi"] = _parse_dpi(chunks[container.DPI])
    if container.TEXT in chunks:
        info["text"] = _parse_text(chunks[container.TEXT])
    if container.ANIMATION in chunks:
        info["loop"], info["duration"] = _parse_animation(
            chunks[container.ANIMATION], header.frames, frame
        )
    return info


def duration_of(header: Header, chunks: Mapping[bytes, bytes], frame: int) -> int | None:
    """For how many milliseconds a frame is shown; None if the file does not say so."""
    if container.ANIMATION not in chunks:
        return None
    return _parse_animation(chunks[container.ANIMATION], header.frames, frame)[1]


def animation_chunk(
    images: object, count: int, duration: float | Sequence[float] | None, loop: int | None
) -> dict[bytes, bytes]:
    """The chunk that says how `count` frames are shown; none for one frame, or if nothing is known.

    duration and loop are those of `api.encode`. Raises InputError for values that cannot be; those
    of the images are left out then.
    """
    given = list(images) if isinstance(images, (list, tuple)) else []
    infos = [getattr(image, "info", {}) for image in given]
    durations, times = None, None
    if duration is not None:
        durations = _whole_numbers(duration)
        if durations is not None and len(durations) not in (1, count):
            raise InputError(f"{len(durations)} durations were given for {count} frames")
    elif any(info.get("duration") is not None for info in infos):
        # The first frame of an animated PNG may have none.
        durations = _whole_numbers([info.get("duration") or 0 for info in infos])
    if loop is not None:
        times = _whole_numbers([loop])
    elif infos and infos[0].get("loop") is not None:
        times = _whole_numbers([infos[0]["loop"]])
    if duration is not None and durations is None or loop is not None and times is None:
        raise InputError("duration is in milliseconds, and loop how often; both are 0 or more")
    if count == 1 or durations is None and times is None:
        return {}
    durations = durations or [0]
    if len(set(durations)) == 1:
        durations = durations[:1]
    return {container.ANIMATION: b"".join(map(_U32.pack, [*(times or [0]), *durations]))}


def _whole_numbers(given: Any) -> list[int] | None:
    """A number or a sequence of them, rounded; None if one is no number or has no place."""
    # An array, or a number of numpy.
    plain = given.tolist() if hasattr(given, "tolist") else given
    is_sequence = isinstance(plain, Sequence) and not isinstance(plain, (str, bytes, bytearray))
    try:
        rounded = [round(number) for number in (plain if is_sequence else [plain])]
        return rounded if all(0 <= number <= _LARGEST_U32 for number in rounded) else None
    except (TypeError, ValueError, OverflowError):
        return None


def carried(name: str, image: Image.Image) -> Any:
    """An image's own value of the kind of metadata with this name; false if it has none.

    Raises InputError if it has two different values.
    """
    if name == "exif":
        return _exif_of(image)
    if name == "xmp":
        return _xmp_of(image)
    if name == "text":
        return _text_of(image)
    if name == "dpi":
        return _dpi_of(image)
    return image.info.get(name)


def all_carried(image: Image.Image, given: Collection[str] = ()) -> dict[str, Any]:
    """`carried` of each kind, but for those that are given to `encode` and so not asked for."""
    return {kind.name: carried(kind.name, image) for kind in KINDS if kind.name not in given}


def info_with(info: Mapping[Any, Any], held: Mapping[str, Any]) -> dict[Any, Any]:
    """The `info` of a copy of an image, with what `all_carried` found in the image.

    A copy has neither what `getexif` holds nor the attribute `text` of a PNG.
    """
    others = {
        key: value
        for key, value in info.items()
        if key not in held and key not in (_PNG_XMP, _PNG_EXIF)
    }
    return others | {name: value for name, value in held.items() if value}


def _exif_of(image: Image.Image) -> Any:
    """EXIF from `info`, or from `getexif` if the caller changed that.

    Pillow reads `info` once and keeps the result, so a caller may change either without the other.
    If both were changed, nobody can know which came last. EXIF that was removed from `info` stays
    removed; two different values are an InputError.
    """
    stored = _stored_exif(image.info)
    # Not getexif(): if nobody has called it before, it would read `info` only now.
    held = getattr(image, "_exif", None)
    if held is None or not held._loaded or hasattr(image, "tag_v2"):
        # The tags of a TIFF describe that file. A caller who wants them gives exif=.
        return stored
    try:
        before = _exif_as_read(held, image.info)
    # Pillow's reader raises many kinds of errors. EXIF that it cannot read is stored unchanged.
    except Exception:
        return stored
    written = _written(before)
    edited = _written(held)
    if written == edited and (written is not None or _directories(before) == _directories(held)):
        return stored
    if stored == (held._loaded_exif or b"").removeprefix(EXIF_MARKER):
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
    """EXIF in `info`, without the marker. Empty if there is none that can be stored."""
    from PIL import Image

    stored = info.get("exif")
    if stored is None and isinstance(info.get(_PNG_EXIF), str):
        try:
            # The first lines hold a name and a length.
            stored = bytes.fromhex("".join(info[_PNG_EXIF].split("\n")[3:]))
        except ValueError:
            return b""
    if isinstance(stored, bytes):
        return stored.removeprefix(EXIF_MARKER)
    return (_written(stored) or b"") if isinstance(stored, Image.Exif) else b""


def _exif_payload(exif: Image.Exif) -> bytes:
    """The TIFF structure of an Exif object; empty if the object has no tags."""
    return _or_empty(exif.tobytes().removeprefix(EXIF_MARKER))


def _or_empty(payload: bytes) -> bytes:
    """The TIFF structure, or b"" if it has no tags. Bytes 8 and 9 hold their number."""
    return payload if any(payload[8:10]) else b""


def _exif_as_read(held: Image.Exif, info: Mapping[Any, Any]) -> Image.Exif:
    """The EXIF that Pillow read, before the caller could change it."""
    from PIL import Image

    # Pillow reads an orientation from XMP, too.
    image = Image.Image()
    image.info = {key: info[key] for key in ("xmp", _PNG_XMP) if key in info}
    if held._loaded_exif is not None:
        image.info["exif"] = held._loaded_exif
    exif = image.getexif()
    # Reading a nested directory can add an empty one.
    for tag in held._ifds:
        exif.get_ifd(tag)
    return exif


def _written(exif: Image.Exif) -> bytes | None:
    """The TIFF structure of an Exif object, or None if Pillow cannot write it."""
    try:
        return _exif_payload(exif)
    # Pillow's writer raises many kinds of errors, even for tags that Pillow has read.
    except Exception:
        return None


def _directories(exif: Image.Exif) -> list[dict[int, Any]]:
    """The tags of an Exif object by directory: main, EXIF, GPS and interoperability."""
    return [dict(exif), *(dict(exif.get_ifd(tag)) for tag in (0x8769, 0x8825, 0xA005))]


def _xmp_of(image: Image.Image) -> Any:
    """XMP from `info`. For a PNG, `info` has two copies and `image.text` the original.

    A copy that was changed counts. Two copies with different changes are an InputError.
    """
    from PIL import Image

    xmp, copy = _as_bytes(image.info.get("xmp")), _as_bytes(image.info.get(_PNG_XMP))
    text = _png_text(image)
    # Pillow before 11 has only one of the two, and Image.Image has no getxmp.
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
    """Text from `info["text"]`. For a PNG, from `info` and `image.text`, whichever was changed.

    InputError where both were changed and disagree, or where nobody can tell which one was.
    """
    info = image.info
    if isinstance(info.get("text"), Mapping):
        return dict(info["text"])
    found: dict[str, str] = {}
    as_read: Mapping[str, str] | None = None
    for key, value in (_png_text(image) or {}).items():
        # A key that is gone from one of the two was removed, and so was one whose value is None.
        if info.get(key) is None or key in (_PNG_XMP, _PNG_EXIF):
            continue
        found[key] = value
        if info[key] == value or (key in _PNG_OTHERS and not isinstance(info[key], str)):
            continue
        if as_read is None:
            as_read = _png_text_as_read(image)
        if as_read.get(key) == value and isinstance(info[key], str):
            found[key] = info[key]
        elif as_read.get(key) != info[key]:
            raise InputError(
                f"text {key!r} is {info[key]!r} in the image's info and {value!r} in its attribute "
                "text; give text= to say what to write"
            )
    return found


def _dpi_of(image: Image.Image) -> Any:
    """The resolution, but for one that Pillow made up because the file has none."""
    dpi = image.info.get("dpi")
    return None if dpi == _made_up_dpi(image) else dpi


def _made_up_dpi(image: Image.Image) -> tuple[float, ...] | None:
    """What Pillow says is the resolution of a TIFF, or of a JPEG with EXIF, that has none."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None and not all(tag in tags for tag in _RESOLUTION):
        per_inch = 2.54 if tags.get(_UNIT) == _CENTIMETRE else 1
        return tuple(tags.get(tag, 1) * per_inch for tag in _RESOLUTION)
    exif = getattr(image, "_exif", None)
    of_jpeg = image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in _JFIF_UNITS
    if of_jpeg and exif is not None and exif._loaded_exif is not None:
        return None if _RESOLUTION[0] in exif and _UNIT in exif else (72, 72)
    return None


def _png_text_as_read(image: Image.Image) -> Mapping[str, str]:
    """The text of an opened PNG as its file has it; empty if that cannot be read again."""
    from PIL import Image

    for source in (getattr(image, "_fp", None), getattr(image, "filename", None)):
        try:
            if source is not None and hasattr(source, "seek"):
                source.seek(0)
            if source:
                with Image.open(source) as again:
                    return dict(_png_text(again) or {})
        # The file may be closed, gone, or something else by now, which Pillow says in many ways.
        except Exception:
            continue
    return {}


def _png_text(image: Image.Image) -> Mapping[str, str] | None:
    """The text chunks of an opened PNG, which Pillow keeps in an attribute."""
    text = getattr(image, "text", None)
    return text if isinstance(text, Mapping) else None


def profile_fits(profile: bytes, gray: bool) -> bool:
    """Whether an ICC profile is for gray samples, or else for RGB.

    Bytes 16 to 19 of its header name the colour space (ICC.1:2022, section 7.2).
    """
    return profile[16:20] == (b"GRAY" if gray else b"RGB ")


def _payload(chunk: bytes, name: str, value: Any) -> bytes:
    """The payload of one chunk; empty for an empty value. InputError for one of the wrong kind."""
    # An Exif object is false even if it has tags in nested directories.
    if not value and not hasattr(value, "get_ifd"):
        return b""
    if chunk == container.DPI:
        return _format_dpi(value)
    if chunk == container.TEXT:
        return _format_text(value)
    if chunk == container.EXIF:
        if hasattr(value, "get_ifd"):
            value = _exif_payload(value)
        if isinstance(value, bytes):
            value = value.removeprefix(EXIF_MARKER)
    if chunk == container.XMP and isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if not isinstance(value, bytes):
        raise InputError(f"{name} must be bytes, got {type(value).__name__}")
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


def _parse_animation(payload: bytes, frames: int, frame: int) -> tuple[int, int]:
    """How often frames are shown, and for how many milliseconds one of them."""
    count = len(payload) // _U32.size - 1
    if len(payload) % _U32.size or count not in (1, frames):
        raise FormatError(f"the durations of frames take {len(payload)} bytes; the file is damaged")
    # Only what is asked for is read: a file may have millions of frames.
    (loop,) = _U32.unpack_from(payload)
    (duration,) = _U32.unpack_from(payload, _U32.size * (1 + (frame if count > 1 else 0)))
    return loop, duration


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
