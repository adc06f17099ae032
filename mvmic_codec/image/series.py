"""Images or arrays -> the frames of one file: all of one size, kind and range."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageSequence

from mvmic_codec.errors import InputError
from mvmic_codec.image import metadata
from mvmic_codec.image.indexed import Indexed
from mvmic_codec.image.outliers import range_without_outliers
from mvmic_codec.image.samples import Samples, from_input

# An array with more in its last dimension is a series [N, H, W]; with fewer these are channels.
_CHANNELS_MAX = 4
_OPAQUE = 255


def frames_of(images: object) -> list[Samples] | list[Indexed]:
    """The frames of an image, of an array, or of a sequence of them.

    An array [N, H, W] with W above 4 and an array [N, H, W, C] are series. Frames of a series have
    one range of values. Indexed frames stay so if all have the same colours.

    Raises InputError for an empty series, for frames of different sizes, or gray ones beside ones
    in colour, and as `from_input`.
    """
    parts = _parts(images)
    if not parts:
        raise InputError("a series of no images was given; it needs at least one")
    frames = [from_input(part) for part in parts]
    for number, frame in enumerate(frames):
        if frame.size != frames[0].size:
            raise InputError(
                f"frames have one size; frame 0 is {_shape(frames[0])} pixels, frame {number} is "
                f"{_shape(frame)}"
            )
    indexed = [frame for frame in frames if isinstance(frame, Indexed)]
    if len(indexed) == len(frames):
        # A palette is as long as its image needs it.
        longest = max(indexed, key=lambda frame: len(frame.colours))
        if all(_alike(frame, longest) for frame in indexed):
            return [replace(frame, colours=longest.colours) for frame in indexed]
    coded = [_samples(frame) if isinstance(frame, Indexed) else frame for frame in frames]
    return coded if len(coded) == 1 else _of_one_kind(coded)


def _parts(images: object) -> Sequence[object]:
    """The images of a series."""
    if isinstance(images, np.ndarray) and (
        images.ndim == 4 or images.ndim == 3 and images.shape[2] > _CHANNELS_MAX
    ):
        return list(images)
    if isinstance(images, (list, tuple)):
        return images
    return [images]


def _of_one_kind(frames: list[Samples]) -> list[Samples]:
    """The frames with one range, and all or none with transparency."""
    if len({frame.channels for frame in frames}) > 1:
        raise InputError("frames are all gray or all in colour; convert them to one mode")
    if len({frame.bits for frame in frames}) > 1:
        raise InputError("frames have one depth; convert them to 8 bits or to 16")
    signed = any(frame.signed for frame in frames)
    if signed and max((int(frame.values.max()) for frame in frames), default=0) >= 2**15:
        raise InputError("frames with negative samples and frames with samples above 32767 differ")
    lo, hi = frames[0].lo, frames[0].hi
    if frames[0].bits > 8:
        # Of all together: padding may fill a frame.
        lo, hi = range_without_outliers([frame.values for frame in frames])
    transparent = any(frame.alpha is not None for frame in frames)
    out = []
    for frame in frames:
        alpha = frame.alpha
        if transparent and alpha is None:
            alpha = np.full(frame.size, _OPAQUE, np.uint8)
        values = frame.values.astype(np.int16) if signed else frame.values
        out.append(replace(frame, values=values, signed=signed, lo=lo, hi=hi, alpha=alpha))
    return out


def _alike(frame: Indexed, longest: Indexed) -> bool:
    """Whether two indexed images can share a list of colours, that of the second."""
    kinds = [(each.bits, each.alpha, each.palette) for each in (frame, longest)]
    common = longest.colours[: len(frame.colours)]
    return kinds[0] == kinds[1] and np.array_equal(frame.colours, common)


def _samples(indexed: Indexed) -> Samples:
    """An indexed image as samples of 8 bits."""
    scale = _OPAQUE if indexed.bits == 1 else 1
    whole = (scale * indexed.colours).astype(np.uint8)[indexed.indices]
    alpha = whole[:, :, -1] if indexed.alpha else None
    return Samples(whole[:, :, : indexed.channels], 8, False, 0, 255, alpha)


def _shape(frame: Samples | Indexed) -> str:
    return f"{frame.size[1]}x{frame.size[0]}"


def first_image(given: object) -> Image.Image | None:
    """The first of the images, if it is one of Pillow: its metadata is that of the file."""
    first = given[0] if isinstance(given, (list, tuple)) and given else given
    return first if isinstance(first, Image.Image) else None


def copies_of(image: Image.Image, given: Collection[str] = ()) -> list[Image.Image]:
    """Copies of all frames of an image, which is left at the frame where it is.

    The first has the metadata that the image has now. `given` names kinds that are given to
    `encode`, and so are not looked at. Raises InputError as `metadata.carried`.
    """
    at = image.tell()
    # Before it goes to another frame: some formats read their metadata again then.
    held = metadata.all_carried(image, given)
    try:
        frames = [frame.copy() for frame in ImageSequence.Iterator(image)]
    finally:
        image.seek(at)
    frames[0].info = metadata.info_with(frames[0].info, held)
    return frames
