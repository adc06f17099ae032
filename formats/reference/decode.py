#!/usr/bin/env python3
"""Reference decoder of `.mvm` files, versions 3 and 2: the specification as a program.

Written from the pages mvm-3.md and mvm-2.md (the file), ans.md (the symbols), model.md (the model),
flat.md (the flat areas), plane.md (planes of few values) and residual.md (what images differ from a
base), in their words, to be read beside them. It is slow on purpose and has one implementation of
everything: numpy for arithmetic, constriction for the lanes of symbols, plain integers for the
lanes of answers, whose 16-bit probabilities constriction does not have.

    python formats/reference/decode.py scan.mvm --model weights.safetensors -o out.npy

Five things that surprise:

- From the symbols to the samples everything is 64-bit integers, and exact. One wrong integer before
  the latent spoils the symbols that come after it; `Payload.close` is where that comes out. Nothing
  checks what comes after the latent.
- Means count for what they are, not for what they code: a site outside of the image has no symbol,
  but its mean is its latent, and its neighbours see it.
- What is laid over the image comes before the image data: flat areas of form 2, transparency and
  outliers say together which sites are not coded.
- Tiles are coded like images of their own, but synthesis runs over the whole image.
- A mode belongs to a site, but a step takes each channel at a site of its own: hence the `sites` in
  `code_parts`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import struct
import sys
import zlib
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
Size = tuple[int, int]  # height and width of the image, in pixels
Sides = tuple[bool, bool, bool, bool]  # whether another tile lies above, left, below, right

# Ours alone, not the format's: more pixels than this, the padding included, are refused before
# anything is decoded.
LARGEST = 1 << 24

# --- Errors: mvm-3.md, "Rules for a decoder" ------------------------------------------------------


class MvmError(OSError):
    """The file could not be decoded; all errors below are kinds of it."""


class FormatError(MvmError):
    """Not an `.mvm` file, or one that breaks a rule."""


class TruncatedError(FormatError):
    """The file ends before its last tile does, or flat areas or a plane do before they should."""


class ChecksumError(FormatError):
    """The checksum of a chunk, or of symbols, of flat areas or of a plane, is wrong."""


class VersionError(FormatError):
    """The container version is 1, or greater than 3."""


class ModelError(MvmError):
    """The model is not the one that the file asks for, or it breaks a rule itself."""


# --- mvm-3.md and mvm-2.md: the container ---------------------------------------------------------

MAGIC = bytes.fromhex("89 4D 56 4D 0D 0A 1A 0A")
VERSION, OLDER_VERSION = 3, 2
METADATA = ("exIF", "icCP", "xmPP", "dpIX", "teXT", "anIM")
OF_TILES = ("ALPH", "FLAT", "OUTL", "DATA", "INDX")
RGB, RGB_EQUAL = 2, 3  # values of photometric
FRAMED, TILED, PALETTE = 1, 2, 4  # flags of form
MOST_TILES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Head:
    """The fields of HEAD, in their order, whether they are written or not."""

    version: int
    rate_index: int
    alpha: int = 0
    photometric: int
    signed: int
    bits: int
    generation: int
    fingerprint: bytes
    width: int
    height: int
    frames: int = 1
    tile: int = 0
    palette: int = 0
    lo: int
    hi: int

    @property
    def indexed(self) -> bool:
        """Whether the image is indices into the colours of PLTE."""
        return self.generation == 0

    @property
    def coded_channels(self) -> int:
        """Of a colour, without transparency: R, G and B are coded as one if they are equal."""
        return 3 if self.photometric == RGB else 1

    @property
    def in_a_frame(self) -> int:
        """How many tiles there are in each frame."""
        side = self.tile or max(self.width, self.height)
        return -(-self.height // side) * -(-self.width // side)


@dataclass(frozen=True)
class CodedTile:
    """The payloads of a tile: of DATA or INDX, and of ALPH, FLAT and OUTL if it has them."""

    payload: bytes
    alpha: bytes | None = None
    flat: bytes | None = None
    outliers: bytes | None = None


@dataclass(frozen=True)
class File:
    """What a whole file holds."""

    head: Head
    metadata: dict[str, bytes]  # by chunk type
    palette: bytes | None  # payload of PLTE
    tiles: list[CodedTile]  # of all frames


def read_file(data: bytes) -> File:
    """The chunks of a whole file."""
    if data[:8] != MAGIC:
        if MAGIC.startswith(data):
            raise TruncatedError("the file ends within its magic")
        raise FormatError("not an .mvm file")
    head, at = read_head(data)
    palette = None
    if head.indexed:
        palette, at = read_chunk_of(data, at, "PLTE")
    count = head.frames * head.in_a_frame
    lengths: tuple[int, ...] = ()
    if count > 1:
        seek, at = read_chunk_of(data, at, "SEEK")
        if len(seek) != 4 * count:
            raise FormatError(f"SEEK has {len(seek)} bytes for {count} tiles")
        lengths = struct.unpack(f"<{count}I", seek)
    metadata, flat, at = read_metadata(data, at, head)
    tiles = []
    for number in range(count):
        tile, end = read_tile(data, at, head)
        if lengths and end - at != lengths[number]:
            raise FormatError(f"tile {number} has {end - at} bytes, not {lengths[number]}")
        tiles.append(tile)
        at = end
    if head.version == OLDER_VERSION:
        tiles = [replace(tiles[0], flat=flat)]
    if data[at:] and (head.version == OLDER_VERSION or data[at:] != b"\0"):
        raise FormatError("bytes after the last tile")
    return File(head, metadata, palette, tiles)


def read_chunk(data: bytes, at: int) -> tuple[str, bytes, int]:
    """The chunk at offset `at`: its type, its payload, and the offset after it."""
    if len(data) < at + 8:
        raise TruncatedError("the file ends within a chunk")
    length, kind = struct.unpack_from("<I4s", data, at)
    if not kind.isalpha():
        raise FormatError(f"chunk type {kind!r} is not four letters")
    end = at + 8 + length
    if len(data) < end + 4:
        raise TruncatedError(f"the file ends within its {kind.decode()} chunk")
    (crc,) = struct.unpack_from("<I", data, end)
    if crc != zlib.crc32(data[at + 4 : end]):
        raise ChecksumError(f"checksum of the {kind.decode()} chunk is wrong")
    return kind.decode(), data[at + 8 : end], end + 4


def read_chunk_of(data: bytes, at: int, expected: str) -> tuple[bytes, int]:
    """The payload of the chunk at offset `at`, which must be of this type, and the offset after."""
    kind, payload, at = read_chunk(data, at)
    if kind != expected:
        raise FormatError(f"a {kind} chunk where {expected} should be")
    return payload, at


def read_metadata(data: bytes, at: int, head: Head) -> tuple[dict[str, bytes], bytes | None, int]:
    """Metadata by type, the payload of a FLAT of version 2, and where the first tile begins."""
    metadata: dict[str, bytes] = {}
    flat = None
    while True:
        kind, payload, end = read_chunk(data, at)
        if kind == "FLAT" and head.version == OLDER_VERSION:
            if flat is not None:
                raise FormatError("a second FLAT chunk")
            flat = payload
        elif kind in OF_TILES:
            return metadata, flat, at
        elif kind in METADATA:
            if kind in metadata:
                raise FormatError(f"a second {kind} chunk")
            check_metadata(kind, payload, head)
            metadata[kind] = payload
        elif kind[0].isupper():
            raise FormatError(f"{kind}: an unknown critical chunk, or one out of place")
        at = end


def read_tile(data: bytes, at: int, head: Head) -> tuple[CodedTile, int]:
    """The tile that begins at offset `at`, and the offset after it."""
    if head.indexed:
        expected = ["INDX"]
    elif head.version == OLDER_VERSION:
        expected = ["DATA"]
    else:
        expected = ["ALPH"] * head.alpha + ["FLAT", "OUTL", "DATA"]
    found: dict[str, bytes] = {}
    while expected:
        kind, payload, at = read_chunk(data, at)
        if kind in expected:
            found[kind] = payload
            expected = expected[expected.index(kind) + 1 :]
        elif kind[0].isupper() or kind in METADATA:
            raise FormatError(f"{kind}: an unknown critical chunk, or one out of place")
    if head.alpha and not head.indexed and "ALPH" not in found:
        raise FormatError("a tile without transparency")
    return CodedTile(payload, found.get("ALPH"), found.get("FLAT"), found.get("OUTL")), at


def read_head(data: bytes) -> tuple[Head, int]:
    """HEAD and the offset after it. The order of checks tells a newer file from a damaged one."""
    if len(data) < 16:
        raise TruncatedError("the file ends before its HEAD chunk")
    length, kind = struct.unpack_from("<I4s", data, 8)
    if kind != b"HEAD" or length > 255:
        raise FormatError("the first chunk is not HEAD")
    _, payload, at = read_chunk(data, 8)
    if payload[:1] > bytes([VERSION]):
        raise VersionError(f"version {payload[0]} is newer than {VERSION}")
    if payload[:1] == b"\x01":
        raise VersionError("version 1 is read by mvmic_codec before 0.12 only")
    head = parse_head(payload)
    check_head(head)
    return head, at


def parse_head(payload: bytes) -> Head:
    """The payload of HEAD, taken apart."""
    (version, rate, kind, generation), rest = take(payload, 4)
    fingerprint, rest = take(rest, 8 if generation else 0)
    width, rest = take_varint(rest)
    height, rest = take_varint(rest)
    # Version 2 has no flags there: its rate_index is the whole byte.
    flags = 0 if version == OLDER_VERSION else rate >> 6
    form, frames, tile = 0, 1, 0
    if flags & 2:
        (form,), rest = take(rest, 1)
        if form == 0 or form > FRAMED | TILED | PALETTE:
            raise FormatError(
                f"HEAD: form {form} is 0, or has flags that this decoder does not know"
            )
    if form & FRAMED:
        frames, rest = take_varint(rest)
        frames += 2
    if form & TILED:
        tile, rest = take_varint(rest)
        tile = 64 * (tile + 1)
    photometric, signed, ranged, bits = kind & 3, kind >> 2 & 1, kind >> 3 & 1, (kind >> 4) + 1
    lo, hi = lo_and_hi(bits, signed)
    if ranged:
        given, rest = take(rest, 8)
        if given == struct.pack("<2i", lo, hi):
            raise FormatError("HEAD: lo and hi are written, but are all that bits and signed allow")
        lo, hi = struct.unpack("<2i", given)
    if rest:
        raise FormatError(f"HEAD: {len(rest)} bytes after its last field")
    return Head(
        version=version,
        rate_index=rate if version == OLDER_VERSION else rate & 63,
        alpha=flags & 1,
        photometric=photometric,
        signed=signed,
        bits=bits,
        generation=generation,
        fingerprint=fingerprint,
        width=width + 1,
        height=height + 1,
        frames=frames,
        tile=tile,
        palette=int((form & PALETTE) > 0),
        lo=lo,
        hi=hi,
    )


def lo_and_hi(bits: int, signed: int) -> tuple[int, int]:
    """The smallest and the largest sample."""
    lo = -(2 ** (bits - 1)) if signed else 0
    return lo, lo + 2**bits - 1


def take(data: bytes, count: int) -> tuple[bytes, bytes]:
    """So many bytes at the start of `data`, and what comes after them."""
    if len(data) < count:
        raise FormatError("HEAD ends within its fields")
    return data[:count], data[count:]


def take_varint(data: bytes) -> tuple[int, bytes]:
    """A varint at the start of `data`: its value and what comes after it."""
    length = next((i + 1 for i, byte in enumerate(data) if byte < 128), len(data) + 1)
    if length > min(5, len(data)):
        raise FormatError("HEAD: a varint has no end")
    if length > 1 and data[length - 1] == 0:
        raise FormatError("HEAD: a varint is longer than it need be")
    value = sum((byte % 128) << (7 * i) for i, byte in enumerate(data[:length]))
    return value, data[length:]


def check_head(head: Head) -> None:
    """Refuse a field out of range."""
    lowest, highest = lo_and_hi(head.bits, head.signed)
    of_a_byte = head.bits <= 8 and not head.signed
    rules = {
        "version": head.version in (OLDER_VERSION, VERSION),
        "rate_index": head.rate_index <= (0 if head.indexed else 63),
        "alpha": of_a_byte or not head.alpha,
        "bits": head.bits <= 8 or head.photometric < RGB,
        "signed": not head.signed or head.photometric < RGB,
        "generation": head.generation >= 1 or head.version == VERSION,
        "width": head.width < 2**31,
        "height": head.height < 2**31,
        "tile": not head.tile or head.in_a_frame > 1,
        "frames": head.frames * head.in_a_frame <= MOST_TILES,
        "palette": not head.palette or (head.indexed and head.bits == 8 and not head.signed),
        "lo, hi": lowest <= head.lo <= head.hi <= highest,
        "ranged": not head.indexed or (head.lo, head.hi) == (lowest, highest),
    }
    for field, holds in rules.items():
        if not holds:
            raise FormatError(f"HEAD: {field} is out of range")


def check_metadata(kind: str, payload: bytes, head: Head) -> None:
    """Refuse metadata that does not hold what it should."""
    good = True
    if kind == "dpIX":
        good = len(payload) == 8 and 0 not in struct.unpack("<2I", payload)
    elif kind == "teXT":
        try:
            payload.decode("utf-8")
        except UnicodeDecodeError:
            good = False
        good = good and payload.count(0) % 2 == 1  # an even number of strings
    elif kind == "anIM":
        good = len(payload) in (8, 4 + 4 * head.frames)
    if not good:
        raise FormatError(f"{kind} does not hold what it should")


def take_colours(head: Head, data: bytes, at: int, count: int, channels: int) -> tuple[Ints, int]:
    """Colours (count, channels) at offset `at` of a payload, and the offset after them."""
    sample = np.dtype(("<i" if head.signed else "<u") + ("1" if head.bits <= 8 else "2"))
    end = at + count * channels * sample.itemsize
    if len(data) < end:
        raise TruncatedError("a payload ends within its colours")
    colours = np.frombuffer(data[at:end], sample).astype(np.int64).reshape(count, channels)
    lowest, highest = lo_and_hi(head.bits, head.signed)
    if colours.min() < lowest or colours.max() > highest:
        raise FormatError("a colour is out of range")
    return colours, end


def take_count(data: bytes) -> int:
    """K of PLTE, ALPH and OUTL, whose payload begins with K - 1."""
    if not data:
        raise TruncatedError("a payload is empty")
    return data[0] + 1


def decode_palette(head: Head, data: bytes) -> Ints:
    """The colours of PLTE: (K, channels), with transparency last if the image has it."""
    colours, end = take_colours(head, data, 1, take_count(data), head.coded_channels + head.alpha)
    if end != len(data):
        raise FormatError("PLTE goes on after its colours")
    return colours


def decode_alpha(head: Head, size: Size, data: bytes) -> Ints:
    """The transparency (height, width) of a tile, of the payload of ALPH."""
    K = take_count(data)
    levels, at = (np.arange(256), 1) if K == 256 else (np.frombuffer(data[1 : 1 + K], "u1"), 1 + K)
    if len(levels) < K:
        raise TruncatedError("ALPH ends within its levels")
    levels = levels.astype(np.int64)
    if (np.diff(levels) <= 0).any() or levels[-1] >= 2**head.bits:
        raise FormatError("the levels of transparency do not ascend, or are out of range")
    alpha: Ints = levels[decode_plane(data[at:], *size, K, True)]
    return alpha


def decode_outliers(head: Head, size: Size, data: bytes) -> FlatAreas:
    """The outliers of a tile, of the payload of OUTL, as flat areas without blends."""
    K = take_count(data)
    if K == 256:
        raise FormatError("OUTL has 256 values")
    values, at = take_colours(head, data, 1, K, head.coded_channels)
    m = decode_plane(data[at:], *size, K + 1, False)
    return FlatAreas(2, values, m, np.zeros_like(m))


def to_array(head: Head, samples: Ints, alpha: Ints | None = None) -> NDArray[Any]:
    """`samples` (1 or 3, height, width) as whoever looks at the image wants them.

    (height, width), or (height, width, channels) with more than one: R, G and B, and transparency
    last; uint8 up to 8 bits, else uint16; int16 if signed.
    """
    if head.photometric == RGB_EQUAL:
        samples = np.repeat(samples, 3, axis=0)
    if alpha is not None:
        samples = join(samples, alpha[None])
    s: Ints = samples[0] if len(samples) == 1 else np.moveaxis(samples, 0, 2)
    if head.signed:
        return s.astype(np.int16)
    return s.astype(np.uint8 if head.bits <= 8 else np.uint16)


# --- ans.md: from the payload of DATA to symbols --------------------------------------------------

BYTE = constriction.stream.model.Uniform(256)
SECOND = 95  # from a table to that of the second quantiser
NEXT_STATE = ((0, 2), (2, 0), (4, 6), (6, 4), (5, 7), (7, 5), (1, 3), (3, 1))


@dataclass(frozen=True)
class Table:
    """Table of ans.md, section 2: symbols -half to half, then the escape."""

    half: int
    entries: Any  # the constriction model of 2 half + 2 entries


def build_table(half: int, cdf: Ints) -> Table:
    """Table of `cdf` (2 half + 3 values, 0 to 4096), as in ans.md, section 7."""
    n = 2 * half + 2
    F = cdf[: n + 1] * 4096
    c = (F - np.arange(n + 1)) / (2**24 - n)
    c[1:n] += 1e-10
    return Table(half, constriction.stream.model.Categorical(np.diff(c), perfect=False))


def build_tables(arrays: Arrays) -> list[Table | None]:
    """All tables of a model; None for index 0."""
    halves, cdfs = arrays["entropy.table_half"], arrays["entropy.table_cdf"].astype(np.int64)
    tables: list[Table | None] = [None]
    for t in range(1, len(halves)):
        tables.append(build_table(int(halves[t]), cdfs[t]))
    return tables


class Payload:
    """The payload of a DATA chunk; `take` gives its passes one after the other."""

    def __init__(self, data: bytes, tables: list[Table | None]) -> None:
        words, self.symbol_crc = split_payload(data)
        self.lanes = [open_lane(lane) for lane in words]
        self.tables = tables
        self.passes: list[NDArray[np.int16]] = []
        self.count = 0  # of coded symbols so far, over all passes
        self.crc = 0  # of all symbols so far

    def take(self, index: Ints, dependent: bool = False) -> Ints:
        """Symbols of one pass, of the shape of `index`: one table index per symbol, in order."""
        symbols = np.zeros(index.size, np.int64)
        state = 0
        for place, t in enumerate(index.ravel().tolist()):
            if t == 0:
                continue
            lane = self.lanes[self.count % len(self.lanes)]
            if dependent:
                second = state // 4
                k = decode_symbol(lane, self.table(t + SECOND * second))
                symbols[place] = max(-32767, min(32767, 2 * k - second * int(np.sign(k))))
                state = NEXT_STATE[state][k % 2]
            else:
                symbols[place] = decode_symbol(lane, self.table(t))
            self.count += 1
        self.crc = zlib.crc32(symbols.astype("<i2").tobytes(), self.crc)
        self.passes.append(symbols.astype(np.int16))
        return symbols.reshape(index.shape)

    def table(self, t: int) -> Table:
        """Table t, which is not 0."""
        table = self.tables[t]
        assert table is not None
        return table

    def close(self) -> None:
        """After the last pass: refuse what is left, or a wrong symbol."""
        if not all(lane.is_empty() for lane in self.lanes):
            raise FormatError("a lane holds more than its symbols")
        if self.crc != self.symbol_crc:
            raise ChecksumError("checksum of the symbols is wrong")


def split_payload(data: bytes) -> tuple[list[NDArray[np.uint32]], int]:
    """The words of each lane, and symbol_crc."""
    lane_count = data[0] if data else 0
    if lane_count not in (1, 2, 4, 8):
        raise FormatError(f"{lane_count} lanes, not 1, 2, 4 or 8")
    first = 1 + 4 * lane_count
    if len(data) < first:
        raise FormatError("the payload ends before its lanes")
    *lane_words, symbol_crc = struct.unpack_from(f"<{lane_count}I", data, 1)
    rest = len(data) - first - 4 * sum(lane_words)
    if rest < 0 or rest % 4:
        raise FormatError("the lanes do not fit the payload")
    words = np.frombuffer(data, "<u4", offset=first).astype(np.uint32)
    return np.split(words, np.cumsum(lane_words)), symbol_crc


def open_lane(words: NDArray[np.uint32]) -> Any:
    """The constriction coder of one lane; its state x is 0 where it says that it is empty."""
    if len(words) and words[-1] == 0:
        raise FormatError("a lane's last word is 0")
    if len(words) and words[0] % 4096:
        raise FormatError("a lane's first word is not a multiple of 4096")
    return constriction.stream.stack.AnsCoder(words)


def decode_symbol(lane: Any, table: Table) -> int:
    """One symbol, -32768 to 32767: an entry, or an escape and two bytes."""
    if lane.is_empty():
        raise FormatError("a lane has run out")
    entry = int(lane.decode(table.entries))
    if entry <= 2 * table.half:
        return entry - table.half
    high = int(lane.decode(BYTE))
    low = int(lane.decode(BYTE))
    return (high - 256 if high >= 128 else high) * 256 + low


# --- model.md 1, 2, 10: the weights file ----------------------------------------------------------

TYPES = {  # of safetensors: little-endian numpy, and the name that the fingerprint uses
    "I8": ("i1", "int8"),
    "U8": ("u1", "uint8"),
    "I16": ("<i2", "int16"),
    "U16": ("<u2", "uint16"),
    "I32": ("<i4", "int32"),
}


@dataclass(frozen=True)
class Model:
    """A model: its arrays by name, as stored; the fields of `shape`; tables ready for use."""

    arrays: Arrays
    shape: dict[str, int]
    fingerprint: bytes
    tables: list[Table | None]


def load_model(path: Path) -> Model:
    """The model of a weights file, checked as model.md, sections 10 and 11 say."""
    try:
        arrays, types, identity = read_safetensors(path.read_bytes())
        shape = {field: int(value) for field, value in identity["shape"].items()}
        given = bytes.fromhex(identity["fingerprint"])
        fingerprint = compute_fingerprint(shape, arrays, types)
        if given != fingerprint:
            raise ModelError(f"{path}: fingerprint is {fingerprint.hex()}, not {given.hex()}")
        check_arrays(arrays, types, shape)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path}: cannot be read: {error}") from error
    check_values(arrays)
    check_bounds(arrays)
    check_synthesis(arrays, shape)
    return Model(arrays, shape, fingerprint, build_tables(arrays))


def read_safetensors(data: bytes) -> tuple[Arrays, dict[str, str], dict[str, Any]]:
    """Arrays by name, the name of each one's type, and the metadata entry `identity`.

    A safetensors file: u64 length of a JSON header, the header, then the arrays' data.
    """
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    identity = json.loads(header.pop("__metadata__")["identity"])
    arrays, types = {}, {}
    for name, entry in header.items():
        dtype, types[name] = TYPES[entry["dtype"]]
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], dtype)
        arrays[name] = values.reshape(entry["shape"])
    return arrays, types, identity


def compute_fingerprint(shape: dict[str, int], arrays: Arrays, types: dict[str, str]) -> bytes:
    """The 8 bytes of model.md, section 2."""
    digest = hashlib.sha256()
    for field in sorted(shape):
        digest.update(f"{field} {shape[field]}\n".encode("ascii"))
    for name in sorted(arrays):
        digest.update(f"{name} torch.{types[name]} {arrays[name].shape}\n".encode("ascii"))
        digest.update(arrays[name].tobytes())
    return digest.digest()[:8]


def layers(shape: dict[str, int]) -> dict[str, tuple[int, int, int]]:
    """The layers of the entropy model: output and input channels, and the size k of the filter."""
    W, Z = shape["context"], shape["hyper"]
    N = shape["near_luma"] + shape["near_chroma"]
    high_freq = 256 + shape["chroma"] - N
    sizes = {"hyper_rise": (4 * W, Z, 3)}
    for k in range(2):
        sizes[f"mode_scores.{k}"] = (14, W, 1)
        sizes[f"mode_merge.{k}"] = (W, W + 16 * (k + 1), 3)
    for k in range(8):
        if k < 7:
            sizes[f"merge.{k}"] = (W, W + (high_freq if k % 2 else 2 * N), 3)
        sizes[f"think.{k}"] = (W, W, 3)
        sizes[f"scales.{k}"] = (high_freq if k % 2 else N, W, 1)
    for k in range(4):
        sizes[f"means.{k}"] = (N, W, 1)
    return sizes


def check_arrays(arrays: Arrays, types: dict[str, str], shape: dict[str, int]) -> None:
    """Refuse a model whose arrays have not the types and shapes of model.md, sections 1 and 9."""
    if shape["rotate"] not in (0, 1):
        raise ModelError(f"rotate is {shape['rotate']}")
    if not (1 <= shape["near_luma"] <= 256 and 0 <= shape["near_chroma"] <= shape["chroma"] <= 512):
        raise ModelError("near_luma, near_chroma or chroma is out of range")
    C, Z, W = 256 + shape["chroma"], shape["hyper"], shape["context"]
    N = shape["near_luma"] + shape["near_chroma"]
    V = arrays["entropy.table_cdf"].shape[1]
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "step": ("int32", (64, C)),
        "gain": ("int32", (64, N)),
        "hyper_step": ("int32", (64, Z)),
        "hyper_index": ("uint8", (64, Z)),
        "hyper_near": ("int16", (64, Z)),
        "hyper_shift": ("int8", (Z, 16)),
        "near_mean": ("int16", (64, N)),
        "near_shift": ("int8", (N, 16)),
        "base": ("int16", (64, 4, C)),
        "base_mode": ("int16", (8, C)),
        "mode_base": ("int16", (64, 7)),
        "aligned": ("uint8", (8, N)),
        "start": ("int16", (64, W)),
        "compand": ("uint8", (256,)),
        "hyper_linear": ("int16", (16 * N, Z, 3, 3)),
        "predict.0": ("int16", (N, N, 3, 3)),
        "predict.1": ("int16", (N, 2 * N, 3, 3)),
        "predict.2": ("int16", (N, 3 * N, 3, 3)),
        "table_half": ("uint16", (159,)),
        "table_cdf": ("uint16", (159, V)),
    }
    for layer_name, (out, into, k) in layers(shape).items():
        expected[f"{layer_name}.weight"] = ("int8", (out, into, k, k))
        expected[f"{layer_name}.bias"] = ("int32", (out,))
        expected[f"{layer_name}.shift"] = ("uint8", (out,))
    expected = {f"entropy.{name}": each for name, each in expected.items()}
    expected |= {f"synthesis.{name}": each for name, each in synthesis_arrays(shape).items()}
    if arrays.keys() - expected:
        raise ModelError(f"{', '.join(sorted(arrays.keys() - expected))} is none of its arrays")
    for name, (kind, sizes) in expected.items():
        if types[name] != kind or arrays[name].shape != sizes:
            raise ModelError(f"{name} is {types[name]} {arrays[name].shape}, not {kind} {sizes}")


def synthesis_layers(shape: dict[str, int]) -> dict[str, tuple[int, int, int]]:
    """The layers of synthesis: output and input channels, and the size of the filter."""
    J = 3 if shape["chroma"] else 1
    a, b, g = shape["width16"], shape["width8"], shape["width2"]
    sizes = {
        "enter": (a, 256 * J, 1),
        "up": (4 * b, a, 1),
        "inject": (b, 64 * J, 1),
        "leave": (64 * J, b, 1),
        "retouch.enter": (g, 4 * J, 3),
        "retouch.leave": (4 * J, g, 3),
    }
    blocks = {f"body16.{k}": a for k in range(shape["blocks16"])}
    blocks |= {f"body8.{k}": b for k in range(shape["blocks8"])}
    blocks |= {"retouch": g}
    for name, width in blocks.items():
        sizes |= {f"{name}.{which}": (width, width, 3) for which in ("first", "second")}
    return sizes


BY_RATE = ("enter", "up", "inject", "retouch.enter")  # their multipliers go by the rate index
WITH_OFFSET = ("enter", "up", "retouch.enter")


def synthesis_arrays(shape: dict[str, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Types and shapes of the arrays of section 9."""
    chroma = shape["chroma"]
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {
        "luma": ("int16", (8, 256, 256)),
        "chroma": ("int16", (chroma, 512) if chroma else (0, 0)),
        "dct": ("int16", (16, 16)),
        "borders": ("int16", (16, 16)),
        "enter.scale": ("int32", (768 if chroma else 256,)),
    }
    for name, (out, into, k) in synthesis_layers(shape).items():
        by_rate = (64, out) if name in BY_RATE else (out,)
        arrays[f"{name}.weight"] = ("int16", (out, into, k, k))
        arrays[f"{name}.multiplier"] = ("int32", by_rate)
        if name in WITH_OFFSET:
            arrays[f"{name}.offset"] = ("int32", by_rate)
        if name not in BY_RATE:
            arrays[f"{name}.bias"] = ("int32", (out,))
    arrays["enter.bias"] = ("int32", (8, shape["width16"]))
    return arrays


