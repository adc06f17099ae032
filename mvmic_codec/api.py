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
from mvmic_codec.bitstream.container import Reader
from mvmic_codec.bitstream.header import Header
from mvmic_codec.errors import FormatError, InputError, needs_torch
from mvmic_codec.image import metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mvmic_codec.encoder.image_encoder import EncodedFile, ImageEncoder
    from mvmic_codec.features.maps import Features
    from mvmic_codec.image.indexed import Indexed
    from mvmic_codec.model.tuned import TunedEncoder
    from mvmic_codec.tasks.heads import Head


# Larger images are cut into tiles of this side: see docs/lab/0.16.0.md.
TILED_FROM = 16_000_000
TILE = 1024

# A series above Pillow's limit for one image has no more pixels for each of its bytes: scans have
# at most some hundreds, masks at most some thousands.
PIXELS_PER_BYTE = 10_000

# Left, top, right and bottom of a region in pixels, the last two not included.
Corners = tuple[int, int, int, int]
Data = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]


def encode(
    image: Image.Image | NDArray[Any] | Sequence[Image.Image | NDArray[Any]],
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
    duration: float | Sequence[float] | None = None,
    loop: int | None = None,
    tile: int | None = None,
    effort: int = 1,
    on_round: Callable[[], object] | None = None,
    on_tile: Callable[[int], object] | None = None,
    task: Head | NDArray[Any] | None = None,
    encoder: str | os.PathLike[str] | TunedEncoder | None = None,
    device: str | None = None,
) -> bytes:
    """Encode an image, or a series of them, as the bytes of an `.mvm` file.

    image        Pillow image or array; see `mvmic_codec.image.samples` for modes, types and shapes.
                 A series is a sequence of these, or an array [N, H, W] or [N, H, W, C]; see
                 `mvmic_codec.image.series`

    At most one of these sets the quality. The default is quality 7. Images of 1 bit and of a
    palette are exact at any quality.

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
    tile         side of the tiles that images are cut into, a multiple of 64; 0 leaves them whole.
                 None cuts images above `TILED_FROM` pixels
    on_tile      called after each tile of every file that is tried, with how many are done

    task         a `mvmic_codec.tasks.heads.Head`: errors count more in blocks that matter to what
                 the head sees, and less in others. The image is first encoded without it. Or an
                 array [ceil(H/16),ceil(W/16)] that says what errors in each block of 16x16 pixels
                 count, from 0.01 to 100. Every decoder reads the file. See docs/tasks.md
    encoder      a file of `mvmic train --encoder`: the analysis of the image in it takes the place
                 of the released one. Every decoder reads the file. Warns of rates that it was not
                 tuned at. See docs/tasks.md

    exif, icc_profile, xmp, dpi, text
                 metadata of the file. One that is not given (`...`) is taken over from the image,
                 of a series from the first; None or an empty value leaves it out. See
                 `mvmic_codec.image.metadata`. A profile that does not fit the stored samples, gray
                 or RGB, is not taken over.
    duration     of a series: milliseconds that each frame is shown, one number or one for each.
                 None takes `info["duration"]` of the images; one that has none counts as 0
    loop         of a series: how often it is shown, 0 being for ever. None takes `info["loop"]` of
                 the first image, and 0 if it has none

    device       "cpu", "cuda", "cuda:1", ...; None is CUDA if there is one, else the CPU. On
                 another device bytes may differ, since analysis is floating point

    Raises InputError for an image or option that cannot be used, for a head or an encoder that
    takes images of the other kind, gray or colour, and for a target that cannot be met. Raises
    ModelError for a file that is damaged or no encoder. Raises MvmError if torch or scipy, which
    encoding needs, is not installed.
    """
    from functools import partial

    from mvmic_codec.encoder import target
    from mvmic_codec.image.indexed import Indexed
    from mvmic_codec.image.series import first_image, frames_of

    index = target.fixed_index(quality, rate_index, bpp=bpp, psnr=psnr, max_bytes=max_bytes)
    effort = _checked_effort(effort)
    frames = frames_of(image)
    side = tile_side(tile, frames[0].size)
    named = {"exif": exif, "icc_profile": icc_profile, "xmp": xmp, "dpi": dpi, "text": text}
    given = {name: value for name, value in named.items() if value is not ...}
    chunks = metadata.to_chunks(given, first_image(image), gray=frames[0].channels == 1)
    chunks |= metadata.animation_chunk(image, len(frames), duration, loop)
    if isinstance(frames[0], Indexed):
        if task is not None or encoder is not None:
            raise InputError(
                "an image of 1 bit or with a palette is coded exactly, without a model: leave out "
                "task and encoder, or convert it to L or RGB"
            )
        return _exact_file(frames, chunks, side, max_bytes=max_bytes, bpp=bpp)
    with needs_torch("encoding"):
        from mvmic_codec.encoder.image_encoder import ImageEncoder

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
    encoder_of = partial(
        ImageEncoder, frames, chunks, tile=side, psnr=psnr, tuned=tuned, device=device
    )
    importance = None if task is None else _importance(task, encoder_of, chosen)
    file = chosen(
        encoder_of(effort=effort, on_round=on_round, on_tile=on_tile, importance=importance)
    )
    if tuned is not None:
        tuned.check_rate(file.rate)
    return file.data


