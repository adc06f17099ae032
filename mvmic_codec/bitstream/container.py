"""The `.mvm` container: magic, HEAD, PLTE, SEEK, metadata, and the chunks of each tile.

formats/mvm-3.md is the specification; versions 2 and 3 are read. This module knows bytes and
nothing else: no samples, no latents, no torch, no numpy.
"""

from __future__ import annotations

import io
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from threading import Lock
from typing import IO

from mvmic_codec.bitstream import chunks, header
from mvmic_codec.bitstream.header import OLDER_VERSION, Header
from mvmic_codec.errors import FormatError, InputError, TruncatedError

# A byte with its high bit set, the name, CR LF, ^Z, LF. A transfer that treats the file as text
# damages these bytes, so a reader can tell the user what happened.
MAGIC = b"\x89MVM\r\n\x1a\n"

HEAD = b"HEAD"
COLOURS = b"PLTE"
SEEK = b"SEEK"
EXIF = b"exIF"
ICC = b"icCP"
XMP = b"xmPP"
DPI = b"dpIX"
TEXT = b"teXT"
ANIMATION = b"anIM"
METADATA = (EXIF, ICC, XMP, DPI, TEXT, ANIMATION)
ALPHA = b"ALPH"
FLAT = b"FLAT"
OUTLIERS = b"OUTL"
DATA = b"DATA"
INDICES = b"INDX"
# The chunks of a tile in their order, the last of which ends it.
TILE = (ALPHA, FLAT, OUTLIERS, DATA, INDICES)
TILE_OF_ALPHA = (ALPHA, FLAT, OUTLIERS, DATA)
TILE_OF_OPAQUE = (FLAT, OUTLIERS, DATA)
TILE_OF_INDEXED = (INDICES,)
TILE_OF_OLDER = (DATA,)
LAST = (DATA, INDICES)

# A later version may lengthen HEAD up to here: a reader of today can still say which version it is.
_LONGEST_HEAD = 255
# Bytes of a length in SEEK.
_LENGTH = 4

Source = bytes | bytearray | memoryview | IO[bytes]


@dataclass(frozen=True)
class Tile:
    """The payloads of the chunks of a tile, or of a whole image.

    payload  of DATA, or of INDX for an indexed image
    alpha, flat, outliers  of ALPH, FLAT and OUTL, or None where there is no such chunk
    """

    payload: bytes
    alpha: bytes | None = None
    flat: bytes | None = None
    outliers: bytes | None = None


def write(
    head: Header,
    tiles: Sequence[Tile],
    metadata: Mapping[bytes, bytes],
    colours: bytes | None = None,
) -> bytes:
    """The bytes of a file. Raises InputError for anything that `Reader` would refuse.

    tiles    of the first frame row by row, then those of the next
    colours  payload of PLTE, for an indexed image
    """
    unknown = [kind for kind in metadata if kind not in METADATA]
    if unknown:
        raise InputError(f"chunk type {unknown[0]!r} is not one of the metadata chunks")
    if len(tiles) != head.count:
        raise InputError(f"{len(tiles)} tiles were given, the header has {head.count}")
    if (colours is not None) != head.indexed:
        raise InputError("an indexed image has a list of colours, and no other has one")
    bodies = [_tile(head, tile) for tile in tiles]
    parts = [MAGIC, chunks.pack(HEAD, header.pack(head))]
    if colours is not None:
        parts.append(chunks.pack(COLOURS, colours))
    if head.count > 1:
        lengths = array("I", map(len, bodies))
        parts.append(chunks.pack(SEEK, _little_endian(lengths).tobytes()))
    parts += [chunks.pack(kind, metadata[kind]) for kind in METADATA if kind in metadata]
    return b"".join(parts + bodies)


