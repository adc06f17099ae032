"""encode, decode and their kin. Here container, samples, metadata, encoder and decoder meet.

numpy is imported when pixels are needed, and torch for encoding and for devices other than the CPU.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from types import EllipsisType
from typing import IO, TYPE_CHECKING, Any, Literal, cast, overload

from PIL import Image

from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.container import Header
from mvmic_codec.errors import FormatError, InputError, needs_torch
from mvmic_codec.image import metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mvmic_codec.encoder.image_encoder import EncodedFile, ImageEncoder
    from mvmic_codec.features.maps import Features
    from mvmic_codec.model.tuned import TunedEncoder
    from mvmic_codec.tasks.heads import Head


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
    task: Head | NDArray[Any] | None = None,
    encoder: str | os.PathLike[str] | TunedEncoder | None = None,
    device: str | None = None,
) -> bytes:
    """Encode an image as the bytes of an `.mvm` file.

    image        Pillow image or array; see `mvmic_codec.image.samples` for modes, types and shapes

    At most one of these sets the quality. The default is quality 7.

    quality      1 (smallest file) to 8 (best); fractions are allowed
    rate_index   the same scale as an integer, 0 to 63
    bpp          best quality with at most this many bits per pixel; metadata is not counted
    psnr         smallest file with at least this many dB; the peak is the range of values
    max_bytes    best quality with at most this many bytes in all

    effort       1, 2 or 3: no refinement of symbols, 2 rounds of it, or 12. Effort 2 takes about
                 4 times as long as 1 (gray: 7 times), effort 3 about 20 times (gray: 35). Both
                 take 3 to 4 times the memory, 0.7 kB for each pixel. They save 0 to 2% of bits,
                 most at low rates in colour. A search for bpp, psnr or max_bytes encodes up to 7
                 times. Decoding takes the same time.
    on_round     called after each round of refinement of every file that is tried

    task         a `mvmic_codec.tasks.heads.Head`: errors count more in blocks that matter to what
                 the head sees, and less in others. The image is first encoded without it. Or an
                 array [ceil(H/16),ceil(W/16)] that says what errors in each block of 16x16 pixels
                 count, from 0.01 to 100. Every decoder reads the file. See docs/tasks.md
    encoder      a file of `mvmic train --encoder`: the analysis of the image in it takes the place
                 of the released one. Every decoder reads the file. Warns of rates that it was not
                 tuned at. See docs/tasks.md

    exif, icc_profile, xmp, dpi, text
                 metadata of the file. One that is not given (`...`) is taken over from the image;
                 None or an empty value leaves it out. See `mvmic_codec.image.metadata`. A profile
                 that does not fit the stored samples, gray or RGB, is not taken over.

    device       "cpu", "cuda", "cuda:1", ...; None is CUDA if there is one, else the CPU. On
                 another device bytes may differ, since analysis is floating point

    Raises InputError for an image or option that cannot be used, for a head or an encoder that
    takes images of the other kind, gray or colour, and for a target that cannot be met. Raises
    ModelError for a file that is damaged or no encoder. Raises MvmError if torch or scipy, which
    encoding needs, is not installed.
    """
    from functools import partial

    with needs_torch("encoding"):
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

    def chosen(image_encoder: ImageEncoder) -> EncodedFile:
        if index is not None:
            return image_encoder.file_at(index)
        if psnr is not None:
            return target.smallest_with_psnr(image_encoder, psnr)
        if bpp is not None:
            return target.best_within_bpp(image_encoder, bpp)
        assert max_bytes is not None
        return target.best_within_bytes(image_encoder, max_bytes)

    tuned = None if encoder is None else _tuned(encoder)
    encoder_of = partial(ImageEncoder, samples, chunks, psnr=psnr, tuned=tuned, device=device)
    importance = None if task is None else _importance(task, encoder_of, chosen)
    file = chosen(encoder_of(effort=effort, on_round=on_round, importance=importance))
    if tuned is not None:
        tuned.check_rate(file.coded.rate)
    return file.data


@overload
def decode(
    data: Data, *, features: Literal[False] = False, device: str | None = None
) -> Image.Image: ...
@overload
def decode(
    data: Data,
    *,
    features: Literal[True] | str | Sequence[str],
    pixels: Literal[True] = True,
    device: str | None = None,
) -> tuple[Image.Image, Features]: ...
@overload
def decode(
    data: Data,
    *,
    features: Literal[True] | str | Sequence[str],
    pixels: Literal[False],
    device: str | None = None,
) -> Features: ...
def decode(
    data: Data,
    *,
    features: bool | str | Sequence[str] = False,
    pixels: bool = True,
    device: str | None = None,
) -> Image.Image | tuple[Image.Image, Features] | Features:
    """Decode the image in an `.mvm` file, given as bytes, path or binary file object.

    The image has mode L, RGB, I;16 (more than 8 bits) or I (signed samples), and the same `info` as
    from `Image.open`. Its samples are the same on every machine and device, and for any number of
    threads; see `mvmic_codec.model.team.default_threads`.

    device    None and "cpu" decode on the CPU, without torch. Others, as "cuda" or "cuda:1", are
              devices of torch, which must be installed
    features  True, or names of feature maps, to get a pair (image, `Features`). True means the map
              s16. The image is the same as without.
    pixels    False to get the features alone, which is sooner; as `decode_features`

    Raises FormatError or one of its kinds for a file that is damaged or no `.mvm` file, and for one
    above Pillow's limit of 2 * `PIL.Image.MAX_IMAGE_PIXELS`. Raises ModelError for an unknown
    model, and InputError for an unknown map and for a device that this machine does not have.
    Raises MvmError for a device of torch if that is not installed.
    """
    if features is not False:
        names = _map_names(features)
        if not pixels:
            return decode_features(data, names, device=device)
    elif not pixels:
        raise InputError("pixels=False leaves nothing to decode; ask for features as well")
    whole = _read_whole(data)
    info = metadata.to_info(whole.header, whole.metadata)
    if features is False:
        from mvmic_codec.decoder.image import decode_samples, flat_areas

        values = decode_samples(whole, flat_areas(whole), device)
    else:
        from mvmic_codec.features.extract import decode_with_features

        values, decoded = decode_with_features(whole, names, device)
    image = Image.fromarray(values)
    image.info = info
    return image if features is False else (image, decoded)


def decode_features(
    data: Data | list[Data],
    maps: str | Sequence[str] = ("s16",),
    *,
    device: str | None = None,
) -> Features:
    """Decode features of the image in an `.mvm` file, without its pixels; see `Features`.

    A list of files gives one batch. Their images must have one size and be all gray or all colour.

    maps are names of feature maps. Decoding stops after the last that is needed. device is as for
    `decode`: None and "cpu" give arrays of numpy without torch, others tensors on that device.

    Raises InputError for an unknown map and for files that cannot be in one batch; else as
    `decode`.
    """
    from mvmic_codec.features.extract import decode_features as decode_one
    from mvmic_codec.features.maps import stacked

    names = _map_names(maps)
    files = data if isinstance(data, list) else [data]
    return stacked([decode_one(_read_whole(each), names, device) for each in files])


def read_header(data: Data) -> Header:
    """Read the header of an `.mvm` file, given as bytes, path or binary file object.

    Reads at most its first 50 bytes, and imports neither numpy nor torch. Raises FormatError or one
    of its kinds.
    """
    with _open(data) as file:
        return container.read_header(file)


def _checked_effort(effort: object) -> int:
    """The effort as an int. InputError if it is not 1, 2 or 3."""
    # bool is a number only by inheritance.
    if isinstance(effort, bool) or not isinstance(effort, Integral) or effort not in (1, 2, 3):
        raise InputError(f"effort must be 1, 2 or 3, got {effort!r}")
    return int(effort)


def _tuned(encoder: object) -> TunedEncoder:
    """An encoder, read if it is given by its path. Errors as `encode`."""
    from mvmic_codec.model.tuned import TunedEncoder, load_encoder

    if isinstance(encoder, TunedEncoder):
        return encoder
    if isinstance(encoder, (str, os.PathLike)):
        return load_encoder(encoder)
    raise InputError(
        "encoder must be the path of a file that `mvmic train --encoder` wrote; got "
        f"{type(encoder).__name__}"
    )


def _importance(
    task: object,
    encoder_of: Callable[[], ImageEncoder],
    chosen: Callable[[ImageEncoder], EncodedFile],
) -> NDArray[Any]:
    """What errors in each block count: the array given, or what a head makes of the plain file."""
    import numpy as np

    if isinstance(task, np.ndarray):
        return task
    from mvmic_codec.tasks.heads import Head
    from mvmic_codec.tasks.importance import check_model, importance_map

    if not isinstance(task, Head):
        raise InputError(
            "task must be a head, as mvmic_codec.tasks.heads.load_head reads it, or a numpy "
            f"array; got {type(task).__name__}"
        )
    plain = encoder_of()
    check_model(task, plain.fingerprint)
    return importance_map(chosen(plain).coded, task)


def _map_names(features: bool | str | Sequence[str]) -> tuple[str, ...]:
    """The names of maps that a caller asked for."""
    from mvmic_codec.features.maps import DEFAULT_MAPS, checked_names

    return (
        DEFAULT_MAPS if features is True else checked_names(cast("str | Sequence[str]", features))
    )


def _read_whole(data: Data) -> container.Container:
    """A whole file of a size that Pillow's limit allows. Errors as `decode`."""
    with _open(data) as file:
        whole = container.read(file)
    header, limit = whole.header, Image.MAX_IMAGE_PIXELS
    if limit is not None and _padded_pixels(header) > 2 * limit:
        raise FormatError(
            f"the file claims {header.width}x{header.height} pixels, {_padded_pixels(header)} with "
            f"the margins that decoding adds, above Pillow's limit of {2 * limit}; if you trust "
            "it, raise PIL.Image.MAX_IMAGE_PIXELS, or give mvmic --max-pixels"
        )
    return whole


def _padded_pixels(header: Header) -> int:
    """Pixels of the padded image that decoding works on. A thin image has far fewer of its own."""
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
