"""What is laid over the image that the model codes: transparency and outliers, both exact.

The payloads of ALPH and OUTL, and the colours of PLTE; see formats/mvm-3.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream import plane
from mvmic_codec.bitstream.flat import Flat
from mvmic_codec.bitstream.header import RGB, Header, sample_type, whole_range
from mvmic_codec.errors import FormatError, InputError, TruncatedError

# With so many levels the list of them is left out: level k is k.
_ALL_LEVELS = 256
OUTLIERS_MAX = 255

Array = npt.NDArray[np.int32]


def alpha_payload(alpha: npt.NDArray[np.uint8]) -> bytes:
    """The payload of ALPH, for transparency uint8 [H, W]."""
    levels = np.unique(alpha)
    if len(levels) == _ALL_LEVELS:
        return bytes((_ALL_LEVELS - 1,)) + plane.to_payload(alpha, _ALL_LEVELS, ordered=True)
    ranks = np.searchsorted(levels, alpha).astype(np.uint8)
    start = bytes((len(levels) - 1,)) + levels.tobytes()
    return start + plane.to_payload(ranks, len(levels), ordered=True)


def alpha_of(payload: bytes, header: Header, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Transparency [H, W] of a tile of `size` (H,W). Raises FormatError or one of its kinds."""
    count = _count(payload, "transparency")
    if count == _ALL_LEVELS:
        levels, start = np.arange(_ALL_LEVELS, dtype=np.uint8), 1
    else:
        levels, start = np.frombuffer(_cut(payload, 1, count, "transparency"), np.uint8), 1 + count
    if (np.diff(levels.astype(np.int32)) <= 0).any():
        raise FormatError("the levels of transparency do not ascend: the file is damaged")
    if levels[-1] > whole_range(header.bits, signed=False)[1]:
        raise FormatError(f"transparency of {levels[-1]} in an image of {header.bits} bits")
    out: npt.NDArray[np.uint8] = levels[plane.from_payload(payload[start:], *size, count, True)]
    return out


def outliers_payload(
    values: npt.NDArray[np.generic], where: npt.NDArray[np.bool_], bits: int, signed: bool
) -> bytes:
    """The payload of OUTL: of values [H, W] those where `where` is true. Gray only.

    Raises InputError for more than OUTLIERS_MAX different values.
    """
    found, numbers = np.unique(values[where], return_inverse=True)
    if len(found) > OUTLIERS_MAX:
        raise InputError(f"an image has at most {OUTLIERS_MAX} values of outliers")
    map = np.zeros(values.shape, np.uint8)
    map[where] = numbers.reshape(-1) + 1
    start: bytes = bytes((len(found) - 1,)) + found.astype(sample_type(bits, signed)).tobytes()
    return start + plane.to_payload(map, len(found) + 1, ordered=False)


def outliers_of(payload: bytes, header: Header, size: tuple[int, int]) -> Flat:
    """The outliers of a tile of `size` (H,W), as flat areas. Errors as `alpha_of`."""
    count = _count(payload, "outliers")
    if count > OUTLIERS_MAX:
        raise FormatError(f"the file claims {count} values of outliers; it is damaged")
    channels = 3 if header.photometric == RGB else 1
    values, start = _samples(payload, count, channels, header, "outliers")
    return Flat(values, plane.from_payload(payload[start:], *size, count + 1, False), None)


def colours_payload(colours: Array, bits: int, signed: bool) -> bytes:
    """The payload of PLTE, for colours [K, C], K = 1 to 256."""
    samples: bytes = colours.astype(sample_type(bits, signed)).tobytes()
    return bytes((len(colours) - 1,)) + samples


def colours_of(payload: bytes, header: Header) -> Array:
    """The colours int32 [K, C] of an indexed image, with transparency last if it has that.

    C is 1 or 3, or one more. Raises FormatError or one of its kinds.
    """
    count = _count(payload, "colours")
    channels = (3 if header.photometric == RGB else 1) + header.alpha
    values, end = _samples(payload, count, channels, header, "colours")
    if end != len(payload):
        raise FormatError("there are bytes after the list of colours: the file is damaged")
    return values


def _count(payload: bytes, what: str) -> int:
    """The number of entries that a list announces: 1 to 256."""
    return _cut(payload, 0, 1, what)[0] + 1


def _samples(
    payload: bytes, count: int, channels: int, header: Header, what: str
) -> tuple[Array, int]:
    """Entries [count, channels] after the count of a list, and where they end."""
    kind = np.dtype(sample_type(header.bits, header.signed))
    size = count * channels * kind.itemsize
    values = np.frombuffer(_cut(payload, 1, size, what), kind).astype(np.int32)
    least, most = whole_range(header.bits, header.signed)
    if values.min() < least or values.max() > most:
        raise FormatError(f"a value among the {what} does not fit {header.bits} bits")
    return values.reshape(count, channels), 1 + size


def _cut(payload: bytes, start: int, size: int, what: str) -> bytes:
    """So many bytes of a payload."""
    part = payload[start : start + size]
    if len(part) < size:
        raise TruncatedError(f"the list of {what} ends too early: the file was cut")
    return part