@overload
def decode(
    data: Data,
    *,
    frame: int = 0,
    region: Corners | None = None,
    scale: int = 1,
    features: Literal[False] = False,
    on_part: Callable[[float], object] | None = None,
    device: str | None = None,
) -> Image.Image: ...
@overload
def decode(
    data: Data,
    *,
    frame: int = 0,
    features: Literal[True] | str | Sequence[str],
    pixels: Literal[True] = True,
    device: str | None = None,
) -> tuple[Image.Image, Features]: ...
@overload
def decode(
    data: Data,
    *,
    frame: int = 0,
    features: Literal[True] | str | Sequence[str],
    pixels: Literal[False],
    device: str | None = None,
) -> Features: ...
def decode(
    data: Data,
    *,
    frame: int = 0,
    region: Corners | None = None,
    scale: int = 1,
    features: bool | str | Sequence[str] = False,
    pixels: bool = True,
    on_part: Callable[[float], object] | None = None,
    device: str | None = None,
) -> Image.Image | tuple[Image.Image, Features] | Features:
    """Decode an image in an `.mvm` file, given as bytes, path or binary file object.

    The image has the mode and the `info` that it has from `Image.open`; docs/modes.md lists modes.
    Its samples are the same on every machine and device, and for any number of threads; see
    `mvmic_codec.model.team.default_threads`.

    frame     which one of a series, from 0
    region    left, top, right and bottom of the part that is wanted, in pixels, the last two not
              included. Of an image in tiles no other tiles are decoded than it needs. It is what
              would be cut out of the whole image
    scale     1, 2, 4, 8 or 16: a picture smaller by so much, each sample the mean over a square of
              so many pixels a side. It lacks what the networks of the decoder add, and is for
              thumbnails. With a region: all squares that have pixels in it
    device    None and "cpu" decode on the CPU, without torch. Others, as "cuda" or "cuda:1", are
              devices of torch, which must be installed
    features  True, or names of feature maps, to get a pair (image, `Features`). True means the map
              s16. The image is the same as without.
    pixels    False to get the features alone, which is sooner; as `decode_features`
    on_part   called after each part of the image with the share of it that is decoded, up to 1; not
              with features

    Raises FormatError or one of its kinds for a file that is damaged or no `.mvm` file, and for one
    above Pillow's limit of 2 * `PIL.Image.MAX_IMAGE_PIXELS`. Raises ModelError for an unknown
    model. Raises InputError for a frame or a region that the file does not have, another scale, an
    unknown map, and for a device that this machine does not have. Raises MvmError for a device of
    torch if that is not installed.
    """
    if features is False:
        if not pixels:
            raise InputError("pixels=False leaves nothing to decode; ask for features as well")
        with _reader(data) as reader:
            return decode_image(
                reader, frame, region=region, scale=scale, on_part=on_part, device=device
            )
    if region is not None or scale != 1 or on_part is not None:
        raise InputError(
            "features are those of the whole image at once: leave out region, scale and on_part"
        )
    names = _map_names(features)
    if not pixels:
        return decode_features(data, names, frame=frame, device=device)
    with _reader(data) as reader:
        return decode_image_with_features(reader, names, frame, device=device)


