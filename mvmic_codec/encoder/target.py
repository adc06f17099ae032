"""How much an encoder keeps: a rate index, or a target for which one is searched.

A search takes at most 7 files of `ImageEncoder`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mvmic_codec import rate
from mvmic_codec.bitstream.chunks import OVERHEAD
from mvmic_codec.errors import InputError

if TYPE_CHECKING:
    from mvmic_codec.encoder.image_encoder import EncodedFile, ImageEncoder


def fixed_index(
    quality: float | None, rate_index: int | None, **targets: float | None
) -> int | None:
    """The rate index that the options name, or None where one has to be searched for.

    Raises InputError for more than one option, or a value that cannot be.
    """
    options = {"quality": quality, "rate_index": rate_index, **targets}
    named = [name for name, value in options.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} contradict each other; give one of them")
    if rate_index is not None:
        return rate.checked_index(rate_index)
    for name, value in targets.items():
        if value is not None:
            rate.checked_target(name, value)
            return None
    return rate.index_of(rate.DEFAULT_QUALITY if quality is None else quality)


def best_within_bpp(encoder: ImageEncoder, bpp: float) -> EncodedFile:
    """File of the best quality with at most so many bits per pixel.

    Metadata is not counted: it is not compressed, and a large profile must not starve the image.
    """
    height, width = encoder.tiling.size
    pixels = len(encoder.frames) * height * width
    uncounted = sum(len(payload) + OVERHEAD for payload in encoder.chunks.values())
    return _best_within(
        encoder,
        bpp * pixels / 8 + uncounted,
        lambda size: (
            f"{bpp:g} bpp cannot be met: the smallest file of this image takes "
            f"{(size - uncounted) * 8 / pixels:.4g}"
        ),
    )


def best_within_bytes(encoder: ImageEncoder, max_bytes: float) -> EncodedFile:
    """File of the best quality with at most so many bytes."""
    return _best_within(
        encoder,
        max_bytes,
        lambda size: f"{max_bytes:g} bytes cannot be met: the smallest file takes {size}",
    )


def _best_within(
    encoder: ImageEncoder, limit: float, too_small: Callable[[int], str]
) -> EncodedFile:
    """File of the largest index with at most `limit` bytes.

    The smallest of all may be one without flat areas, although these pay in quality.
    """
    best: EncodedFile | None = None
    smallest = 0

    def fits(index: int) -> bool:
        nonlocal best, smallest
        file = encoder.file_at(index)
        if len(file.data) <= limit:
            best = file  # indices that fit are tried in rising order
            return True
        smallest = len(file.data)  # and those that do not in falling order
        return False

    rate.last_index(fits)
    if best is not None:
        return best
    plain = encoder.plain_file_at(0)
    if len(plain.data) > limit:
        raise InputError(too_small(min(len(plain.data), smallest)))
    return plain


def smallest_with_psnr(encoder: ImageEncoder, target: float) -> EncodedFile:
    """File of the smallest index with at least `target` dB.

    If none with flat areas reaches it, one without may: flat areas keep an error at any rate.
    """
    best: EncodedFile | None = None
    reached = 0.0

    def suffices(file_at: Callable[[int], EncodedFile], index: int) -> bool:
        nonlocal best, reached
        file = file_at(index)
        decibels = file.psnr()
        if decibels >= target:
            best = file  # indices that suffice are tried in falling order
            return True
        reached = max(reached, decibels)
        return False

    files_at = [encoder.file_at]
    if encoder.may_be_flat:
        files_at.append(encoder.plain_file_at)
    for file_at in files_at:
        rate.first_index(partial(suffices, file_at))
        if best is not None:
            return best
    raise InputError(f"{target:g} dB cannot be met: the best quality reaches {reached:.2f} dB")