class Reader:
    """A file that is being read: header and metadata at once, tiles when they are asked for.

    header    the fields of HEAD
    metadata  payloads of the metadata chunks, by chunk type
    colours   payload of PLTE, or None if the image is not indexed

    Reads from the current position of a file object, and takes memory as bytes arrive. Tiles may be
    asked for by several threads.

    Raises FormatError or one of its kinds: TruncatedError, ChecksumError, VersionError.
    """

    def __init__(self, data: Source) -> None:
        self._file = _stream(data)
        self._lock = Lock()
        self.header = _read_head(self._file)
        self.metadata: dict[bytes, bytes] = {}
        self.colours: bytes | None = None
        # Ends of tiles, counted from the beginning of the first, if there are several.
        self._ends: array[int] | None = None
        # Version 2 has flat areas among the metadata.
        self._flat: bytes | None = None
        # The chunk that the first tile begins with. Its start has been read.
        self._next = self._read_start()
        self._only: Tile | None = None
        if self.header.count > 1 and not _seekable(self._file):
            self._file = io.BytesIO(_read_all(self._file))
        # Where the first tile begins.
        self._first = self._file.tell() - chunks.START_BYTES if _seekable(self._file) else 0

    def tile(self, frame: int = 0, row: int = 0, column: int = 0) -> Tile:
        """The tile in this place, with its checksums checked.

        With the last tile, the end of the file is checked, too. Errors as `Reader`.
        """
        header = self.header
        with self._lock:
            if self._ends is not None:
                return self._tile_of((frame * header.rows + row) * header.columns + column)
            if self._only is None:
                # Somebody else may have read from it since.
                if _seekable(self._file):
                    self._file.seek(self._first + chunks.START_BYTES)
                only = self._read_tile(self._next)
                self._check_end()
                self._only = only
            return self._only

    @property
    def length(self) -> int:
        """Bytes of the chunks of all tiles, as SEEK has it; there is more than one tile."""
        assert self._ends is not None
        return self._ends[-1]

    def sizes(self) -> dict[bytes, int]:
        """Bytes of the payloads of all tiles, by type of chunk. No checksum is checked.

        Errors as `Reader`.
        """
        found: dict[bytes, int] = {}
        if self._flat is not None:
            found[FLAT] = len(self._flat)
        with self._lock:
            self._file.seek(self._first + chunks.START_BYTES)
            kind, size = self._next
            left = self.header.count
            while True:
                found[kind] = found.get(kind, 0) + size
                self._file.seek(size + chunks.OVERHEAD - chunks.START_BYTES, io.SEEK_CUR)
                left -= kind in LAST
                if not left:
                    return found
                kind, size = chunks.read_start(self._file)

    def check(self) -> None:
        """Check every checksum and every length, and that the file ends with its last tile."""
        if self._ends is None:
            self.tile()
            return
        with self._lock:
            for number in range(self.header.count):
                self._tile_of(number)

    def _read_start(self) -> tuple[bytes, int]:
        """Read up to the start of the first tile's first chunk, and return that start."""
        expected = []
        if self.header.indexed:
            expected.append(COLOURS)
        if self.header.count > 1:
            expected.append(SEEK)
        while True:
            kind, length = chunks.read_start(self._file)
            if expected and kind != expected[0]:
                raise FormatError(
                    f"the file has {chunks.named(kind)} where its "
                    f"{chunks.name(expected[0])} chunk should be; it is damaged"
                )
            if expected:
                self._read_list(expected.pop(0), length)
                continue
            if kind in TILE and not (kind == FLAT and self.header.version == OLDER_VERSION):
                return kind, length
            if kind in (HEAD, COLOURS, SEEK) or kind in self.metadata:
                raise FormatError(f"the file has {chunks.named(kind)} too many; it is damaged")
            if kind == FLAT:
                if self._flat is not None:
                    raise FormatError("the file has a FLAT chunk too many; it is damaged")
                self._flat = chunks.read_payload(self._file, kind, length)
            else:
                _refuse_critical(kind)
                payload = chunks.read_payload(self._file, kind, length)
                if kind in METADATA:
                    self.metadata[kind] = payload

    def _read_list(self, kind: bytes, length: int) -> None:
        """Read PLTE or SEEK."""
        count = self.header.count
        if kind == SEEK and length != _LENGTH * count:
            raise FormatError(
                f"the file has lengths of {length / _LENGTH:g} tiles, its header has {count} tiles"
            )
        payload = chunks.read_payload(self._file, kind, length)
        if kind == COLOURS:
            self.colours = payload
            return
        lengths = array("I", payload)
        if sys.byteorder == "big":
            lengths.byteswap()
        self._ends = array("Q", accumulate(lengths))

    def _tile_of(self, number: int) -> Tile:
        """A tile of several by its number. The lock is held."""
        assert self._ends is not None
        start = self._ends[number - 1] if number else 0
        length = self._ends[number] - start
        if number == 0:
            self._file.seek(self._first + chunks.START_BYTES)
            return self._read_tile(self._next, length)
        self._file.seek(self._first + start)
        tile = self._read_tile(chunks.read_start(self._file), length)
        if number == self.header.count - 1:
            self._check_end()
        return tile

    def _read_tile(self, start: tuple[bytes, int], length: int | None = None) -> Tile:
        """The tile whose first chunk starts so. It takes so many bytes, if that is known."""
        header, found = self.header, dict[bytes, bytes]()
        if self._flat is not None:
            found[FLAT] = self._flat
        allowed = (
            TILE_OF_INDEXED if header.indexed else TILE_OF_ALPHA if header.alpha else TILE_OF_OPAQUE
        )
        if header.version == OLDER_VERSION:
            allowed = TILE_OF_OLDER
        rank = 0
        while True:
            kind, size = start
            if length is not None:
                length -= size + chunks.OVERHEAD
                if length < 0:
                    raise FormatError(
                        f"{chunks.named(kind)} is longer than its tile; the file is damaged"
                    )
            misplaced = kind in (HEAD, COLOURS, SEEK, *METADATA)
            if misplaced or kind in found or kind in TILE and kind not in allowed[rank:]:
                raise FormatError(
                    f"the file has {chunks.named(kind)} where none can be; it is damaged"
                )
            if kind not in TILE:
                _refuse_critical(kind)
            payload = chunks.read_payload(self._file, kind, size)
            if kind in TILE:
                rank = allowed.index(kind)
                found[kind] = payload
            if kind in LAST:
                break
            start = chunks.read_start(self._file)
        if length:
            raise FormatError("a tile is shorter than the file says; it is damaged")
        if header.alpha and not header.indexed and ALPHA not in found:
            raise FormatError("the file has transparency, but a tile has no ALPH chunk")
        return Tile(payload, found.get(ALPHA), found.get(FLAT), found.get(OUTLIERS))

    def _check_end(self) -> None:
        """Raise FormatError if anything follows the last tile but one byte of 0.

        DICOM adds such a byte where a length must be even. Version 2 did not allow it.
        """
        rest = self._file.read(1)
        if rest == b"\0" and self.header.version > OLDER_VERSION:
            rest = self._file.read(1)
        if rest:
            raise FormatError("there are bytes after the image data; the file was altered")