def decode_array(
    data: Data,
    *,
    region: Corners | None = None,
    scale: int = 1,
    on_part: Callable[[float], object] | None = None,
    device: str | None = None,
) -> NDArray[Any]:
    """Decode all frames of an `.mvm` file: an array [N,H,W] or [N,H,W,C], without N if it is 1.

    It is of uint8, uint16 or int32, of bool for an image of 1 bit. C is 2 for gray with
    transparency, 3 for RGB, 4 for RGB with transparency. Palettes are left out: such an image gives
    its indices. Options and errors as `decode`. Raises FormatError, too, for a series that has more
    pixels in all than Pillow's limit and `PIXELS_PER_BYTE` allow.
    """
    import numpy as np

    from mvmic_codec.decoder.frame import decode_frame

    with _reader(data) as reader:
        header = reader.header
        region, scale = _checked_part(header, region, scale)
        _check_size(header, region)
        check_frames(reader, region, scale)
        # As `decode`, this refuses metadata that is not valid.
        metadata.to_info(header, reader.metadata)
        frames = []
        for frame in range(header.frames):

            def told(share: float, frame: int = frame) -> None:
                if on_part is not None:
                    on_part((frame + share) / header.frames)

            frames.append(
                decode_frame(reader, frame, box=region, scale=scale, device=device, on_part=told)
            )
    whole = frames[0] if len(frames) == 1 else np.stack(frames)
    return whole > 0 if header.mode == "1" else whole


def decode_features(
    data: Data | list[Data],
    maps: str | Sequence[str] = ("s16",),
    *,
    frame: int = 0,
    device: str | None = None,
) -> Features:
    """Decode features of an image in an `.mvm` file, without its pixels; see `Features`.

    A list of files gives one batch. Their images must have one size and be all gray or all colour.

    maps are names of feature maps. Decoding stops after the last that is needed. frame is the one
    of a series. device is as for `decode`: None and "cpu" give arrays of numpy without torch,
    others tensors on that device.

    Raises InputError for an unknown map, for files that cannot be in one batch, and for an image
    that no model coded; else as `decode`.
    """
    from functools import partial

    from mvmic_codec.features.extract import decode_features as decode_one
    from mvmic_codec.features.maps import stacked

    names = _map_names(maps)
    found = []
    for each in data if isinstance(data, list) else [data]:
        with _reader(each) as reader:
            number = _checked_frame(reader.header, frame)
            _check_features(reader.header)
            tile_of = partial(reader.tile, number)
            found.append(decode_one(reader.header, tile_of, names, device))
    return stacked(found)


def read_header(data: Data) -> Header:
    """Read the header of an `.mvm` file, given as bytes, path or binary file object.

    Reads no more than the chunk that it is in, and imports neither numpy nor torch. Raises
    FormatError or one of its kinds.
    """
    with _open(data) as file:
        return container.read_header(file)


def decode_image(
    reader: Reader,
    frame: int,
    *,
    region: Corners | None = None,
    scale: int = 1,
    on_part: Callable[[float], object] | None = None,
    device: str | None = None,
) -> Image.Image:
    """An image of a file that is being read. Options and errors as `decode`."""
    from mvmic_codec.bitstream.overlays import colours_of
    from mvmic_codec.decoder.frame import decode_frame
    from mvmic_codec.image.pillow import image_of

    header = reader.header
    frame = _checked_frame(header, frame)
    region, scale = _checked_part(header, region, scale)
    _check_size(header, region)
    values = decode_frame(
        reader,
        frame,
        box=region,
        scale=scale,
        device=device,
        on_part=on_part or (lambda share: None),
    )
    colours = None if reader.colours is None else colours_of(reader.colours, header)
    image = image_of(header, values, colours)
    image.info.update(metadata.to_info(header, reader.metadata, frame))
    return image


def decode_image_with_features(
    reader: Reader,
    maps: bool | str | Sequence[str],
    frame: int,
    *,
    device: str | None = None,
) -> tuple[Image.Image, Features]:
    """As `decode_image`, and its features."""
    from mvmic_codec.features.extract import decode_with_features
    from mvmic_codec.image.pillow import image_of

    frame = _checked_frame(reader.header, frame)
    _check_features(reader.header)
    values, features = decode_with_features(reader, frame, _map_names(maps), device)
    image = image_of(reader.header, values, None)
    image.info.update(metadata.to_info(reader.header, reader.metadata, frame))
    return image, features


def _check_features(header: Header) -> None:
    """Raise an error as `decode_features` if a file has no features or is too large."""
    from mvmic_codec.features.maps import check_coded

    check_coded(header)
    _check_size(header, None)


def _whole(number: object, name: str) -> int:
    """A whole number of any type as an int. Raises InputError for another value."""
    # bool is a number only by inheritance.
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise InputError(f"{name} must be a whole number, got {number!r}")
    return int(number)


def _checked_frame(header: Header, frame: object) -> int:
    """The number of a frame that the file has. InputError for another."""
    number = _whole(frame, "frame")
    if not 0 <= number < header.frames:
        raise InputError(f"there is no frame {number}: the file has {header.frames}, from 0")
    return number


