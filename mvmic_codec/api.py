"""encode, decode, read_header: the one place where container, samples and codec meet.

numpy and torch are imported when pixels are asked for, not before.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from typing import IO, TYPE_CHECKING, Any, cast

from PIL import Image

from mvmic_codec import container, metadata, rate
from mvmic_codec.container import Header
from mvmic_codec.errors import FormatError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mvmic_codec.flat import Flat
    from mvmic_codec.samples import Samples

Data = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]


def encode(
    image: Image.Image | NDArray[Any],
    quality: float | None = None,
    *,
    rate_index: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    max_bytes: float | None = None,
    exif: bytes | Image.Exif | None = None,
    icc_profile: bytes | None = None,
    xmp: bytes | str | None = None,
    dpi: tuple[float, float] | None = None,
    text: Mapping[str, str] | None = None,
    effort: int = 1,
    on_round: Callable[[], object] | None = None,
    device: str | None = None,
) -> bytes:
    """An image as the bytes of an `.mvm` file.

    image        Pillow image or array; `mvmic_codec.samples` says which modes, types and shapes

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

    exif, icc_profile, xmp, dpi, text are taken over from the image where not given; an empty
    value leaves one out. device: "cpu", "cuda", ...; CUDA where there is one if None.

    Raises InputError for an image, option or target that cannot be met.
    """
    import numpy as np

    from mvmic_codec import samples as sampling
    from mvmic_codec.codec import Attempt
    from mvmic_codec.flat_choice import candidates_of
    from mvmic_codec.nets.identity import GENERATION, model_identity

    index = _fixed_index(quality, rate_index, bpp=bpp, psnr=psnr, max_bytes=max_bytes)
    effort = _checked_effort(effort)
    given = {"exif": exif, "icc_profile": icc_profile, "xmp": xmp, "dpi": dpi, "text": text}
    chunks = metadata.to_chunks(given, image if isinstance(image, Image.Image) else None)
    samples = sampling.from_input(image)
    photometric = _photometric(samples)
    # Equal channels cost no more than one of them.
    planes = samples.planes if photometric == container.RGB else samples.planes[:1]
    _, fingerprint = model_identity(gray=len(planes) == 1)
    candidates = candidates_of(planes, samples, psnr)

    def file_of(index: int, attempt: Attempt, areas: bytes | None = None) -> bytes:
        header = _header(samples, photometric, index, GENERATION, fingerprint)
        payload = attempt.encode(effort=effort, on_round=on_round)
        return container.write(header, payload, chunks, areas)

    def plain_at(index: int) -> bytes:
        return file_of(index, Attempt(planes, index, device=device))

    def file_at(index: int) -> bytes:
        if candidates is None:
            return plain_at(index)
        files = [file_of(index, way.rest, way.areas) for way in candidates.at(index, device)]
        return min(files, key=cost_of) if len(files) > 1 else files[0]

    def cost_of(file: bytes) -> float:
        # In bits, by what decoders will make of it.
        whole = container.read(file)
        error = 255 * (_decode_planes(whole, device) - planes)
        squared = np.square(error).sum(dtype=np.float64) / len(planes)
        return 8 * len(file) + rate.lambda_of(whole.header.rate_index) * float(squared)

    def psnr_of(file: bytes) -> float:
        return sampling.psnr(samples, _decode_planes(container.read(file), device))

    if index is not None:
        return file_at(index)
    if psnr is not None:
        ways = [file_at] if candidates is None else [file_at, plain_at]
        return _smallest_with_psnr(psnr, ways, psnr_of)
    pixels = samples.planes.shape[1] * samples.planes.shape[2]
    if bpp is not None:
        # Metadata is not part of what is compressed, so a large profile must not starve the image.
        uncounted = sum(len(payload) + container.CHUNK_OVERHEAD for payload in chunks.values())
        return _best_within(
            bpp * pixels / 8 + uncounted,
            file_at,
            plain_at,
            lambda size: (
                f"{bpp:g} bpp cannot be met: the smallest file of this image takes "
                f"{(size - uncounted) * 8 / pixels:.4g}"
            ),
        )
    assert max_bytes is not None
    return _best_within(
        max_bytes,
        file_at,
        plain_at,
        lambda size: f"{max_bytes:g} bytes cannot be met: the smallest file takes {size}",
    )


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
    image = Image.fromarray(_decode_samples(whole, device))
    image.info = info
    return image


def read_header(data: Data) -> Header:
    """The header of an `.mvm` file, given as bytes, path or binary file object.

    Reads no more than its first 50 bytes and needs neither numpy nor torch. Errors as `decode`.
    """
    with _open(data) as file:
        return container.read_header(file)


def _fixed_index(
    quality: float | None, rate_index: int | None, **targets: float | None
) -> int | None:
    """The rate index that the options name, or None where one has to be searched for."""
    options = {"quality": quality, "rate_index": rate_index, **targets}
    asked = [name for name, value in options.items() if value is not None]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(asked)} contradict each other; give one of them")
    if rate_index is not None:
        return rate.checked_index(rate_index)
    for name, value in targets.items():
        if value is not None:
            rate.checked_target(name, value)
            return None
    return rate.index_of(rate.DEFAULT_QUALITY if quality is None else quality)


def _checked_effort(effort: object) -> int:
    """The effort itself as an int, or InputError if it is not 1, 2 or 3."""
    # bool is a number by inheritance only.
    if isinstance(effort, bool) or not isinstance(effort, Integral) or effort not in (1, 2, 3):
        raise InputError(f"effort must be 1, 2 or 3, got {effort!r}")
    return int(effort)


def _decode_samples(whole: container.Container, device: str | None) -> NDArray[Any]:
    """The sample values of a file: [H,W] or [H,W,3], as `samples.to_array`.

    Part by part, since planes of the whole image take four times as much memory.
    """
    import numpy as np

    from mvmic_codec import flat
    from mvmic_codec import samples as sampling
    from mvmic_codec.codec import decode_parts

    header = whole.header
    areas = _flat_areas(whole, device)
    size = (header.height, header.width)
    shape = size if header.channels == 1 else (*size, 3)
    values = np.empty(shape, sampling.array_type(header.bits, header.signed))

    def take(top: int, left: int, planes: NDArray[np.float32]) -> None:
        if areas is not None:
            planes = flat.paint(planes, areas, header.lo, header.hi, top, left)
        if header.photometric == container.GRAY_RGB:
            planes = planes.repeat(3, axis=0)
        samples = sampling.Samples(planes, header.bits, header.signed, header.lo, header.hi)
        _, height, width = planes.shape
        values[top : top + height, left : left + width] = sampling.to_array(samples)

    hidden = None if areas is None else areas.hidden
    decode_parts(whole.payload, header, take, hidden=hidden, device=device)
    return values


def _decode_planes(whole: container.Container, device: str | None) -> NDArray[np.float32]:
    """The planes of a file, flat areas painted over what networks made of them."""
    from mvmic_codec import flat
    from mvmic_codec.codec import decode_planes

    header, payload = whole.header, whole.payload
    areas = _flat_areas(whole, device)
    if areas is None:
        return decode_planes(payload, header, device=device)
    planes = decode_planes(payload, header, hidden=areas.hidden, device=device)
    return flat.paint(planes, areas, header.lo, header.hi)


def _flat_areas(whole: container.Container, device: str | None) -> Flat | None:
    """The flat areas of a file, if it has any."""
    from mvmic_codec import flat
    from mvmic_codec.codec import check_start

    if whole.flat is None:
        return None
    # A map of any size may take no bytes.
    check_start(whole.payload, whole.header, device=device)
    return flat.from_payload(whole.flat, whole.header)


def _padded_pixels(header: Header) -> int:
    """Pixels of the 64x64 grid that decoding works on; of a thin image, far more than its own."""
    return -(-header.width // 64) * -(-header.height // 64) * 64 * 64


def _photometric(samples: Samples) -> int:
    planes = samples.planes
    if len(planes) == 1:
        return container.MIN_IS_BLACK
    equal = (planes[0] == planes[1]).all() and (planes[0] == planes[2]).all()
    return container.GRAY_RGB if equal else container.RGB


def _header(
    samples: Samples, photometric: int, index: int, generation: int, fingerprint: bytes
) -> Header:
    _, height, width = samples.planes.shape
    return Header(
        rate_index=index,
        photometric=photometric,
        signed=samples.signed,
        bits=samples.bits,
        generation=generation,
        fingerprint=fingerprint,
        width=width,
        height=height,
        lo=samples.lo,
        hi=samples.hi,
    )


def _best_within(
    limit: float,
    file_at: Callable[[int], bytes],
    plain_at: Callable[[int], bytes],
    too_small: Callable[[int], str],
) -> bytes:
    """File of the largest index with at most `limit` bytes.

    The smallest of all may be one without flat areas, although these pay in quality.
    """
    best = smallest = b""

    def fits(index: int) -> bool:
        nonlocal best, smallest
        file = file_at(index)
        if len(file) <= limit:
            best = file  # indices that fit are tried in rising order
            return True
        smallest = file  # and those that do not in falling order
        return False

    if rate.last_index(fits) is not None:
        return best
    plain = plain_at(0)
    if len(plain) > limit:
        raise InputError(too_small(min(len(plain), len(smallest))))
    return plain


def _smallest_with_psnr(
    target: float, ways: Sequence[Callable[[int], bytes]], psnr_of: Callable[[bytes], float]
) -> bytes:
    """File of the smallest index with at least `target` dB, by the first way that has one.

    The best of all may be one without flat areas, although these pay: their error stays.
    """
    best = b""
    reached = 0.0

    def suffices(file_at: Callable[[int], bytes], index: int) -> bool:
        nonlocal best, reached
        file = file_at(index)
        decibels = psnr_of(file)
        if decibels >= target:
            best = file  # indices that suffice are tried in falling order
            return True
        reached = max(reached, decibels)
        return False

    if any(rate.first_index(partial(suffices, way)) is not None for way in ways):
        return best
    raise InputError(f"{target:g} dB cannot be met: the best quality reaches {reached:.2f} dB")


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
