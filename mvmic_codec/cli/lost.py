"""What is lost or changed on the way from one image file to another, in words for people."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from math import isclose
from typing import TYPE_CHECKING, Any

from mvmic_codec.image import metadata

if TYPE_CHECKING:
    from PIL import Image, ImageFile

PNG_XMP = "XML:com.adobe.xmp"
NESTED = (0x8769, 0x8825)  # the tags of EXIF's own and of GPS's directory

# Of modes that have other samples in a file, what people call them.
_CONVERTED = {
    "CMYK": "CMYK becomes RGB",
    "YCbCr": "YCbCr becomes RGB",
    "HSV": "HSV becomes RGB",
    "F": "float samples become 8 bits",
}
# Pillow's names for samples of 16 bits in a file, such as RGB;16B, but not BGR;16, a pixel of 16.
_16_BITS = re.compile(r";16[BLN]")
# Text in Pillow's `info` that says how the file was written, and kinds of metadata that have a
# place. Other text was written for people.
_TECHNICAL = frozenset(
    ("compression", "flashpix", "model", "mp", "transparency", "version", "Image type", "Name")
    + ("exif", "Raw profile type exif", "icc_profile", "xmp", PNG_XMP)
)
# The comment of every JPEG 2000 file that Pillow wrote.
_OPENJPEG = b"Created by OpenJPEG"
_IPTC = 0x0404  # Photoshop's number for IPTC
# Tags that say how a TIFF stores its samples, and those that `info` has in another way.
_TIFF_TECHNICAL = frozenset(
    (*range(254, 267), 273, 274, *range(277, 285), *range(288, 294), 296, 297, 301)
    + (*range(317, 329), 330, 332, 334, *range(336, 343), 347, *range(512, 522))
    + (*range(529, 533), 700, 34675)
)
_TAGS_SHOWN = 3


def sentence(form: str, labels: Collection[str]) -> str:
    """That a format does not hold this metadata."""
    return f"{form} does not hold all of its metadata; lost: {', '.join(labels)}"


def changes(image: ImageFile.ImageFile) -> list[str]:
    """What encoding changes in an image that was opened and not yet loaded, but for metadata."""
    said = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format == "MPO":
        said.append(f"holds {frames} frames; only the first is encoded")
    # Icons hold one drawing in several sizes, of which Pillow reads the largest.
    sizes = len(set(image.info.get("sizes", ())))
    if sizes > 1:
        said.append(f"holds {sizes} sizes; only the largest is encoded")
    if image.mode in _CONVERTED:
        said.append(_CONVERTED[image.mode])
    elif image.mode[0] != "I" and _is_deeper(image):
        said.append("Pillow reads its samples of more than 8 bits as 8 bits")
    if image.mode == "I;16" and _tiff_tags(image).get(262) == 0:
        said.append("in it 0 is white, and in the .mvm file black")
    return said


def held_metadata(image: Image.Image, dropped: Collection[str]) -> dict[str, Any]:
    """What an image has of the kinds of metadata that .mvm files hold, by their names in `info`."""
    found = metadata.all_carried(image, dropped)
    return {name: value for name, value in found.items() if value}


def missing(file: bytes, had: Mapping[str, Any]) -> list[str]:
    """Labels of the kinds of metadata that a file, made of an image that had them, does not hold.

    had is from `held_metadata`.
    """
    from PIL import Image

    with warnings.catch_warnings():
        # The image was not too large to be decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(file)) as image:
            return [
                kind.label
                for kind in metadata.KINDS
                if kind.name in had and not _has(image, kind.name, had[kind.name])
            ]


def unheld(image: Image.Image, dropped: Collection[str]) -> list[str]:
    """Labels of metadata of an image for which .mvm files have no place.

    Each is like one of the kinds that they have, and left out if that was dropped.
    """
    return [label for name, label in _others(image) if name not in dropped]


def _others(image: Image.Image) -> Iterator[tuple[str, str]]:
    """Label of each piece of metadata without a place, after the kind that it is like."""
    info = image.info
    tags = [_tag_name(tag) for tag in _tiff_tags(image) if tag not in _TIFF_TECHNICAL]
    if tags:
        more = len(tags) - _TAGS_SHOWN
        names = ", ".join(tags[:_TAGS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield "exif", f"TIFF tags ({names})"
    if _IPTC in info.get("photoshop", {}):
        yield "text", "IPTC"
    taken = metadata.carried("text", image)
    for key, value in info.items():
        if key not in _TECHNICAL and key not in taken and _is_text(value):
            yield "text", str(key)
    if not metadata.carried("dpi", image):
        # Without a unit: what the numbers mean was agreed on elsewhere.
        pair = info.get("resolution", info.get("aspect", info.get("jfif_density", (1, 1))))
        if set(pair) - {0, 1}:
            yield "dpi", "resolution without a unit"


def _is_text(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_is_text, value))
    if isinstance(value, bytes) and value.startswith(_OPENJPEG):
        return False
    return isinstance(value, (str, bytes)) and bool(value.strip())


def _tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    return getattr(image, "tag_v2", {})


def _tag_name(tag: int) -> str:
    from PIL import TiffTags

    name = TiffTags.lookup(tag).name
    return str(tag) if name in (None, "unknown") else name


def _is_deeper(image: ImageFile.ImageFile) -> bool:
    """Whether the file has samples of more than 8 bits where Pillow makes 8 of them."""
    if image.format == "JPEG2000":
        return _jpeg2000_bits(image) > 8
    # pillow-heif says it in `info`.
    if image.info.get("bit_depth", 8) > 8:
        return True
    for tile in getattr(image, "tile", ()):
        decoder, arguments = tile[0], tile[3]
        parts = arguments if isinstance(arguments, tuple) else (arguments,)
        if decoder.startswith("ppm"):
            return isinstance(parts[-1], int) and parts[-1] > 255
        if any(isinstance(part, str) and _16_BITS.search(part) for part in parts):
            return True
    return False


def _jpeg2000_bits(image: ImageFile.ImageFile) -> int:
    """Bits per sample by the image and tile size marker (ISO/IEC 15444-1, A.5.1), 8 without one."""
    file = image.fp
    assert file is not None
    before = file.tell()
    file.seek(0)
    start = file.read(1 << 16)
    file.seek(before)
    place = start.find(b"\xff\x4f\xff\x51")
    depth = start[place + 42 : place + 43] if place >= 0 else b""
    return (depth[0] & 0x7F) + 1 if depth else 8


def _has(image: Image.Image, name: str, value: Any) -> bool:
    """Whether the image has this metadata; the resolution to 0.5%, as some formats round it."""
    info = image.info
    if name == "text":
        there = info.get("text", info)
        return all(there.get(key) == said for key, said in value.items())
    if name == "xmp":
        return _encoded(value) in (info.get("xmp"), _encoded(info.get(PNG_XMP)))
    if name == "dpi":
        return all(map(partial(isclose, rel_tol=0.005), value, info.get("dpi", (0, 0))))
    if name == "icc_profile":
        return bool(info.get("icc_profile") == value)
    value = value.removeprefix(metadata.EXIF_MARKER)
    if info.get("exif", b"").removeprefix(metadata.EXIF_MARKER) == value:
        return True
    try:
        before, after = exif_of(value), image.getexif()
        return set(before) <= set(after) and all(
            set(before.get_ifd(tag)) <= set(after.get_ifd(tag)) for tag in NESTED
        )
    # Pillow's reader lets many kinds of errors through.
    except Exception:
        return False


def exif_of(stored: bytes) -> Image.Exif:
    """The tags of EXIF as a file holds it."""
    from PIL import Image

    exif = Image.Exif()
    exif.load(stored)
    return exif


def _encoded(text: Any) -> Any:
    return text.encode("utf-8", "replace") if isinstance(text, str) else text