def read_header(data: Source) -> Header:
    """The header alone. Reads the magic and HEAD, and not a byte after them. Errors as `Reader`."""
    return _read_head(_stream(data))


def _tile(head: Header, tile: Tile) -> bytes:
    """The bytes of a tile. Raises InputError for chunks that such an image does not have."""
    if head.indexed and (tile.alpha, tile.flat, tile.outliers) != (None, None, None):
        raise InputError("a tile of an indexed image has indices alone")
    if not head.indexed and head.alpha != (tile.alpha is not None):
        raise InputError("tiles have transparency if the header has it, and else none")
    parts = ((ALPHA, tile.alpha), (FLAT, tile.flat), (OUTLIERS, tile.outliers))
    packed = [chunks.pack(kind, payload) for kind, payload in parts if payload is not None]
    return b"".join((*packed, chunks.pack(INDICES if head.indexed else DATA, tile.payload)))


def _stream(data: Source) -> IO[bytes]:
    return io.BytesIO(data) if isinstance(data, (bytes, bytearray, memoryview)) else data


def _read_head(file: IO[bytes]) -> Header:
    start = file.read(len(MAGIC))
    if not start:
        raise TruncatedError("the file is empty")
    if not MAGIC.startswith(start[: len(MAGIC)]):
        if start.startswith(MAGIC[:4]):
            raise FormatError("the file was damaged by a transfer in text mode; get it in binary")
        raise FormatError("this is not an mvm file")
    if len(start) < len(MAGIC):
        # A short read is not yet the end: raw files and sockets may give less than was asked for.
        rest = chunks.read_exactly(file, len(MAGIC) - len(start), "first 8 bytes")
        if start + rest != MAGIC:
            raise FormatError("this is not an mvm file")
    kind, length = chunks.read_start(file)
    if kind != HEAD or length > _LONGEST_HEAD:
        raise FormatError("the file does not begin with a header chunk; it is damaged")
    return header.parse(chunks.read_payload(file, HEAD, length))


def _seekable(file: IO[bytes]) -> bool:
    """Whether a file object can go back. Some have nothing but read."""
    return hasattr(file, "seekable") and file.seekable()


def _read_all(file: IO[bytes]) -> bytes:
    """The rest of a file that cannot seek."""
    return b"".join(iter(partial(file.read, 1 << 20), b""))


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _refuse_critical(kind: bytes) -> None:
    """Raise FormatError for a type that an image cannot be understood without."""
    if kind[:1].isupper():
        raise FormatError(
            f"the file needs a reader that knows {chunks.name(kind)} chunks; update mvmic_codec"
        )