def check_values(arrays: Arrays) -> None:
    """Refuse values out of their ranges in model.md, sections 1 and 10, and ans.md, section 2."""
    rules = {
        "step": (1, None),
        "hyper_step": (1, None),
        "hyper_index": (1, 63),
        "aligned": (0, 1),
        "compand": (0, 127),
        "table_half": (0, 1023),
    }
    rules |= {name[8:]: (0, 14) for name in arrays if name.endswith(".shift")}
    for name, (least, most) in rules.items():
        values = arrays[f"entropy.{name}"]
        if values.min() < least or (most is not None and values.max() > most):
            raise ModelError(f"entropy.{name} is out of range")
    for t in range(1, 159):
        n = 2 * int(arrays["entropy.table_half"][t]) + 2
        cdf = arrays["entropy.table_cdf"][t, : n + 1].astype(np.int64)
        if len(cdf) != n + 1 or cdf[0] != 0 or cdf[n] != 4096 or np.diff(cdf).min() < 1:
            raise ModelError(f"table {t} breaks a rule of tables")


def check_bounds(arrays: Arrays) -> None:
    """Refuse a model that could leave the integers that all decoders can count with: section 10."""

    def sums(name: str) -> Ints:
        total: Ints = np.abs(arrays[name].astype(np.int64)).sum(axis=(1, 2, 3))
        return total

    def largest_sum(name: str) -> int:
        return int(sums(name).max())

    def largest(name: str) -> int:
        return int(np.abs(arrays[name].astype(np.int64)).max())

    S = 2**23 * (
        largest_sum("entropy.hyper_linear")
        + max(largest_sum(f"entropy.predict.{k}") for k in range(3))
    )
    steps = max(largest("entropy.step"), largest("entropy.hyper_step"))
    numbers = [S, S * largest("entropy.gain") // 2**12, (2**19 + 2**18) * steps]
    if max(numbers) >= 2**52:
        raise ModelError("a bound of the integers does not hold")
    for name in arrays:
        layer = name.removesuffix(".weight")
        if layer != name and name.startswith("entropy."):
            bias = np.abs(arrays[f"{layer}.bias"].astype(np.int64))
            if (255 * sums(name) + bias).max() >= 2**30 or arrays[name].shape[1] > 4096:
                raise ModelError(f"sums of {layer} need more than 32 bits")


def largest_input(name: str) -> int:
    """What the inputs of a layer of synthesis reach, as section 10 lists them."""
    if name.startswith("body") and name.endswith("first"):
        return 2**12
    if name in ("up", "leave", "retouch.first", "retouch.leave"):
        return 2**13
    return 2**13 - 1


def check_synthesis(arrays: Arrays, shape: dict[str, int]) -> None:
    """Refuse a model whose synthesis could leave 32 bits: section 10."""

    def size(name: str) -> Ints:
        result: Ints = np.abs(arrays[f"synthesis.{name}"].astype(np.int64))
        return result

    def check(numbers: Ints, bound: int, what: str) -> None:
        if numbers.size and numbers.max() >= bound:
            raise ModelError(f"synthesis: {what} is too large")

    check(size("luma"), 2**14 + 1, "an entry of luma")
    check(size("chroma"), 2**14 + 1, "an entry of chroma")
    check(size("dct").sum(axis=0), 2**16, "a column of dct")
    check(size("borders").sum(axis=1), 2**16, "a row of borders")
    G = {}
    for name, (_, _, k) in synthesis_layers(shape).items():
        H = largest_input(name) * size(f"{name}.weight").sum(axis=(1, 2, 3))
        if name == "enter":
            H += size("enter.bias").max(axis=0)
        elif name not in BY_RATE:
            H += size(f"{name}.bias")
        check(H, 2**29 if k == 3 else 2**31, f"a sum of {name}")
        G[name] = (H * size(f"{name}.multiplier") >> 32) + 1
        if k == 3:
            check(size(f"{name}.weight"), 3641, f"a weight of {name}")
    G["up"] += np.repeat(G["inject"], 4, axis=1)
    for name in WITH_OFFSET:
        check(G[name] + size(f"{name}.offset"), 2**31, f"a result of {name}")


# --- model.md 3: grid and order -------------------------------------------------------------------


def cells(size: Size) -> tuple[int, int]:
    """Rows h and columns w of the 1/32 grid."""
    height, width = size
    return 2 * -(-height // 64), 2 * -(-width // 64)


def site(p: int, c: int, rotate: int) -> int:
    """The site, 0 to 3, that step `p` codes of channel `c` in every cell."""
    r = c % 4 if rotate else 0
    return (0, 3, 1, 2)[(p + r) % 4]


def outside(size: Size) -> NDArray[np.bool_]:
    """For each site k of a cell (4, h, w): whether its block lies wholly in the padding."""
    height, width = size
    h, w = cells(size)
    i, j = np.arange(h)[:, None], np.arange(w)[None, :]
    return np.stack(
        [(16 * (2 * i + k // 2) >= height) | (16 * (2 * j + k % 2) >= width) for k in range(4)]
    )


# --- model.md 4: building blocks ------------------------------------------------------------------


def rnd(a: Ints, n: Any) -> Ints:
    """floor(a / 2^n + 1/2); `n` is a number, or an array that numpy fits to `a`."""
    half = (np.int64(1) << np.asarray(n, np.int64)) >> 1
    result: Ints = (a + half) >> n
    return result


def conv(x: Ints, f: NDArray[Any], padding: Any = "edge") -> Ints:
    """Filter x (I, rows, columns) by f (O, I, k, k): (O, rows, columns)."""
    channels, rows, columns = x.shape
    d = (f.shape[2] - 1) // 2
    padded = np.pad(x, ((0, 0), (d, d), (d, d)), mode=padding)
    total = np.zeros((len(f), rows * columns), np.int64)
    for a in range(f.shape[2]):
        for b in range(f.shape[3]):
            moved = padded[:, a : a + rows, b : b + columns].reshape(channels, -1)
            # What `@` does, but twice as fast with integers.
            total += np.einsum("oc,cp->op", f[:, :, a, b].astype(np.int64), moved)
    return total.reshape(-1, rows, columns)


def layer(arrays: Arrays, name: str, x: Ints) -> Ints:
    """Layer `name` of the entropy model; x (I, rows, columns), the result (O, rows, columns)."""
    total = conv(x, arrays[f"entropy.{name}.weight"])
    bias = arrays[f"entropy.{name}.bias"].astype(np.int64)
    shift = arrays[f"entropy.{name}.shift"].astype(np.int64)
    return rnd(total + bias[:, None, None], shift[:, None, None])


def shuffle(x: Ints, n: int) -> Ints:
    """n^2 K channels to K channels at n times the rows and columns."""
    channels, rows, columns = x.shape
    x = x.reshape(channels // n**2, n, n, rows, columns)
    return x.transpose(0, 3, 1, 4, 2).reshape(channels // n**2, n * rows, n * columns)


def unshuffle(x: Ints, n: int) -> Ints:
    """The inverse of `shuffle`."""
    channels, rows, columns = x.shape
    x = x.reshape(channels, rows // n, n, columns // n, n)
    return x.transpose(0, 2, 4, 1, 3).reshape(channels * n**2, rows // n, columns // n)


def up(x: Ints) -> Ints:
    """4K channels to K channels at the grid of twice as many rows and columns."""
    return shuffle(x, 2)


def companded(arrays: Arrays, q: Ints) -> Ints:
    """The specification's compand(q)."""
    compand = arrays["entropy.compand"].astype(np.int64)
    return np.sign(q) * compand[np.minimum(np.abs(q), 255)]


def join(*arrays: Ints) -> Ints:
    """The specification's x | y: channels after channels."""
    return np.concatenate(arrays)


# --- model.md 5 to 8: the entropy model -----------------------------------------------------------


class Take(Protocol):
    """What `Payload.take` is."""

    def __call__(self, index: Ints, dependent: bool = False) -> Ints:
        """Table indices of one pass to its symbols, both of the same shape."""


@dataclass(frozen=True)
class Latent:
    """What the entropy model gives to synthesis, and the means for whoever looks for an error."""

    y3: NDArray[np.int16]  # (C, 2h, 2w), in eighths on the 255 scale
    modes: Ints  # (2h, 2w), 0 to 7
    means: list[Ints]  # m of parts 0 to 7, in sixteenths of a step


def decode_latent(
    arrays: Arrays,
    shape: dict[str, int],
    rate: int,
    size: Size,
    take: Take,
    hidden: NDArray[np.bool_] | None = None,
) -> Latent:
    """Sections 5 to 8.

    `take` is called 17 times, once for each pass of symbols, in order. `hidden` says by site
    (4, h, w) what flat areas hide; without it, nothing.
    """
    h, w = cells(size)
    F, P = from_hyper(arrays, rate, code_hyper(arrays, rate, (h // 2, w // 2), take))
    out = outside(size)
    if hidden is not None:
        out = out | hidden
    F, mode = code_modes(arrays, rate, F, out, take)
    v, means = code_parts(arrays, shape["rotate"], rate, F, P, mode, out, take)
    y3, modes = place(v, mode, shape["rotate"])
    return Latent(y3, modes, means)


def code_hyper(arrays: Arrays, rate: int, size: Size, take: Take) -> Ints:
    """Section 5, its first half: z in sixteenths of a step, (Z, h/2, w/2)."""
    index = arrays["entropy.hyper_index"][rate].astype(np.int64)[:, None, None]
    anchor = is_anchor(size)
    q = 16 * take(np.where(anchor, index, 0))
    n = beside(np.ones(size, np.int64))
    R = np.array([0, 4096, 2048, 1365, 1024])[n]
    weight = arrays["entropy.hyper_near"][rate].astype(np.int64)
    m = np.clip(rnd(weight[:, None, None] * beside(q) * R, 24), -(2**18), 2**18)
    A = rnd(beside(np.abs(q)) * R, 12)
    shifted = np.clip(index + of_class(arrays, "hyper_shift", A), 1, 63)
    s = take(np.where(anchor, 0, shifted))
    return np.where(anchor, q, 16 * s + m)


def is_anchor(size: Size) -> NDArray[np.bool_]:
    """The anchors of a chessboard of so many rows and columns."""
    i, j = np.arange(size[0])[:, None], np.arange(size[1])
    anchor: NDArray[np.bool_] = (i + j) % 2 == 0
    return anchor


def beside(x: Ints) -> Ints:
    """Sums of the four neighbours, as far as there are any (beside in the specification)."""
    edges = [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)]
    x = np.pad(x, edges)
    total: Ints = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return total


def of_class(arrays: Arrays, name: str, A: Ints) -> Ints:
    """Of an array (channels, 16) the entries for magnitudes A (channels, rows, columns)."""
    values: Ints = arrays[f"entropy.{name}"].astype(np.int64)
    return values[np.arange(len(A))[:, None, None], companded(arrays, A) // 8]


def from_hyper(arrays: Arrays, rate: int, z: Ints) -> tuple[Ints, list[Ints]]:
    """Section 5, the rest: the first features F (W, h, w), 0 to 255, and P_0 to P_3 (N, h, w)."""
    u = up(layer(arrays, "hyper_rise", companded(arrays, z)))
    start = arrays["entropy.start"][rate].astype(np.int64)
    F = np.clip(u + start[:, None, None], 0, 255)
    step = arrays["entropy.hyper_step"][rate].astype(np.int64)
    Z = np.clip(rnd(z * step[:, None, None], 12), -(2**23), 2**23)
    P = up(conv(Z, arrays["entropy.hyper_linear"]))
    return F, np.split(P, 4)


HALVES = ((0, 3), (1, 2))  # the sites of half 0 and 1


def code_modes(
    arrays: Arrays, rate: int, F: Ints, out: NDArray[np.bool_], take: Take
) -> tuple[Ints, Ints]:
    """Section 6: the features with the modes in them, and the mode of each site (4, h, w)."""
    mode = np.zeros(out.shape, np.int64)
    K = F
    for g in range(2):
        sites = list(HALVES[g])
        e = layer(arrays, f"mode_scores.{g}", K).reshape(2, 7, *out.shape[1:])
        base = arrays["entropy.mode_base"][rate].astype(np.int64)
        T = 64 + np.clip((e + base[:, None, None] + 8) // 16, 0, 31)
        T = np.where(out[sites][:, None], 0, T)
        u = np.zeros_like(mode[sites])
        for d in range(3):
            node = 2**d - 1 + u
            index = np.take_along_axis(T, node[:, None], axis=1)[:, 0]
            u = 2 * u + (take(index) > 0)
        mode[sites] = u
        known = [hot(mode[k]) for half in HALVES[: g + 1] for k in half]
        K = np.clip(layer(arrays, f"mode_merge.{g}", join(F, *known)), 0, 255)
    return K, mode


def hot(mode: Ints) -> Ints:
    """8 channels: 32 in the one of the mode, 0 in the others."""
    return np.where(np.arange(8)[:, None, None] == mode, 32, 0)


def code_parts(
    arrays: Arrays,
    rotate: int,
    rate: int,
    F: Ints,
    P: list[Ints],
    mode: Ints,
    out: NDArray[np.bool_],
    take: Take,
) -> tuple[list[Ints], list[Ints]]:
    """Section 7: v_0 to v_3 (C, h, w), the latent in sixteenths by step, and the means by part.

    `mode` and `out` are by site (4, h, w).
    """
    C = arrays["entropy.step"].shape[1]
    N = arrays["entropy.gain"].shape[1]
    step = arrays["entropy.step"][rate].astype(np.int64)
    v: list[Ints] = []  # of each part
    V: list[Ints] = []
    means: list[Ints] = []
    q = np.zeros(0, np.int64)
    for part in range(8):
        p, high_freq = divmod(part, 2)
        c = np.arange(N, C) if high_freq else np.arange(N)
        sites = [site(p, int(channel), rotate) for channel in c]
        F = features(arrays, part, F, q)
        D = np.clip(layer(arrays, f"think.{part}", F), 0, 255)
        e = score(arrays, rate, part, c, D, mode[sites])
        m = np.zeros_like(e) if high_freq else mean(arrays, rate, p, D, P[p], V, mode[sites])
        if part == 0:
            anchor = is_anchor(e.shape[1:])
            r = 12 * take(np.where(anchor & ~out[sites], table_index(e), 0), True)
            m = m + np.where(anchor, 0, mean_of_neighbours(arrays, rate, r))
            m = np.clip(m, -(2**18), 2**18)
            A = rnd(beside(np.abs(r)), 2)
            e = e + np.where(anchor, 0, 16 * of_class(arrays, "near_shift", A))
            r = r + 12 * take(np.where(anchor | out[sites], 0, table_index(e)), True)
        else:
            r = 12 * take(np.where(out[sites], 0, table_index(e)), True)
        q = r + m
        v.append(rnd(q * step[c, None, None], 12))
        if not high_freq:
            V.append(np.clip(v[-1], -(2**23), 2**23) * aligned(arrays, mode[sites]))
        means.append(m)
    return [join(low, high) for low, high in zip(v[0::2], v[1::2], strict=True)], means


def luma_and_chroma(shape: dict[str, int]) -> tuple[Ints, Ints]:
    """Section 1: the channels of y that are luma (256), and those that are chroma."""
    near_luma, N = shape["near_luma"], shape["near_luma"] + shape["near_chroma"]
    first_far_chroma = N + 256 - near_luma
    luma = np.r_[0:near_luma, N:first_far_chroma]
    chroma = np.r_[near_luma:N, first_far_chroma : 256 + shape["chroma"]]
    return luma, chroma


def features(arrays: Arrays, part: int, F: Ints, q: Ints) -> Ints:
    """Step 1: features F (W, h, w) for `part`, with q of the part before."""
    if part == 0:
        return F
    t = companded(arrays, q)
    seen = join(F, t, np.abs(t)) if part % 2 else join(F, np.abs(t))
    return np.clip(layer(arrays, f"merge.{part - 1}", seen), 0, 255)


def score(arrays: Arrays, rate: int, part: int, c: Ints, D: Ints, mode: Ints) -> Ints:
    """Step 3: table indices of the channels `c` in sixteenths, before neighbours add to them.

    `mode` is that of each channel's site; all are (channels, h, w).
    """
    base = arrays["entropy.base"][rate, part // 2, c].astype(np.int64)
    base_mode = arrays["entropy.base_mode"].astype(np.int64)
    e: Ints = layer(arrays, f"scales.{part}", D) + base[:, None, None]
    e += base_mode[mode, c[:, None, None]]
    return e


def table_index(e: Ints) -> Ints:
    """Step 3: 0 to 63, before what is not coded."""
    index: Ints = np.clip((e + 8) // 16, 0, 63)
    return index


def mean_of_neighbours(arrays: Arrays, rate: int, r: Ints) -> Ints:
    """Step 5: what anchors add to the means of the others, by their r (N, h, w)."""
    weight = arrays["entropy.near_mean"][rate].astype(np.int64)
    return rnd(weight[:, None, None] * beside(r), 16)


def mean(arrays: Arrays, rate: int, p: int, D: Ints, P: Ints, V: list[Ints], mode: Ints) -> Ints:
    """Step 4 of a low-frequency part: means (N, h, w) in sixteenths of a step, -2^18 to 2^18."""
    linear = P
    if p > 0:
        linear = P + conv(join(*V), arrays[f"entropy.predict.{p - 1}"])
    gain = arrays["entropy.gain"][rate].astype(np.int64)
    m: Ints = rnd(rnd(linear, 12) * gain[:, None, None], 20) * aligned(arrays, mode)
    m = m + np.clip(layer(arrays, f"means.{p}", D), -127, 127)
    return np.clip(m, -(2**18), 2**18)


def aligned(arrays: Arrays, mode: Ints) -> Ints:
    """`aligned` of each low-frequency channel in the mode of its site; both (N, h, w)."""
    c = np.arange(len(mode))[:, None, None]
    taking_part: Ints = arrays["entropy.aligned"].astype(np.int64)[mode, c]
    return taking_part


def place(v: list[Ints], mode: Ints, rotate: int) -> tuple[NDArray[np.int16], Ints]:
    """Section 8: y3 (C, 2h, 2w) and the modes (2h, 2w), each value at its site."""
    C, h, w = v[0].shape
    y3 = np.zeros((C, 2 * h, 2 * w), np.int16)
    for p in range(4):
        for c in range(C):
            k = site(p, c, rotate)
            y3[c, k // 2 :: 2, k % 2 :: 2] = np.clip(rnd(v[p][c], 1), -32768, 32767)
    modes = np.zeros((2 * h, 2 * w), np.int64)
    for k in range(4):
        modes[k // 2 :: 2, k % 2 :: 2] = mode[k]
    return y3, modes


# --- model.md 9: synthesis ------------------------------------------------------------------------


def int16(x: Ints) -> Ints:
    """The nearest number of 16 bits."""
    return np.clip(x, -(2**15), 2**15 - 1)


def limit(x: Ints) -> Ints:
    """The nearest number from -(2^13 - 1) to 2^13 - 1."""
    return np.clip(x, -(2**13 - 1), 2**13 - 1)


def narrow(x: Ints, s: int) -> Ints:
    """A stream of 16 bits as the input of a layer, `s` bits less."""
    result: Ints = np.minimum(rnd(x, s), 2 ** (15 - s) - 1)
    return result


def rq(x: Ints, m: Ints) -> Ints:
    """Sums x (O, rows, columns) times the multipliers `m` (O, 1, 1), in 2^-32, rounded."""
    return rnd(x * m, 32)


def zconv(x: Ints, f: NDArray[Any]) -> Ints:
    """`conv` with zeros outside of x."""
    return conv(x, f, "constant")


def synthesise(
    arrays: Arrays, shape: dict[str, int], rate: int, y3: NDArray[np.int16], modes: Ints
) -> Ints:
    """Section 9: the planes O (1 or 3, rows, columns) of the padded image, in 2^-12."""
    w = {name[10:]: each for name, each in arrays.items() if name.startswith("synthesis.")}

    def of_channel(name: str) -> Ints:
        values = w[name][rate] if w[name].ndim == 2 else w[name]
        result: Ints = values.astype(np.int64)[:, None, None]
        return result

    def bias(name: str) -> Ints | int:
        if name == "enter":
            by_mode: Ints = np.moveaxis(w["enter.bias"].astype(np.int64)[modes], 2, 0)
            return by_mode
        return of_channel(f"{name}.bias") if f"{name}.bias" in w else 0

    def scaled(name: str, x: Ints) -> Ints:
        return rq(zconv(x, w[f"{name}.weight"]) + bias(name), of_channel(f"{name}.multiplier"))

    def block(name: str, x: Ints, s: int) -> Ints:
        t = np.clip(scaled(f"{name}.first", narrow(x, s)), 0, 2**13 - 1)
        return int16(x + scaled(f"{name}.second", t))

    X = coefficients(w, shape, y3, modes)
    S = linear_picture(w, X)
    e = limit(rnd(X * of_channel("enter.scale"), 16))
    a = int16(scaled("enter", e) + of_channel("enter.offset"))
    for k in range(shape["blocks16"]):
        a = block(f"body16.{k}", a, 3)
    u = scaled("up", narrow(a, 2)) + of_channel("up.offset")
    p = limit(rnd(unshuffle(S, 8), 9))
    b = int16(shuffle(u, 2) + scaled("inject", p))
    for k in range(shape["blocks8"]):
        b = block(f"body8.{k}", b, 3)
    M: Ints = np.clip(S + shuffle(scaled("leave", narrow(b, 2)), 8), -(2**23), 2**23)
    u = unshuffle(M, 2)
    d = limit(rnd(u - around(u), 8))
    g = scaled("retouch.enter", d) + of_channel("retouch.enter.offset")
    g = block("retouch", np.clip(g, 0, 2**15 - 1), 2)
    padded: Ints = M + shuffle(scaled("retouch.leave", narrow(g, 2)), 2)
    return padded


def coefficients(w: Arrays, shape: dict[str, int], y3: NDArray[np.int16], modes: Ints) -> Ints:
    """X (256 J, rows, columns): the DCT coefficients of each site, from y3, in eighths."""
    luma, chroma = luma_and_chroma(shape)
    y = y3.astype(np.int64)
    luma_back = w["luma"].astype(np.int64).transpose(0, 2, 1)
    chroma_back = w["chroma"].astype(np.int64).T
    X = np.zeros((len(w["enter.scale"]), *modes.shape), np.int64)
    for i, j in np.ndindex(*modes.shape):
        X[:256, i, j] = luma_back[modes[i, j]] @ y[luma, i, j]
        if len(chroma):
            X[256:, i, j] = chroma_back @ y[chroma, i, j]
    return int16(rnd(X, 14))


def linear_picture(w: Arrays, X: Ints) -> Ints:
    """S (J, 16 rows, 16 columns), in 2^-12."""
    A, B = w["dct"].astype(np.int64), w["borders"].astype(np.int64)
    blocks = X.reshape(-1, 16, 16, *X.shape[1:])
    P = int16(rnd(np.einsum("uj,cvurs->cvjrs", A, blocks), 13))
    R = int16(rnd(np.einsum("vi,cvjrs->cijrs", A, P), 13))
    x = shuffle(R.reshape(X.shape), 16)
    for at in range(8, x.shape[2] - 8, 16):
        x[:, :, at : at + 16] = int16(rnd(np.einsum("ik,crk->cri", B, x[:, :, at : at + 16]), 14))
    S = x * 2**7
    for at in range(8, x.shape[1] - 8, 16):
        S[:, at : at + 16] = rnd(np.einsum("ik,ckr->cir", B, x[:, at : at + 16]), 7)
    return S


def around(u: Ints) -> Ints:
    """For all four channels of a plane about their mean at a place and those around it."""
    sums = u.reshape(-1, 4, *u.shape[1:]).sum(1)
    nine = np.ones((1, 1, 3, 3), np.int64)
    T = np.concatenate([zconv(plane[None], nine) for plane in sums])
    n = zconv(np.ones_like(sums[:1]), nine)
    E = np.zeros_like(n)
    for count, factor in ((4, 4194304), (6, 2796203), (9, 1864135)):
        E[n == count] = factor
    return np.repeat(rnd(T * E, 26), 4, axis=0)


def to_range(padded: Ints, size: Size) -> Ints:
    """The numbers z (1 or 3, height, width) of the planes O: of gray, or of R, G and B."""
    c3, c2, c6 = 2431079, 2977451, 1719032
    luma, *chroma = padded[:, : size[0], : size[1]]
    planes = [c3 * luma]
    if chroma:
        red_blue, green = chroma
        planes = [
            c3 * luma + c2 * red_blue + c6 * green,
            c3 * luma - 2 * c6 * green,
            c3 * luma - c2 * red_blue + c6 * green,
        ]
    z: Ints = np.clip(np.stack(planes) + 2**41, 0, 2**42)
    return z


def to_samples(head: Head, z: Ints) -> Ints:
    """Samples of z, of its shape."""
    return head.lo + rnd(z * (head.hi - head.lo), 42)


# --- flat.md: from the payload of FLAT to the map and the blends, and painting --------------------

# The neighbour whose colour is blended in is the first flat one of these: columns to the right and
# rows below.
NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))

# The neighbours that make a context, from bit 1 on.
Y_ALL = ((-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2))  # bits 1 to 32 of all decisions
Y_FIRST = ((2, -1), (-2, -1), (-1, -2), (1, -2))  # bits 64 to 512 of decision 0 of the map
Q_OTHERS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # bits 64 to 512 of other decisions
MARGIN = 2  # no neighbour is farther away


@dataclass(frozen=True)
class FlatFields:
    """What lies in the payload of FLAT."""

    form: int  # 1 or 2
    colours: Ints  # (K, 3) if photometric is RGB, else (K, 1)
    covered: bytes  # all before `flat_crc`
    flat_crc: int
    lane: list[int]  # words
    blends: list[int]  # words; none in form 1


@dataclass(frozen=True)
class FlatAreas:
    """What a FLAT chunk says of a tile."""

    form: int
    colours: Ints  # (K, 3) if photometric is RGB, else (K, 1)
    m: Ints  # the map (height, width), 0 to K
    b: Ints  # the blends (height, width), 0 to 3; all 0 in form 1

    @property
    def covered(self) -> NDArray[np.bool_]:
        """The pixels (height, width) that the image data need not show."""
        result: NDArray[np.bool_] = (self.m > 0) & (self.form == 2)
        return result

    def blend(self, s: Ints) -> Ints:
        """`s` (1 or 3, height, width) with the colours beside open pixels mixed in."""
        c = np.moveaxis(self.colours[np.maximum(neighbour(self.m), 1) - 1], 2, 0)
        return rnd((4 - self.b) * s + self.b * c, 2)

    def paint(self, s: Ints) -> None:
        """Give flat pixels of `s` (1 or 3, height, width) their colours' samples."""
        for k, colour in enumerate(self.colours, 1):
            s[:, self.m == k] = colour[:, None]


def hidden_sites(covered: NDArray[np.bool_], beside: Sides) -> NDArray[np.bool_]:
    """For each site k of a cell (4, h, w): whether nobody will see it, so that it is not coded.

    `covered` (height, width) are the pixels that something is painted over, `beside` says on which
    sides other tiles lie. Of sites that are `outside` anyway it may say either.
    """
    height, width = covered.shape
    h, w = cells((height, width))
    result = np.zeros((4, h, w), np.bool_)
    # With 4 pixels around it. Nothing is seen beyond the image; other tiles are.
    unseen = np.ones((32 * h + 8, 32 * w + 8), np.bool_)
    unseen[4 : 4 + height, 4 : 4 + width] = covered
    above, left, below, right = beside
    unseen[:4] &= not above
    unseen[:, :4] &= not left
    unseen[-4:] &= not below
    unseen[:, -4:] &= not right
    for k, i, j in np.ndindex(4, h, w):
        y, x = 16 * (2 * i + k // 2), 16 * (2 * j + k % 2)
        result[k, i, j] = np.all(unseen[y : y + 24, x : x + 24])
    return result


def decode_flat(head: Head, size: Size, data: bytes) -> FlatAreas:
    """The flat areas of a tile of this size that a FLAT chunk's payload stands for."""
    fields = split_flat(head, data)
    lane = FlatLane(fields.lane)
    m = decode_map(size, len(fields.colours), lane)
    lane.close()
    crc = zlib.crc32(m.astype(np.uint8).tobytes(), zlib.crc32(fields.covered))
    b = np.zeros(size, np.int64)
    if fields.form == 2:
        lane = FlatLane(fields.blends)
        b = decode_blends(m, lane)
        lane.close()
        crc = zlib.crc32(b.astype(np.uint8).tobytes(), crc)
    if crc != fields.flat_crc:
        raise ChecksumError("checksum of the flat areas is wrong")
    return FlatAreas(fields.form, fields.colours, m, b)


def split_flat(head: Head, data: bytes) -> FlatFields:
    """Section 1: the fields of the payload."""
    if not data:
        raise TruncatedError("the flat areas are empty")
    form, count = 1 + data[0] // 128, data[0] % 128
    if not 1 <= count <= 8:
        raise FormatError(f"flat areas have {count} colours, not 1 to 8")
    colours, end = take_colours(head, data, 1, count, head.coded_channels)
    if len(data) < end + 4 * form or (len(data) - end) % 4:
        raise TruncatedError("the flat areas end before their lane, or within a word of it")
    if colours.min() < head.lo or colours.max() > head.hi:
        raise FormatError("a flat colour is out of range")
    flat_crc, *lane = struct.unpack(f"<{(len(data) - end) // 4}I", data[end:])
    blends: list[int] = []
    if form == 2:
        words, *rest = lane
        if words > len(rest):
            raise TruncatedError("the flat areas end within their lane")
        lane, blends = rest[:words], rest[words:]
    return FlatFields(form, colours, data[:end], flat_crc, lane, blends)


def neighbour(m: Ints) -> Ints:
    """The number of the colour beside each pixel of the map `m`; 0 where there is none."""
    rows, columns = m.shape
    padded = np.pad(m, 1)
    number = np.zeros_like(m)
    for x, y in NEIGHBOURS:
        there = padded[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]
        number = np.where(number > 0, number, there)
    return number


def decode_map(size: Size, K: int, lane: FlatLane) -> Ints:
    """Section 2: the map of `size`, 0 for not flat, else the number of a colour, 1 to K."""
    flat = decode_decision(np.ones(size, np.bool_), Y_ALL + Y_FIRST, (), lane)
    return decode_numbers(flat, K, lane)


def decode_blends(m: Ints, lane: FlatLane) -> Ints:
    """Section 2: the blends beside the flat areas of the map `m`, 0 to 3."""
    is_open = (m == 0) & (neighbour(m) > 0)
    blended = decode_decision(is_open, Y_ALL, Q_OTHERS, lane)
    return decode_numbers(blended, 3, lane)


def decode_numbers(asked: NDArray[np.bool_], K: int, lane: FlatLane) -> Ints:
    """Decisions 1 to K - 1: numbers of 1 to K for those `asked`, which are 0 elsewhere."""
    m = np.where(asked, K, 0)
    for d in range(1, K):
        yes = decode_decision(asked, Y_ALL, Q_OTHERS, lane)
        m[yes] = d
        asked = asked & ~yes
    return m


Steps = tuple[tuple[int, int], ...]


def decode_decision(
    asked: NDArray[np.bool_], of_Y: Steps, of_Q: Steps, lane: FlatLane
) -> NDArray[np.bool_]:
    """The answers to a decision, no where a pixel is not `asked`; of the shape of `asked`.

    A context has the neighbours `of_Y` in Y and then those `of_Q` in Q.
    """
    # Y and Q with a margin of zeros, and row by row in one list, so that a neighbour lies at a
    # fixed distance. Pure Python: numpy is slow at single elements.
    Q = [int(each) for each in np.pad(asked, MARGIN).flat]
    Y = [0] * len(Q)
    row = asked.shape[1] + 2 * MARGIN
    y_steps = [x + y * row for x, y in of_Y]
    q_steps = [x + y * row for x, y in of_Q]
    contexts = [Context() for _ in range(1024)]
    for at, is_asked in enumerate(Q):
        if is_asked:
            neighbours = [Y[at + step] for step in y_steps] + [Q[at + step] for step in q_steps]
            context = contexts[sum(value << bit for bit, value in enumerate(neighbours))]
            Y[at] = lane.take(context.p())
            context.learn(Y[at])
    padded = np.array(Y, np.bool_).reshape(-1, row)
    return padded[MARGIN:-MARGIN, MARGIN:-MARGIN]


@dataclass
class Context:
    """What a context has learnt of its answers, for one decision."""

    P: int = 1 << 31
    n: int = 0

    def p(self) -> int:
        """The probability of a yes, in 2^-16."""
        return max(1, self.P >> 16)

    def learn(self, answer: int) -> None:
        """Follow an answer, 0 or 1."""
        if answer:
            self.P += (2**32 - 1 - self.P) * 2 // (2 * self.n + 3)
        else:
            self.P -= 2 * self.P // (2 * self.n + 3)
        self.n = min(30, self.n + 1)


class FlatLane:
    """Section 3: one rANS stream of answers, with its state x."""

    def __init__(self, words: list[int]) -> None:
        if words and words[-1] == 0:
            raise FormatError("the last word of a lane of answers is 0")
        self.words = list(words)
        self.x = 0
        for _ in range(2):
            self.refill()

    def refill(self) -> None:
        """Take the last word, if there is one."""
        if self.words:
            self.x = (self.x << 32) + self.words.pop()

    def take(self, p: int) -> int:
        """One answer, 0 or 1, of which a yes has the probability p / 2^16."""
        s, z = self.x % 2**16, 2**16 - p
        yes = s >= z
        self.x = (self.x >> 16) * p + s - z if yes else (self.x >> 16) * z + s
        if self.x < 2**32:
            self.refill()
        return int(yes)

    def close(self) -> None:
        """After the last answer: refuse what is left."""
        if self.words or self.x:
            raise FormatError("a lane of answers holds more than these")


# --- plane.md: from a payload to a plane of symbols -----------------------------------------------


def decode_plane(payload: bytes, height: int, width: int, symbols: int, ordered: bool) -> Ints:
    """The plane (height, width) of symbols 0 to `symbols` - 1 that a payload stands for."""
    if len(payload) < 4 or len(payload) % 4:
        raise TruncatedError("the plane ends before its lane, or within a word of it")
    crc, *words = struct.unpack(f"<{len(payload) // 4}I", payload)
    lane = FlatLane(words)
    plane = PlaneDecoder(height, width, symbols, ordered, lane).decode()
    lane.close()
    if zlib.crc32(plane.astype(np.uint8).tobytes()) != crc:
        raise ChecksumError("checksum of the plane is wrong")
    return plane


class PlaneDecoder:
    """Section 2, with the names of that page."""

    def __init__(self, height: int, width: int, K: int, ordered: bool, lane: FlatLane) -> None:
        # Lists, with a margin of zeros: numpy is slow at single elements.
        self.rows = [[0] * (width + 2 * MARGIN) for _ in range(height + MARGIN)]
        self.K, self.ordered, self.lane = K, ordered, lane
        self.contexts: dict[tuple[int, ...], Context] = {}
        self.memory: dict[int, tuple[int, int]] = {}  # M and t by place

    def decode(self) -> Ints:
        """All pixels."""
        if self.K > 1:
            for y in range(MARGIN, len(self.rows)):
                for x in range(MARGIN, len(self.rows[0]) - MARGIN):
                    self.rows[y][x] = self.pixel(x, y)
        return np.array(self.rows, np.int64)[MARGIN:, MARGIN:-MARGIN]

    def ask(self, *context: int) -> int:
        """One answer. The first of the numbers says which question it is."""
        learned = self.contexts.setdefault(context, Context())
        answer = self.lane.take(learned.p())
        learned.learn(answer)
        return answer

    def pixel(self, x: int, y: int) -> int:
        """The symbol v in this column and row."""
        NNW, NN, NNE = self.rows[y - 2][x - 1 : x + 2]
        NWW, NW, N, NE, NEE = self.rows[y - 1][x - 2 : x + 3]
        WW, W = self.rows[y][x - 2 : x]
        if self.ask(1, *(n == W for n in (N, NW, NE, WW, NN, NEE, NWW, NNW, NNE, 0))):
            return W
        if self.K == 2:
            return 1 - W

        a = W + 2**8 * N + 2**16 * NW + 2**24 * NE
        b = WW + 2**8 * NN
        place = (2654435761 * a + 2246822507 * b) % 2**32 // 2**16
        M, t = self.memory.get(place, (-1, 0))
        ruled_out = {W}
        v: int | None = None
        for i, c in enumerate((M, N, NE, NW)):
            if v is not None or c in ruled_out or c < 0 or len(ruled_out) == self.K - 1:
                continue
            context: tuple[int, ...]
            if i == 0:
                context = (*(n == c for n in (N, NE, NW, WW)), t)
            else:
                context = tuple(n == c for n in (NN, WW, NNE, NNW, NEE, NWW))
            if self.ask(2, i, *context):
                v = c
            else:
                ruled_out.add(c)
        if v is None and len(ruled_out) == self.K - 1:
            (v,) = set(range(self.K)) - ruled_out
        if v is None:
            v = self.escape(W, N, NW, NE)
            if v in ruled_out:
                raise FormatError("an escape has a symbol that was ruled out")
        self.memory[place] = (v, min(3, t + 1) if v == M else 1)
        return v

    def escape(self, W: int, N: int, NW: int, NE: int) -> int:
        """The symbol that an escape tells."""
        tree = W
        if self.ordered:
            activity = max(abs(W - NW), abs(N - NW), abs(N - NE))
            tree = sum(activity > step for step in (1, 4, 12))
        B = (self.K - 1).bit_length()
        node = 1
        for _ in range(B):
            node = 2 * node + self.ask(3, tree, node)
        e = node - (1 << B)
        if e >= self.K:
            raise FormatError("an escape has no symbol")
        if not self.ordered:
            return e
        P = max(min(W, N), min(max(W, N), W + N - NW))
        d = e // 2 if e % 2 == 0 else self.K - (e + 1) // 2
        return (P + d) % self.K


# --- residual.md: from a lane to the samples of an image ------------------------------------------

BORDER = 3  # columns on each side of a plane, and rows above it, that have values and errors
GREEN, RED = 1, 0  # numbers of planes, if there are three

# Places (dx, dy): list 1 of section 3, list 2, and those of the scale with their numbers.
IN_PLANE = (
    *((-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0)),
    *((0, -2), (1, -2), (-1, -2), (2, -1), (-2, -1)),
    *((-2, -2), (2, -2), (-3, 0), (-3, -1), (3, -1)),
    *((0, -3), (-1, -3), (1, -3), (3, -2)),
)
AROUND = ((1, 0), (0, 1), (-1, 0), (0, -1), (-1, -1), (1, -1), (-1, 1), (1, 1))
SCALE = (
    *((-1, -2, 2), (0, -2, 3), (1, -2, 2)),
    *((-2, -1, 2), (-1, -1, 3), (0, -1, 4), (1, -1, 4), (2, -1, 3), (3, -1, 1)),
    *((-3, 0, 1), (-2, 0, 3), (-1, 0, 4)),
)


def read_residual(
    payload: bytes,
    height: int,
    width: int,
    channels: int,
    bits: int,
    signed: bool,
    bound: int,
    low: int,
    high: int,
    base: Ints | None = None,
    mask: Ints | None = None,
) -> Ints:
    """Section 10: the image (height, width, channels) of a payload; the base is of this shape."""
    if len(payload) < 8:
        raise TruncatedError("the residual ends before its lane")
    crc, length = struct.unpack_from("<II", payload)
    if 8 + length > len(payload):
        raise TruncatedError("the residual ends within its levels")
    listed, lane = payload[8 : 8 + length], payload[8 + length :]
    below = None if base is None else base.transpose(2, 0, 1)
    if listed:
        if channels != 1:
            raise FormatError("levels of a colour image")
        used = decode_plane(listed, 1, high - low + 1, 2, False)
        levels = [low + k for k in range(high - low + 1) if used[0, k]]
        if not levels:
            raise FormatError("a list of no levels")
        apart = 0
        while apart + 1 < len(levels) and all(
            b - a <= bound for a, b in zip(levels, levels[apart + 1 :], strict=False)
        ):
            apart += 1
        ranks = None
        if below is not None:
            found = [sum(level <= int(b) for level in levels) - 1 for b in below.ravel()]
            ranks = np.array([max(0, rank) for rank in found]).reshape(below.shape)
        args = height, width, channels, apart, 0, len(levels) - 1
        out = np.array(levels)[decode_residual(lane, *args, ranks, mask)]
        if below is not None and mask is not None:
            out = np.where(mask == 0, below, out)
    else:
        out = decode_residual(lane, height, width, channels, bound, low, high, below, mask)
    image = out.transpose(1, 2, 0)
    stored = image.astype(f"<{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    if zlib.crc32(stored.tobytes()) != crc:
        raise ChecksumError("the image has another crc")
    return image


def decode_residual(
    lane: bytes,
    height: int,
    width: int,
    planes: int,
    bound: int,
    low: int,
    high: int,
    base: NDArray[Any] | None = None,
    mask: NDArray[Any] | None = None,
) -> Ints:
    """The samples (planes, height, width) that a lane stands for.

    base    (planes, height, width), samples of low to high
    mask    (height, width), 0 where samples are those of the base
    """
    if len(lane) % 4:
        raise TruncatedError("the lane of a residual is not whole words")
    answers = FlatLane(list(struct.unpack(f"<{len(lane) // 4}I", lane)))
    known = ResidualKnown(planes, bound, low, high, base, mask)
    samples = np.zeros((planes, height, width), np.int64)
    for number in (1, 0, 2) if planes == 3 else (0,):
        samples[number] = ResidualPlane(known, number, samples, answers).decode()
    answers.close()
    return samples


@dataclass(frozen=True)
class ResidualKnown:
    """Section 1, but for the size."""

    planes: int
    bound: int
    low: int
    high: int
    base: NDArray[Any] | None
    mask: NDArray[Any] | None


class ResidualPlane:
    """A plane: sections 2 and 3, with the names of that page."""

    def __init__(self, known: ResidualKnown, number: int, samples: Ints, lane: FlatLane) -> None:
        self.known = known
        self.height, self.width = samples.shape[1:]
        # The planes that came before, and g of every pixel.
        self.before: list[list[list[int]]] = []
        if known.planes == 3 and number != GREEN:
            self.before = samples[[GREEN] if number == RED else [GREEN, RED]].tolist()
        self.g = self.before[0] if self.before else [[0] * self.width] * self.height
        self.b: list[list[int]] | None = None
        if known.base is not None:
            self.b = (known.base[number].astype(np.int64) - np.array(self.g)).tolist()
        # Values and errors with borders: column x and row y lie at [y + BORDER][x + BORDER].
        middle = 0 if self.before else (known.low + known.high + 1) >> 1
        above = [middle] * self.width if self.b is None else self.b[0]
        above = [above[0]] * BORDER + above + [above[-1]] * BORDER
        self.values = [list(above) for _ in range(BORDER)]
        error = 64 + known.high - known.low
        self.errors = [[error] * len(above) for _ in range(BORDER)]
        self.questions = Questions(lane)
        inputs = 12 + 6 * len(self.before) if self.before else 19
        if self.b is not None:
            inputs += 4 if self.before else 8
        self.fit = Fit(inputs, has_base=self.b is not None)

    def decode(self) -> Ints:
        """The samples of all pixels."""
        mask = self.known.mask
        for y in range(self.height):
            for rows in (self.values, self.errors):
                rows.append([rows[-1][BORDER]] * BORDER)
            for x in range(self.width):
                if self.b is not None and mask is not None and not mask[y, x]:
                    v, e = self.b[y][x], self.errors[-1][-1]
                else:
                    v, e = self.value(x, y)
                self.values[-1].append(v)
                self.errors[-1].append(e)
            for rows in (self.values, self.errors):
                rows[-1] += [rows[-1][-1]] * BORDER
        values: Ints = np.array(self.values, np.int64)[BORDER:, BORDER:-BORDER]
        return values + np.array(self.g, np.int64)

    def place(self, rows: list[list[int]], x: int, y: int, dx: int, dy: int) -> int:
        """The value or error at a place of the pixel in column x and row y."""
        return rows[y + dy + BORDER][x + dx + BORDER]

    def inside(self, rows: list[list[int]], x: int, y: int, dx: int, dy: int) -> int:
        """What a plane without borders has at a place, or at the nearest pixel inside."""
        return rows[clamp(y + dy, 0, self.height - 1)][clamp(x + dx, 0, self.width - 1)]

    def inputs(self, x: int, y: int, A: int) -> list[int]:
        """Section 3, lists 1 to 4."""
        u = [self.place(self.values, x, y, *at) - A for at in IN_PLANE]
        if self.before:
            u = u[:12]
        if self.b is not None:
            here = AROUND[:4] if self.before else AROUND
            u += [self.inside(self.b, x, y, *at) - A for at in here]
        for other in self.before:
            u += [self.inside(other, x, y, *at) - other[y][x] for at in AROUND[:6]]
        return u

    def value(self, x: int, y: int) -> tuple[int, int]:
        """The value and the error of the pixel in column x and row y."""
        bound, g = self.known.bound, self.g[y][x]
        lo, hi = self.known.low - g, self.known.high - g
        A = self.place(self.values, x, y, -1, 0) if self.b is None else self.b[y][x]
        u = self.inputs(x, y, A)
        m = clamp(64 * A + ((self.fit.weigh(u) + 512) >> 10), 64 * lo, 64 * hi)
        r, step = (m + 32) >> 6, 2 * bound + 1
        up, down = (hi - r + bound) // step, (r - lo + bound) // step
        size = sum(n * abs(self.place(self.errors, x, y, dx, dy)) for dx, dy, n in SCALE)
        S = ((size + 16) >> 5) + 5 + bound
        d = self.questions.distance(up, down, self.keys(x, y, m, S), Distribution(m, S, step))
        v = clamp(r + d * step, lo, hi)
        self.fit.learn(u, v - A, S)
        return v, 64 * v - m

    def keys(self, x: int, y: int, m: int, S: int) -> Keys:
        """Section 6: the keys of the contexts and mixers at a pixel."""
        low, high = self.known.low, self.known.high

        def error(dx: int, dy: int) -> int:
            return error_class(self.place(self.errors, x, y, dx, dy), S)

        W, N, NW, NE = (
            self.place(self.values, x, y, *at) for at in ((-1, 0), (0, -1), (-1, -1), (1, -1))
        )
        r, k = (m + 32) >> 6, S.bit_length()
        L = clamp(2 * k + (S >> (k - 2)) % 2 - 5, 0, 23)
        median = sorted((W, N, W + N - NW))[1]
        first: tuple[int, ...] = (r,)
        fourth: tuple[int, ...] = (r + self.g[y][x],)
        if not self.before:
            first = ((r - low) >> max(0, (high - low).bit_length() - 10),)
            activity = abs(W - NW) + abs(N - NW) + abs(N - NE)
            fourth = ((activity // (2 * self.known.bound + 1)).bit_length(), L)
        contexts = (
            first,
            (error(-1, 0), error(0, -1), (m - 64 * r + 32) >> 4, L // 4),
            (error_class(64 * median - m, S), error(1, -1), L),
            fourth,
            (error(-1, -1), error(-2, 0), error(0, -2)),
        )
        return Keys(contexts, ((L,), (error(-1, 0), L // 6)))


def clamp(a: int, least: int, most: int) -> int:
    """A number within limits."""
    return max(least, min(most, a))


def error_class(e: int, S: int) -> int:
    """Section 6: the class of an error, 0 to 4."""
    return (4 * e >= -5 * S) + (3 * e >= -S) + (3 * e > S) + (4 * e > 5 * S)


@dataclass(frozen=True)
class Keys:
    """What a pixel's questions choose their contexts and mixers by, besides their number."""

    contexts: tuple[tuple[int, ...], ...]
    mixers: tuple[tuple[int, ...], ...]


class Fit:
    """Section 7, and the weights of section 3."""

    def __init__(self, inputs: int, *, has_base: bool) -> None:
        self.w = np.zeros(inputs, np.int64)
        if not has_base:
            self.w[1:4] = 32768, -32768, 16384
        self.Q = np.zeros((inputs, inputs), np.int64)
        self.B = np.zeros(inputs, np.int64)
        self.turn = 0

    def weigh(self, u: list[int]) -> int:
        """The sum of all w u."""
        return int(self.w @ np.array(u, np.int64))

    def learn(self, u: list[int], t: int, S: int) -> None:
        """Take in a value, which differs from the anchor by `t`."""
        h = max(abs(each) for each in (t, *u))
        k = min(9 - S.bit_length(), 9 - h.bit_length())
        scaled = np.array([*u, t], np.int64)
        scaled = scaled << k if k >= 0 else scaled >> -k
        self.Q += np.outer(scaled[:-1], scaled[:-1]) - (self.Q >> 11)
        self.B += scaled[:-1] * scaled[-1] - (self.B >> 11)
        for i in range(self.turn, len(u), 4):
            w = int(self.w[i])
            rest = 65536 * int(self.B[i]) - int(self.Q[i] @ self.w) - 1024 * w
            a = int(self.Q[i, i]) + 1024
            k = a.bit_length() - 8
            w += ((rest >> k) * (65536 // (a >> k))) >> 16
            self.w[i] = clamp(w, -524288, 524288)
        self.turn = (self.turn + 1) % 4


def rounded(a: float) -> int:
    """The nearest integer, halves up."""
    return math.floor(a + 0.5)


# Section 8: the tables.
SIXTEENTHS = [(i - 192) / 16 for i in range(385)]
LOGISTIC = [min(65535, rounded(65536 / (1 + math.exp(-z)))) for z in SIXTEENTHS]
SOFTPLUS = [rounded(256 * math.log1p(math.exp(z))) for z in SIXTEENTHS]
LOGEXPM1_SMALL = [rounded(256 * math.log(math.expm1(max(1, i) / 256))) for i in range(256)]
LOGEXPM1 = [rounded(256 * math.log(math.expm1((i + 16) / 16))) for i in range(177)]


def line(X: list[int], a: int) -> int:
    """Between two entries of a table."""
    i, f = divmod(a, 16)
    return (X[i] * (16 - f) + X[i + 1] * f) >> 4


def logistic(a: int) -> int:
    """The probability, in 2^16, of a logit."""
    return line(LOGISTIC, clamp(a, -3071, 3071) + 3072)


def softplus(a: int) -> int:
    """The logarithm of 1 + e^a."""
    if abs(a) > 3071:
        return max(a, 0)
    return line(SOFTPLUS, a + 3072)


def logexpm1(a: int) -> int:
    """The logarithm of e^a - 1."""
    if a > 3071:
        return a
    return LOGEXPM1_SMALL[a] if a < 256 else line(LOGEXPM1, a - 256)


def logits() -> list[int]:
    """The logits of probabilities in 2^12."""
    probabilities = [logistic(a) for a in range(-2047, 2048)]
    return [max(bisect_right(probabilities, 16 * i + 8) - 1, 0) - 2047 for i in range(4096)]


LOGIT = logits()


@dataclass(frozen=True)
class Distribution:
    """Section 5: estimates of logits. A size's `sign` is 1 or -1."""

    m: int
    S: int
    step: int

    def edge(self, sign: int, n: int) -> int:
        """Where size n begins."""
        D = 2**28 // (5 * self.S // 8 + (8 * self.step if self.step > 1 else 0) + 1)
        q = 64 * ((self.m + 32) >> 6) + sign * (2 * n - 1) * 32 * self.step
        return sign * clamp(((q - self.m) * D) >> 20, -4000, 4000)

    def other(self) -> int:
        """Whether d is other than 0."""
        probability = logistic(-self.edge(1, 1)) + logistic(-self.edge(-1, 1))
        return LOGIT[clamp(probability >> 4, 0, 4095)]

    def positive(self) -> int:
        """Whether d is positive."""
        return softplus(self.edge(-1, 1)) - softplus(self.edge(1, 1))

    def at_least(self, sign: int, n: int, top: int) -> int:
        """Whether the size is `top` or more, if it is n or more."""
        a, c = self.edge(sign, n), self.edge(sign, top)
        return softplus(-a) - logexpm1(c - a)

    def half(self, sign: int, n: int, M: int, T: int) -> int:
        """Whether the size is M or more, of n to T - 1."""
        a, b, c = (self.edge(sign, size) for size in (n, M, T))
        return b - a + logexpm1(c - b) - logexpm1(b - a) + softplus(a) - softplus(c)


class Questions:
    """Sections 4 and 6: the questions of a plane, and what is learned from their answers."""

    def __init__(self, lane: FlatLane) -> None:
        self.lane = lane
        # P and n by set, number of the question and key; weights by mixer, number and key.
        self.contexts: dict[tuple[int, ...], tuple[int, int]] = {}
        self.mixers: dict[tuple[int, ...], list[int]] = {}

    def distance(self, up: int, down: int, keys: Keys, estimates: Distribution) -> int:
        """Section 4: d."""
        if up == 0 == down or not self.ask(keys, 0, estimates.other()):
            return 0
        is_positive = up > 0
        if up > 0 and down > 0:
            is_positive = self.ask(keys, 1, estimates.positive()) == 1
        sign, most, first = (1, up, 2) if is_positive else (-1, down, 16)

        n, G, i = 1, 1, 0
        while 192 * estimates.step < estimates.S // G:
            G *= 2
        T = most + 1
        while n + G <= most:
            if not self.ask(keys, first + min(i, 13), estimates.at_least(sign, n, n + G)):
                T = n + G
                break
            n += G
            if i >= 3 and i % 2 == 1:
                G *= 2
            i += 1

        number = 30
        while T - n > 1:
            M = (n + T) // 2
            estimate = estimates.half(sign, n, M, T)
            if self.ask(keys, number, estimate) if number < 32 else self.ask_plain(estimate):
                n = M
            else:
                T = M
            number += 1
        return sign * n

    def ask_plain(self, estimate: int) -> int:
        """One answer that nothing is learned from."""
        return self.lane.take(logistic(clamp(estimate, -1200, 1200)))

    def ask(self, keys: Keys, number: int, estimate: int) -> int:
        """One answer to the question with this number."""
        contexts = [(i, number, *key) for i, key in enumerate(keys.contexts)]
        mixers = [
            self.mixers.setdefault((i, number, *key), [40000, *[5600] * 5, 0])
            for i, key in enumerate(keys.mixers)
        ]
        new = 64 * logistic(clamp(estimate, -1800, 1800)), 0
        learned = [self.contexts.get(context, new) for context in contexts]
        x = [clamp(estimate, -2047, 2047), *(LOGIT[P >> 10] for P, _ in learned), 96]
        outputs = [
            clamp(sum(a * logit for a, logit in zip(weights, x, strict=True)) >> 16, -2815, 2815)
            for weights in mixers
        ]
        R = self.lane.take(clamp(logistic(sum(outputs) >> 1), 1, 65535))

        for weights, y in zip(mixers, outputs, strict=True):
            c = 4 * (65536 * R - logistic(y))
            for i, logit in enumerate(x):
                a = weights[i] + ((logit * c + 65536) >> 17)
                weights[i] = clamp(a, -(2**22), 2**22)
        for context, (P, n) in zip(contexts, learned, strict=True):
            P += (((2**22 - 1) * R - P) * (131072 // (2 * n + 3))) >> 16
            self.contexts[context] = P, min(250, n + 1)
        return R


# --- Tiles: model.md, section 3 -------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """Where a tile lies in the image, and whether there are others beside it."""

    top: int
    left: int
    size: Size
    beside: Sides

    def of(self, samples: NDArray[Any]) -> NDArray[Any]:
        """The tile's pixels of an array whose last two axes are rows and columns of the image."""
        return samples[..., self.top :, self.left :][..., : self.size[0], : self.size[1]]


def tiles_of(size: Size, side: int) -> list[list[Tile]]:
    """Rows of tiles of this side; if it is 0, the whole image is one tile."""
    (height, width), step = size, side or max(size)
    return [
        [
            Tile(
                top,
                left,
                (min(step, height - top), min(step, width - left)),
                (top > 0, left > 0, top + step < height, left + step < width),
            )
            for left in range(0, width, step)
        ]
        for top in range(0, height, step)
    ]


@dataclass(frozen=True)
class DecodedTile:
    """What the payloads of a tile say."""

    passes: list[NDArray[np.int16]]  # the symbols of the 17 passes, each flat, in decoding order
    latent: Latent
    alpha: Ints | None  # (height, width)
    flat: FlatAreas | None
    outliers: FlatAreas | None

    def paint(self, s: Ints) -> None:
        """Paint what is laid over the samples `s` (1 or 3, height, width) of the tile."""
        if self.flat is not None:
            s[...] = self.flat.blend(s)
            self.flat.paint(s)
        if self.alpha is not None:
            s[:, self.alpha == 0] = 0
        if self.outliers is not None:
            self.outliers.paint(s)


def decode_tile(head: Head, model: Model, tile: Tile, coded: CodedTile) -> DecodedTile:
    """A tile is coded as an image of its size would be, but for sites that border on others."""
    alpha = flat = outliers = None
    covered = np.zeros(tile.size, np.bool_)
    if coded.alpha is not None:
        alpha = decode_alpha(head, tile.size, coded.alpha)
        covered |= alpha == 0
    if coded.flat is not None:
        flat = decode_flat(head, tile.size, coded.flat)
        covered |= flat.covered
    if coded.outliers is not None:
        outliers = decode_outliers(head, tile.size, coded.outliers)
        covered |= outliers.covered
    payload = Payload(coded.payload, model.tables)
    hidden = hidden_sites(covered, tile.beside)
    latent = decode_latent(
        model.arrays, model.shape, head.rate_index, tile.size, payload.take, hidden
    )
    payload.close()
    return DecodedTile(payload.passes, latent, alpha, flat, outliers)


def put_together(rows: list[list[DecodedTile]]) -> tuple[NDArray[np.int16], Ints]:
    """y3 (C, 2h, 2w) and modes (2h, 2w) of the whole image."""
    y3 = np.concatenate([np.concatenate([one.latent.y3 for one in row], 2) for row in rows], 1)
    return y3, np.block([[one.latent.modes for one in row] for row in rows])


def reconstruct(
    head: Head, model: Model, tiles: list[list[Tile]], decoded: list[list[DecodedTile]]
) -> tuple[Ints, NDArray[Any]]:
    """The planes O of model.md, section 9, and the samples as in `to_array`, painted."""
    y3, modes = put_together(decoded)
    planes = synthesise(model.arrays, model.shape, head.rate_index, y3, modes)
    s = to_samples(head, to_range(planes, (head.height, head.width)))
    alpha = np.zeros(s.shape[1:], np.int64) if head.alpha else None
    pairs = [pair for each in zip(tiles, decoded, strict=True) for pair in zip(*each, strict=True)]
    for tile, one in pairs:
        one.paint(tile.of(s))
        if alpha is not None:
            tile.of(alpha)[...] = one.alpha
    return planes, to_array(head, s, alpha)


# --- All of it ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """An image and what lay between its bytes and its samples."""

    samples: NDArray[Any]  # as in `to_array`, and painted; with a palette indices (height, width)
    tiles: list[list[DecodedTile]]  # row by row; none of an indexed image
    planes: Ints | None  # O of model.md, section 9; None of an indexed image


@dataclass(frozen=True)
class Decoded:
    """A file, decoded."""

    head: Head
    metadata: dict[str, bytes]
    colours: NDArray[Any] | None  # of an image with a palette, uint8 (K, channels)
    frames: list[Frame]

    @property
    def samples(self) -> NDArray[Any]:
        """Of all frames: (frames, height, width, ...); of a file of one without the first axis."""
        samples = [frame.samples for frame in self.frames]
        return samples[0] if len(samples) == 1 else np.stack(samples)

    @property
    def passes(self) -> list[NDArray[np.int16]]:
        """The symbols of all tiles, 17 passes each, in decoding order."""
        rows = [row for frame in self.frames for row in frame.tiles]
        return [symbols for row in rows for one in row for symbols in one.passes]

    @property
    def only(self) -> DecodedTile:
        """The tile of a file that has one."""
        ((frame,),) = [self.frames]
        ((one,),) = frame.tiles
        return one


def decode(data: bytes, models: dict[bytes, Model]) -> Decoded:
    """Decode the bytes of an `.mvm` file. Raises a kind of `MvmError`."""
    file = read_file(data)
    head, size = file.head, (file.head.height, file.head.width)
    h, w = cells(size)
    if head.frames * 32 * h * 32 * w > LARGEST:
        raise FormatError(
            f"{head.frames} x {head.width} x {head.height} pixels are too many for this decoder"
        )
    places = tiles_of(size, head.tile)
    frames = []
    for first in range(0, len(file.tiles), head.in_a_frame):
        coded = iter(file.tiles[first : first + head.in_a_frame])
        rows = [[next(coded) for _ in row] for row in places]
        frames.append(
            decode_indexed(file, places, rows)
            if head.indexed
            else decode_frame(head, model_of(head, models), places, rows)
        )
    colours = None
    if head.palette:
        assert file.palette is not None
        colours = decode_palette(head, file.palette).astype(np.uint8)
    return Decoded(head, file.metadata, colours, frames)


def model_of(head: Head, models: dict[bytes, Model]) -> Model:
    """The model that the file asks for."""
    if head.fingerprint not in models:
        raise ModelError(f"the file needs the model with fingerprint {head.fingerprint.hex()}")
    model = models[head.fingerprint]
    if (head.photometric == RGB) != (model.shape["chroma"] > 0):
        raise FormatError("the model is not for such images")
    return model


def decode_frame(
    head: Head, model: Model, places: list[list[Tile]], coded: list[list[CodedTile]]
) -> Frame:
    """A frame that a model codes."""
    tiles = [
        [decode_tile(head, model, *pair) for pair in zip(*row, strict=True)]
        for row in zip(places, coded, strict=True)
    ]
    planes, samples = reconstruct(head, model, places, tiles)
    return Frame(samples, tiles, planes)


def decode_indexed(file: File, places: list[list[Tile]], coded: list[list[CodedTile]]) -> Frame:
    """A frame of an indexed image."""
    head = file.head
    assert file.palette is not None
    colours = decode_palette(head, file.palette)
    indices = np.zeros((head.height, head.width), np.int64)
    for row in zip(places, coded, strict=True):
        for tile, one in zip(*row, strict=True):
            part = decode_plane(one.payload, *tile.size, len(colours), False)
            tile.of(indices)[...] = part
    if head.palette:
        return Frame(indices.astype(np.uint8), [], None)
    s = np.moveaxis(colours[indices], 2, 0)
    alpha = s[-1] if head.alpha else None
    return Frame(to_array(head, s[: head.coded_channels], alpha), [], None)


def load_models(paths: list[Path]) -> dict[bytes, Model]:
    """The models of weights files, by fingerprint."""
    models = [load_model(path) for path in paths]
    return {model.fingerprint: model for model in models}


def installed_models() -> list[Path]:
    """The weights files of the repository that this file lies in."""
    folder = Path(__file__).resolve().parents[2] / "mvmic_codec" / "model" / "weights"
    found = [
        path
        for path in sorted(folder.glob("*.safetensors"))
        if not path.name.endswith(".encoder.safetensors")
    ]
    if not found:
        raise ModelError(f"{folder} holds no models; say which one with --model")
    return found


def main() -> int:
    """Decode one file to a `.npy` file of samples, or of indices into a palette."""
    parser = argparse.ArgumentParser(description="Reference decoder of .mvm files.")
    parser.add_argument("file", type=Path, help="an .mvm file")
    parser.add_argument("--model", type=Path, help="weights file (default: all of the repository)")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".npy file to write")
    options = parser.parse_args()
    try:
        models = load_models([options.model] if options.model else installed_models())
        decoded = decode(options.file.read_bytes(), models)
    except MvmError as error:
        print(f"{options.file}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    np.save(options.output, decoded.samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
