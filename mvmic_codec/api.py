"""encode, decode, read_header: the one place where container, samples, encoder and decoder meet.

numpy and torch are imported when pixels are asked for, not before.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from types import EllipsisType
from typing import IO, TYPE_CHECKING, Any, cast

from PIL import Image

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.container import Header
from mvmic_codec.errors import FormatError, InputError
from mvmic_codec.image import metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray


Data = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]


def encode(
    image: Image.Image | NDArray[Any],
    quality: float | None = None,
    *,
    rate_index: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    max_bytes: float | None = None,
    exif: bytes | Image.Exif | None | EllipsisType = ...,
    icc_profile: bytes | None | EllipsisType = ...,
    xmp: bytes | str | None | EllipsisType = ...,
    dpi: tuple[float, float] | None | EllipsisType = ...,
    text: Mapping[str, str] | None | EllipsisType = ...,
    effort: int = 1,
    on_round: Callable[[], object] | None = None,
    device: str | None = None,
) -> bytes:
    """An image as the bytes of an `.mvm` file.

    image        Pillow image or array; see `mvmic_codec.image.samples` for modes, types and shapes

    At most one of these says how much to keep; without any it is quality 7:

    quality      1 (smallest file) to 8 (best), fractions allowed
    rate_index   the same ladder as an integer, 0 to 63
    bpp          best quality at no more than this many bits per pixel (metadata not counted)
    psnr         smallest file with at least this many dB; the peak is the range of values
    max_bytes    best quality with no more than this many bytes in all

    effort: 1, or 2 or 3 for symbols refined in 2 or 12 rounds. That takes about 4 or 20 times as
    long (gray 7 or 35) and 3 to 4 times the memory, 0.7 kB for each pixel, for 0 to 2% fewer bits,
    most at low rates in colour. A search for bpp, psnr or max_bytes takes that up to 7 times.
    Decoding is the same.
    on_round is called after each round of every file that is tried, to show that work goes on.

    exif, icc_profile, xmp, dpi, text are taken over from the image where not given (`...`); None
    or an empty value leaves one out. `mvmic_codec.image.metadata` says what an image's own are. A
    profile that is not for the samples stored, gray or RGB, is not taken over.

    device: "cpu", "cuda", ...; CUDA where there is one if None.

    Raises InputError for an image, option or target that cannot be met.
    """
    from mvmic_codec.encoder import target
    from mvmic_codec.encoder.image_encoder import ImageEncoder
    from mvmic_codec.image.samples import from_input

    index = target.fixed_index(quality, rate_index, bpp=bpp, psnr=psnr, max_bytes=max_bytes)
    effort = _checked_effort(effort)
    samples = from_input(image)
    named = {"exif": exif, "icc_profile": icc_profile, "xmp": xmp, "dpi": dpi, "text": text}
    given = {name: value for name, value in named.items() if value is not ...}
    chunks = metadata.to_chunks(
        given, image if isinstance(image, Image.Image) else None, gray=len(samples.planes) == 1
    )
    encoder = ImageEncoder(
        samples, chunks, psnr=psnr, effort=effort, on_round=on_round, device=device
    )
    if index is not None:
        return encoder.file_at(index).data
    if psnr is not None:
        return target.smallest_with_psnr(encoder, psnr).data
    if bpp is not None:
        return target.best_within_bpp(encoder, bpp).data
    assert max_bytes is not None
    return target.best_within_bytes(encoder, max_bytes).data


def decode(data: Data, *, device: str | None = None) -> Image.Image:
    """The image in an `.mvm` file, given as bytes, path or binary file object.

    Mode L, RGB, I;16 (more than 8 bits) or I (signed samples); `info` as for `Image.open`.
    Raises FormatError or one of its kinds for anything but a sound file, ModelError for an
    unknown model. Files above Pillow's limit, twice `PIL.Image.MAX_IMAGE_PIXELS`, are refused.
    """
    with _open(data) as file:
        whole = container.read(file)
    header = whole.header
    info = metadata.to_info(header, whole.metadata)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and _padded_pixels(header) > 2 * limit:
        raise FormatError(
            f"the file claims {header.width}x{header.height} pixels, {_padded_pixels(header)} with "
            f"the margins that decoding adds, above Pillow's limit of {2 * limit}; if you trust "
            "it, raise PIL.Image.MAX_IMAGE_PIXELS, or give mvmic --max-pixels"
        )
    from mvmic_codec.decoder.image import decode_samples

    image = Image.fromarray(decode_samples(whole, device))
    image.info = info
    return image


def read_header(data: Data) -> Header:
    """The header of an `.mvm` file, given as bytes, path or binary file object.

    Reads no more than its first 50 bytes and needs neither numpy nor torch. Errors as `decode`.
    """
    with _open(data) as file:
        return container.read_header(file)


def _checked_effort(effort: object) -> int:
    """The effort itself as an int, or InputError if it is not 1, 2 or 3."""
    # bool is a number by inheritance only.
    if isinstance(effort, bool) or not isinstance(effort, Integral) or effort not in (1, 2, 3):
        raise InputError(f"effort must be 1, 2 or 3, got {effort!r}")
    return int(effort)


def _padded_pixels(header: Header) -> int:
    """Pixels of the padded grid that decoding works on: of a thin image, far more than its own."""
    from mvmic_codec.bitstream.grid import UNIT

    return -(-header.width // UNIT) * -(-header.height // UNIT) * UNIT * UNIT


@contextmanager
def _open(data: object) -> Iterator[IO[bytes]]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        yield io.BytesIO(data)
    elif isinstance(data, (str, os.PathLike)):
        with open(data, "rb") as file:
            yield file
    elif isinstance(data, io.TextIOBase) or not hasattr(data, "read"):
        raise InputError(
            f"an mvm file is needed as bytes, path or binary file object, "
            f"got {type(data).__name__}; open files with mode 'rb'"
        )
    else:
        yield cast(IO[bytes], data)