def _checked_part(header: Header, region: object, scale: object) -> tuple[Corners | None, int]:
    """A region of the image as four ints, and a scale. InputError for others."""
    from mvmic_codec.decoder.image import checked_window

    size = _whole(scale, "scale")
    box = None if region is None else _corners(region)
    checked_window(header, box, size)
    return box, size


def _corners(region: object) -> Corners:
    """Left, top, right and bottom as ints. InputError for others."""
    if hasattr(region, "tolist"):
        region = region.tolist()
    if not isinstance(region, (list, tuple)) or len(region) != 4:
        raise InputError(f"region must be left, top, right and bottom in pixels, got {region!r}")
    left, top, right, bottom = (_whole(corner, "each corner of region") for corner in region)
    return left, top, right, bottom


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


@contextmanager
def _reader(data: Data) -> Iterator[Reader]:
    """A file that is being read."""
    with _open(data) as file:
        yield Reader(file)


def _check_size(header: Header, region: Corners | None) -> None:
    """Raise FormatError if decoding a region, or all, takes more than Pillow's limit allows."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return
    pixels = _pixels_decoded(header, region)
    if pixels > 2 * limit:
        raise FormatError(
            f"the file claims {header.width}x{header.height} pixels, {pixels} with the margins "
            f"that decoding adds, above Pillow's limit of {2 * limit}; if you trust it, raise "
            "PIL.Image.MAX_IMAGE_PIXELS, or give mvmic --max-pixels"
        )


def check_frames(reader: Reader, region: Corners | None, scale: int) -> None:
    """Raise FormatError if all frames at once take more than their bytes make likely.

    A few bytes can be a frame of one colour, of any size. InputError for region and scale as
    `decode`.
    """
    header, limit = reader.header, Image.MAX_IMAGE_PIXELS
    region, scale = _checked_part(header, region, scale)
    if limit is None or header.frames == 1:
        return
    left, top, right, bottom = region or (0, 0, header.width, header.height)
    pixels = header.frames * (right - left) * (bottom - top) // scale**2
    if pixels > max(2 * limit, PIXELS_PER_BYTE * reader.length):
        raise FormatError(
            f"the file claims {header.frames} frames, {pixels} pixels in all, from few bytes, "
            f"above Pillow's limit of {2 * limit}; decode its frames one by one, or if you trust "
            "it, raise PIL.Image.MAX_IMAGE_PIXELS"
        )


def _pixels_decoded(header: Header, region: Corners | None) -> int:
    """Pixels of the padded image, or of the tiles that a region touches.

    A thin image has far fewer of its own.
    """
    from mvmic_codec.bitstream.header import TILE_UNIT

    unit = header.tile or TILE_UNIT
    left, top, right, bottom = region or (0, 0, header.width, header.height)
    if region is None or not header.tile:
        unit, left, top, right, bottom = TILE_UNIT, 0, 0, header.width, header.height
    columns = -(-right // unit) - left // unit
    rows = -(-bottom // unit) - top // unit
    return columns * rows * unit * unit


def tile_side(tile: object, size: tuple[int, int]) -> int:
    """The side of tiles of an image of `size` (H,W), 0 for none; tile is that of `encode`."""
    from mvmic_codec.bitstream.header import TILE_UNIT

    if tile is None:
        return TILE if size[0] * size[1] > TILED_FROM else 0
    if isinstance(tile, bool) or not isinstance(tile, Integral) or tile < 0 or tile % TILE_UNIT:
        raise InputError(f"tile must be 0 or a multiple of {TILE_UNIT}, got {tile!r}")
    return int(tile)


def _exact_file(
    frames: list[Indexed],
    chunks: Mapping[bytes, bytes],
    tile: int,
    *,
    bpp: float | None,
    max_bytes: float | None,
) -> bytes:
    """The file of images that are coded exactly. InputError if it is larger than a target."""
    from mvmic_codec.encoder.indexed_file import indexed_file

    data = indexed_file(frames, chunks, tile=tile)
    height, width = frames[0].size
    size, limit = len(data), max_bytes
    if bpp is not None:
        # As always, metadata is not counted.
        size = len(indexed_file(frames, {}, tile=tile))
        limit = bpp * len(frames) * height * width / 8
    if limit is not None and size > limit:
        raise InputError(
            f"this image of few colours is coded exactly and takes {size} bytes; convert it to L "
            "or RGB for a smaller file"
        )
    return data


@contextmanager
def _open(data: object) -> Iterator[IO[bytes]]:
    if isinstance(data, memoryview):
        # One with gaps between its bytes, too.
        yield io.BytesIO(data.tobytes())
    elif isinstance(data, (bytes, bytearray)):
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
