"""What an image differs from its base, exactly or up to a bound: the payload around the lane.

An image without a base is coded alone: that is a lossless codec, or a near-lossless one.

formats/residual.md specifies the bytes, `mvmic_codec.bitstream.residualcoder` codes the samples.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import plane, residualcoder
from mvmic_codec.bitstream.header import sample_type
from mvmic_codec.errors import ChecksumError, FormatError, TruncatedError

Samples = npt.NDArray[Any]

# crc, bytes of the list of levels
_START = struct.Struct("<II")


@dataclass(frozen=True)
class Kind:
    """What a reader knows of an image before it reads the payload.

    height, width  in pixels
    channels       1 or 3
    bits, signed   type of the samples; 3 channels have at most 8 bits and no sign
    low, high      their range
    bound          no sample is off by more
    """

    height: int
    width: int
    channels: int
    bits: int
    signed: bool
    low: int
    high: int
    bound: int


def to_payload(
    samples: Samples,
    kind: Kind,
    base: Samples | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> tuple[bytes, Samples]:
    """The payload of an image [H,W,C], and the samples that `from_payload` makes of it.

    base  [H,W,C], what a reader has already, in the range of the samples
    mask  [H,W], False where samples are those of the base. It needs a base

    Takes 16 to 60 bytes of memory for each sample. Raises InputError for other shapes or samples.
    """
    coded = None if mask is None else mask.astype(np.uint8)
    planes, below = _planes(samples), None if base is None else _planes(base)
    lane, back = residualcoder.encode(planes, kind.low, kind.high, kind.bound, below, coded)
    listed = b""
    levels = np.unique(samples if mask is None else samples[mask]) if kind.channels == 1 else None
    if levels is not None and 8 * levels.size <= 7 * (kind.high - kind.low + 1) and levels.size:
        ranks = _ranks(planes, levels)
        under = None if below is None else _ranks(below, levels)
        short, found = residualcoder.encode(
            ranks, 0, levels.size - 1, _bound_of(levels, kind.bound), under, coded
        )
        used = np.zeros((1, kind.high - kind.low + 1), np.uint8)
        used[0, levels - kind.low] = 1
        told = plane.to_payload(used, 2, ordered=False)
        if len(told) + len(short) < len(lane):
            lane, listed = short, told
            back = _levelled(found, levels, below, mask)
    out = _image(back, kind)
    return _START.pack(_crc_of(out), len(listed)) + listed + lane, out


def from_payload(
    payload: bytes,
    kind: Kind,
    base: Samples | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> Samples:
    """The image [H,W,C] of a payload, of the type of `kind`; base and mask as for `to_payload`.

    Raises TruncatedError, FormatError and ChecksumError for data that is damaged, InputError as
    `to_payload`.
    """
    if len(payload) < _START.size:
        raise TruncatedError("the residual ends before its data: the file was cut")
    crc, length = _START.unpack_from(payload)
    if length > len(payload) - _START.size:
        raise TruncatedError("the residual ends within its list of levels: the file was cut")
    listed, lane = payload[_START.size :][:length], payload[_START.size + length :]
    coded = None if mask is None else mask.astype(np.uint8)
    below = None if base is None else _planes(base)
    size = kind.channels, kind.height, kind.width
    if listed:
        levels = _levels_of(listed, kind)
        bound = _bound_of(levels, kind.bound)
        under = None if below is None else _ranks(below, levels)
        found = residualcoder.decode(lane, *size, 0, levels.size - 1, bound, under, coded)
        planes = _levelled(found, levels, below, mask)
    else:
        planes = residualcoder.decode(lane, *size, kind.low, kind.high, kind.bound, below, coded)
    out = _image(planes, kind)
    if _crc_of(out) != crc:
        raise ChecksumError("the exact image has another checksum: the file is damaged")
    return out


def _levels_of(listed: bytes, kind: Kind) -> npt.NDArray[np.int64]:
    """The values that samples have, in ascending order."""
    if kind.channels != 1:
        raise FormatError("the residual lists levels of a colour image; it is damaged")
    used = plane.from_payload(listed, 1, kind.high - kind.low + 1, 2, ordered=False)
    levels = np.flatnonzero(used[0]) + kind.low
    if not levels.size:
        raise FormatError("the residual lists no levels; it is damaged")
    return levels


def _ranks(planes: npt.NDArray[np.int32], levels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """The number of the greatest level that is not above each sample; 0 below all levels."""
    ranks = np.searchsorted(levels, planes, side="right") - 1
    return np.maximum(ranks, 0).astype(np.int32)


def _bound_of(levels: npt.NDArray[Any], bound: int) -> int:
    """The most ranks that a sample may be off, for its value to be off by no more than bound."""
    # Levels differ by 1 at least. The widest span of more ranks is no narrower.
    least, most = 0, min(bound, levels.size - 1)
    while least < most:
        ranks = (least + most + 1) // 2
        if (levels[ranks:] - levels[:-ranks]).max() <= bound:
            least = ranks
        else:
            most = ranks - 1
    return least


def _levelled(
    ranks: npt.NDArray[np.int32],
    levels: npt.NDArray[Any],
    base: npt.NDArray[np.int32] | None,
    mask: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int32]:
    """Samples of ranks. Those that the mask leaves out are the base's, of whatever value."""
    out = levels.astype(np.int32)[ranks]
    if mask is not None:
        assert base is not None
        out[:, ~mask] = base[:, ~mask]
    return out


def _planes(samples: Samples) -> npt.NDArray[np.int32]:
    """[H,W,C] -> [C,H,W]."""
    return np.ascontiguousarray(samples.astype(np.int32).transpose(2, 0, 1))


def _image(planes: npt.NDArray[np.int32], kind: Kind) -> Samples:
    """[C,H,W] -> [H,W,C]."""
    out = planes.transpose(1, 2, 0).astype(sample_type(kind.bits, kind.signed))
    return np.ascontiguousarray(out)


def _crc_of(image: Samples) -> int:
    return zlib.crc32(image.data)
