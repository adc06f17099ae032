"""Write files that a decoder must refuse, and the error that each must give.

    python formats/errors/make.py

They are made of files in formats/golden, one fault each; errors.json names the error of mvm-3.md.
Those of `files` are of version 2, those of `files_of_version_3` of version 3.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOUND = (HERE.parent / "golden" / "gray.mvm").read_bytes()
COLOUR_SOUND = (HERE.parent / "golden" / "colour.mvm").read_bytes()
FLAT_SOUND = (HERE.parent / "golden" / "flat-areas.mvm").read_bytes()
BLENDS_SOUND = (HERE.parent / "golden" / "flat-blends.mvm").read_bytes()
# A plane of 90x70 pixels of two symbols, all of them 0.
NO_OUTLIERS = bytes.fromhex("58313118c3f50200")
# Of version 3.
PLAIN, TILES, TILES_ALPHA, SERIES, ALPHA, ALPHA_GRAY, OUTLIERS, BITS, PALETTE, MASKS = (
    (HERE.parent / "golden" / f"{name}.mvm").read_bytes()
    for name in (
        "plain-gray",
        "tiles",
        "tiles-alpha",
        "series",
        "alpha",
        "alpha-gray",
        "outliers",
        "bits",
        "palette",
        "bits-series-of-tiles",
    )
)


def head_end(sound: bytes) -> int:
    """Where HEAD ends and the next chunk begins."""
    end: int = 8 + 12 + struct.unpack_from("<I", sound, 8)[0]
    return end


BEFORE_DATA, DATA = SOUND[: head_end(SOUND)], SOUND[head_end(SOUND) :]
HEAD = BEFORE_DATA[8:]
# Of the models that coded them: the fingerprint in HEAD's payload, which begins at 16.
GRAY_MODEL, COLOUR_MODEL = (sound[16:][4:12] for sound in (SOUND, COLOUR_SOUND))
# The last gray one of generation 1.
EARLIER_MODEL = bytes.fromhex("f692a3b1bad346a6")
# Width and height in HEAD: 90 and 70, less one, a byte each. All pixels lie between 0 and 255.
SIDES = 12
END = 14


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk with a checksum that is right."""
    crc = zlib.crc32(kind + payload)
    return struct.pack("<I", len(payload)) + kind + payload + struct.pack("<I", crc)


def with_head(payload: bytes, sound: bytes = SOUND) -> bytes:
    """The file with another payload of HEAD."""
    return sound[:8] + chunk(b"HEAD", payload) + sound[head_end(sound) :]


def head(at: int, value: bytes, sound: bytes = SOUND) -> bytes:
    """The file with other bytes at an offset of HEAD's payload."""
    payload = bytearray(sound[16 : head_end(sound) - 4])
    payload[at : at + len(value)] = value
    return with_head(bytes(payload), sound)


def sides(value: bytes) -> bytes:
    """The file with these bytes for width and height in HEAD."""
    return with_head(SOUND[16 : 16 + SIDES] + value)


def ranged(lo: int, hi: int) -> bytes:
    """The file with lo and hi in HEAD."""
    payload = bytearray(SOUND[16 : 16 + END])
    payload[2] |= 8
    return with_head(bytes(payload) + struct.pack("<ii", lo, hi))


def version_1() -> bytes:
    """What mvmic_codec before 0.12 wrote of such an image."""
    fields = struct.pack("<8BIIHii", 1, 27, 0, 1, 8, 0, 0, 0, 90, 70, 1, 0, 255)
    return with_head(fields + b"mvmic-1g" + GRAY_MODEL)


def data(at: int, value: bytes) -> bytes:
    """The file with other bytes at an offset of DATA's payload."""
    payload = bytearray(DATA[8:-4])
    payload[at : at + len(value)] = value
    return BEFORE_DATA + chunk(b"DATA", bytes(payload))


def flat(payload: bytes, between: bytes = b"", sound: bytes = FLAT_SOUND) -> bytes:
    """A file with flat areas, with another payload for them."""
    start = sound[: head_end(sound)]
    return start + chunk(b"FLAT", payload) + between + sound[flat_end(sound) :]


def flat_end(sound: bytes) -> int:
    """Where FLAT ends in a file that has it right after HEAD."""
    start = head_end(sound)
    assert sound[start + 4 : start + 8] == b"FLAT"
    end: int = start + 12 + struct.unpack_from("<I", sound, start)[0]
    return end


def flat_payload(sound: bytes) -> bytes:
    """What FLAT holds there."""
    return sound[head_end(sound) + 8 : flat_end(sound) - 4]


def blends(payload: bytes) -> bytes:
    """The file with flat areas of form 2, with another payload for them."""
    return flat(payload, sound=BLENDS_SOUND)


def flipped(at: int) -> bytes:
    """The file with one bit turned."""
    damaged = bytearray(SOUND)
    damaged[at] ^= 1
    return bytes(damaged)


def files() -> dict[str, tuple[str, bytes]]:
    """Name -> (error, bytes)."""
    payload = DATA[8:-4]
    two_lanes = b"\x02" + struct.pack("<I", 1 << 30) + payload[1:]
    text = chunk(b"teXT", b"key\0value")
    areas = flat_payload(FLAT_SOUND)
    # One byte for the count, one for each colour, four for the checksum.
    lane_at = 1 + areas[0] + 4
    blended = flat_payload(BLENDS_SOUND)
    words_at = 1 + (blended[0] & 0x7F) + 4
    (words,) = struct.unpack_from("<I", blended, words_at)

    def with_words(count: int) -> bytes:
        return blended[:words_at] + struct.pack("<I", count) + blended[words_at + 4 :]

    return {
        "empty": ("TruncatedError", b""),
        "within-magic": ("TruncatedError", SOUND[:5]),
        "not-mvm": ("FormatError", b"\x89PNG" + SOUND[4:]),
        "text-mode": ("FormatError", SOUND.replace(b"\r\n", b"\n", 1)),
        "within-head": ("TruncatedError", SOUND[:24]),
        "after-head": ("TruncatedError", BEFORE_DATA),
        "within-data": ("TruncatedError", SOUND[:-30]),
        "last-byte-missing": ("TruncatedError", SOUND[:-1]),
        "head-bit": ("ChecksumError", flipped(24)),
        "data-bit": ("ChecksumError", flipped(100)),
        "length-of-data": ("TruncatedError", BEFORE_DATA + b"\xff\xff\xff\xff" + DATA[4:]),
        "newer-version": ("VersionError", head(0, b"\x04")),
        "version-1": ("VersionError", version_1()),
        "rate-64": ("FormatError", head(1, b"\x40")),
        "colour-of-16-bits": ("FormatError", head(2, b"\xf2")),
        "colour-signed": ("FormatError", head(2, b"\x76")),
        "generation-0": ("FormatError", head(3, b"\0")),
        "outliers-of-version-2": (
            "FormatError",
            BEFORE_DATA + chunk(b"OUTL", b"\0\0" + NO_OUTLIERS) + DATA,
        ),
        "alpha-of-version-2": ("FormatError", BEFORE_DATA + chunk(b"ALPH", b"\0\1") + DATA),
        "huge": ("FormatError", sides(b"\xfe\xff\xff\xff\x07" * 2)),
        "width-2-31": ("FormatError", sides(b"\xff\xff\xff\xff\x07\x45")),
        "width-without-end": ("FormatError", sides(b"\xd9\x80\x80\x80\x80\x01\x45")),
        "width-not-shortest": ("FormatError", sides(b"\xd9\0\x45")),
        "height-not-shortest": ("FormatError", sides(b"\x59\xc5\x80\0")),
        "no-height": ("FormatError", sides(b"\x59")),
        "no-range": ("FormatError", head(2, b"\x78")),
        "after-the-fields": ("FormatError", with_head(SOUND[16 : 16 + END] + b"\0")),
        "range-upside-down": ("FormatError", ranged(9, 8)),
        "range-beyond": ("FormatError", ranged(0, 256)),
        "range-of-all": ("FormatError", ranged(0, 255)),
        "unknown-model": ("ModelError", head(4, b"\1\2\3\4\5\6\7\x08")),
        "earlier-generation": ("ModelError", head(3, b"\1" + EARLIER_MODEL)),
        "gray-of-a-model-for-colour": ("FormatError", head(4, COLOUR_MODEL)),
        "colour-of-a-model-for-gray": ("FormatError", head(4, GRAY_MODEL, COLOUR_SOUND)),
        "head-twice": ("FormatError", BEFORE_DATA + HEAD + DATA),
        "data-twice": ("FormatError", SOUND + DATA),
        "bytes-after": ("FormatError", SOUND + b"\0"),
        "unknown-critical": ("FormatError", BEFORE_DATA + chunk(b"NEWS", b"") + DATA),
        "type-of-digits": ("FormatError", BEFORE_DATA + chunk(b"te1T", b"") + DATA),
        "text-twice": ("FormatError", BEFORE_DATA + text + text + DATA),
        "text-without-value": ("FormatError", BEFORE_DATA + chunk(b"teXT", b"key") + DATA),
        "resolution-zero": ("FormatError", BEFORE_DATA + chunk(b"dpIX", b"\0" * 8) + DATA),
        "three-lanes": ("FormatError", data(0, b"\x03")),
        "no-payload": ("FormatError", BEFORE_DATA + chunk(b"DATA", b"")),
        "lane-beyond-end": ("FormatError", BEFORE_DATA + chunk(b"DATA", two_lanes)),
        "lane-not-words": ("FormatError", BEFORE_DATA + chunk(b"DATA", payload + b"\0")),
        "lane-ends-in-zero": ("FormatError", BEFORE_DATA + chunk(b"DATA", payload + b"\0" * 4)),
        "lane-first-word": ("FormatError", data(5, b"\x01")),
        "lane-too-short": ("FormatError", BEFORE_DATA + chunk(b"DATA", payload[:5] + payload[9:])),
        "lane-too-long": ("FormatError", BEFORE_DATA + chunk(b"DATA", payload + payload[-4:])),
        "symbol-checksum": ("ChecksumError", data(1, bytes([payload[1] ^ 1]))),
        "flat-empty": ("FormatError", flat(b"")),
        "flat-no-colours": ("FormatError", flat(b"\0" + areas[1:])),
        "flat-nine-colours": ("FormatError", flat(b"\x09" + areas[1:])),
        "flat-another-colour": ("ChecksumError", flat(areas[:1] + b"\x0a" + areas[2:])),
        "flat-no-checksum": ("FormatError", flat(areas[: lane_at - 1])),
        "flat-not-words": ("FormatError", flat(areas + b"\0")),
        "flat-ends-in-zero": ("FormatError", flat(areas + b"\0" * 4)),
        "flat-too-long": ("FormatError", flat(areas[:lane_at] + b"\1\0\0\0" + areas[lane_at:])),
        "flat-too-short": ("FormatError", flat(areas[:lane_at] + areas[lane_at + 4 :])),
        "flat-checksum": (
            "ChecksumError",
            flat(areas[: lane_at - 1] + bytes([areas[lane_at - 1] ^ 1]) + areas[lane_at:]),
        ),
        "flat-twice": ("FormatError", flat(areas, between=chunk(b"FLAT", areas))),
        "blends-no-colours": ("FormatError", blends(b"\x80" + blended[1:])),
        "blends-nine-colours": ("FormatError", blends(b"\x89" + blended[1:])),
        "blends-form-1": ("FormatError", blends(bytes([blended[0] & 0x7F]) + blended[1:])),
        "blends-no-words": ("FormatError", blends(blended[: words_at + 3])),
        "blends-fewer-words": ("FormatError", blends(with_words(words - 1))),
        "blends-more-words": ("FormatError", blends(with_words(words + 1))),
        "blends-words-beyond-end": ("FormatError", blends(with_words(2**32 - 1))),
        "blends-not-words": ("FormatError", blends(blended + b"\0")),
        "blends-ends-in-zero": ("FormatError", blends(blended + b"\0" * 4)),
        "blends-too-short": ("FormatError", blends(blended[:-4])),
        "blends-checksum": (
            "ChecksumError",
            blends(
                blended[: words_at - 1] + bytes([blended[words_at - 1] ^ 1]) + blended[words_at:]
            ),
        ),
        "another-rate": ("FormatError", head(1, b"\x1c")),
        "another-width": ("FormatError", sides(b"\x99\x01\x45")),
    }


Chunks = list[tuple[bytes, bytes]]


def chunks_of(sound: bytes) -> Chunks:
    """The chunks of a file: types and payloads."""
    chunks, at = [], 8
    while at < len(sound):
        (length,) = struct.unpack_from("<I", sound, at)
        chunks.append((sound[at + 4 : at + 8], sound[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def joined(chunks: Chunks) -> bytes:
    """The file of these chunks."""
    return SOUND[:8] + b"".join(chunk(*each) for each in chunks)


def payload_of(sound: bytes, kind: bytes) -> bytes:
    """The payload of the first chunk of this type."""
    return dict(reversed(chunks_of(sound)))[kind]


def with_payload(sound: bytes, kind: bytes, payload: bytes) -> bytes:
    """The file with another payload of the first chunk of this type."""
    chunks = chunks_of(sound)
    chunks[[each for each, _ in chunks].index(kind)] = (kind, payload)
    return joined(chunks)


def head_3(sound: bytes, change: dict[int, int], end: bytes | None = None, at: int = 14) -> bytes:
    """The file with other bytes at offsets of HEAD, and another end of it from an offset on."""
    payload = bytearray(payload_of(sound, b"HEAD"))
    for offset, value in change.items():
        payload[offset] = value
    if end is not None:
        payload[at:] = end
    return with_payload(sound, b"HEAD", bytes(payload))


def seek(sound: bytes, change: dict[int, int]) -> bytes:
    """The file with more or fewer bytes in the lengths of some tiles."""
    payload = payload_of(sound, b"SEEK")
    lengths = list(struct.unpack(f"<{len(payload) // 4}I", payload))
    for number, more in change.items():
        lengths[number] += more
    return with_payload(sound, b"SEEK", struct.pack(f"<{len(lengths)}I", *lengths))


def moved(sound: bytes, kind: bytes, to: int) -> bytes:
    """The file with the first chunk of this type at another place."""
    chunks = chunks_of(sound)
    chunks.insert(to, chunks.pop([each for each, _ in chunks].index(kind)))
    return joined(chunks)


def without(sound: bytes, kind: bytes) -> bytes:
    """The file without the first chunk of this type."""
    chunks = chunks_of(sound)
    del chunks[[each for each, _ in chunks].index(kind)]
    return joined(chunks)


def inserted(sound: bytes, at: int, kind: bytes, payload: bytes) -> bytes:
    """The file with another chunk before the one of this number."""
    chunks = chunks_of(sound)
    return joined([*chunks[:at], (kind, payload), *chunks[at:]])


def in_tile(sound: bytes, tile: int, kind: bytes, payload: bytes) -> bytes:
    """The file with another chunk before DATA in a tile, whose length in SEEK is right."""
    chunks = chunks_of(seek(sound, {tile: 12 + len(payload)}))
    last = [at for at, (each, _) in enumerate(chunks) if each in (b"DATA", b"INDX")]
    return joined([*chunks[: last[tile]], (kind, payload), *chunks[last[tile] :]])


def flipped_crc(payload: bytes, at: int) -> bytes:
    """The payload with a bit of its plane's checksum turned."""
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


def files_of_version_3() -> dict[str, tuple[str, bytes]]:
    """Name -> (error, bytes)."""
    return files_with_other_heads() | files_with_other_tiles() | files_with_other_layers()


def files_with_other_heads() -> dict[str, tuple[str, bytes]]:
    """HEAD, PLTE, and what is fixed by them."""
    plain, formed = payload_of(PLAIN, b"HEAD"), 0x80 | payload_of(PLAIN, b"HEAD")[1]
    gray = payload_of(ALPHA_GRAY, b"HEAD")
    tiled = payload_of(TILES, b"HEAD")
    series = payload_of(SERIES, b"HEAD")
    colours = payload_of(PALETTE, b"PLTE")
    # Width 150 takes two bytes.
    assert plain[2] == 0x70 and tiled[15:] == b"\2\0" and series[14:] == b"\1\1"
    return {
        "form-0": ("FormatError", head_3(PLAIN, {1: formed}, b"\0")),
        "form-unknown": ("FormatError", head_3(PLAIN, {1: formed}, b"\x08")),
        "form-high-bit": ("FormatError", head_3(TILES, {}, b"\x82\0", 15)),
        "form-missing": ("FormatError", head_3(PLAIN, {1: formed})),
        "form-without-flag": ("FormatError", head_3(TILES, {1: tiled[1] & 0x7F})),
        "palette-of-a-model": ("FormatError", head_3(PLAIN, {1: formed}, b"\4")),
        "frames-missing": ("FormatError", head_3(SERIES, {}, b"\1")),
        "frames-not-shortest": ("FormatError", head_3(SERIES, {}, b"\1\x81\0")),
        "frames-without-end": ("FormatError", head_3(SERIES, {}, b"\1" + b"\x80" * 5 + b"\1")),
        "frames-too-many": ("FormatError", head_3(SERIES, {}, b"\1\xff\xff\xff\7")),
        "frames-a-million": ("FormatError", head_3(SERIES, {}, b"\1\xbe\x84\x3d")),
        "tile-missing": ("FormatError", head_3(TILES, {}, b"\2", 15)),
        "tile-not-shortest": ("FormatError", head_3(TILES, {}, b"\2\x80\0", 15)),
        "tile-does-not-cut": ("FormatError", head_3(TILES, {}, b"\2\2", 15)),
        "tile-2-34": ("FormatError", head_3(TILES, {}, b"\2\xff\xff\xff\xff\x0f", 15)),
        "tiles-too-many": (
            "FormatError",
            head_3(TILES, {}, b"\xff\xff\x3f" * 2 + b"\2\0", 12),
        ),
        "alpha-of-16-bits": ("FormatError", head_3(ALPHA_GRAY, {2: gray[2] | 0x80})),
        "alpha-signed": ("FormatError", head_3(ALPHA_GRAY, {2: gray[2] | 0x04})),
        "indexed-rate": ("FormatError", head_3(BITS, {1: 1})),
        "indexed-range": (
            "FormatError",
            head_3(BITS, {2: 0x08}, payload_of(BITS, b"HEAD")[4:] + struct.pack("<2i", 0, 0), 4),
        ),
        "indexed-fingerprint": (
            "FormatError",
            head_3(BITS, {}, bytes(8) + payload_of(BITS, b"HEAD")[4:], 4),
        ),
        "palette-of-7-bits": ("FormatError", head_3(PALETTE, {2: 0x62})),
        "palette-signed": ("FormatError", head_3(PALETTE, {2: 0x74})),
        "colours-missing": ("FormatError", without(PALETTE, b"PLTE")),
        "colours-twice": ("FormatError", inserted(PALETTE, 2, b"PLTE", colours)),
        "colours-after-indices": ("FormatError", moved(PALETTE, b"PLTE", 2)),
        "colours-of-a-model": ("FormatError", inserted(PLAIN, 1, b"PLTE", b"\0\0")),
        "colours-empty": ("TruncatedError", with_payload(PALETTE, b"PLTE", b"")),
        "colours-too-short": ("TruncatedError", with_payload(PALETTE, b"PLTE", colours[:-1])),
        "colours-too-long": ("FormatError", with_payload(PALETTE, b"PLTE", colours + b"\0")),
        "colours-out-of-range": ("FormatError", with_payload(BITS, b"PLTE", b"\1\0\2")),
    }


def files_with_other_tiles() -> dict[str, tuple[str, bytes]]:
    """SEEK, the order of chunks, and the end of the file."""
    lengths = payload_of(TILES, b"SEEK")
    animation = payload_of(SERIES, b"anIM")
    indices = payload_of(BITS, b"INDX")
    return {
        "seek-missing": ("FormatError", without(TILES, b"SEEK")),
        "seek-twice": ("FormatError", inserted(TILES, 2, b"SEEK", lengths)),
        "seek-after-metadata": ("FormatError", moved(SERIES, b"SEEK", 2)),
        "seek-before-colours": ("FormatError", moved(MASKS, b"SEEK", 1)),
        "seek-of-one-tile": ("FormatError", inserted(PLAIN, 1, b"SEEK", struct.pack("<I", 113))),
        "seek-too-short": ("FormatError", with_payload(TILES, b"SEEK", lengths[:-4])),
        "seek-too-long": ("FormatError", with_payload(TILES, b"SEEK", lengths + bytes(4))),
        "seek-not-words": ("FormatError", with_payload(TILES, b"SEEK", lengths[:-1])),
        "seek-lies": ("FormatError", seek(TILES, {0: 12, 1: -12})),
        "seek-overlaps": ("FormatError", seek(TILES, {0: -1})),
        "seek-beyond-the-last-tile": ("FormatError", seek(TILES, {5: 12})),
        "seek-leaves-a-gap": ("FormatError", seek(TILES, {2: 1})),
        "seek-zero": ("FormatError", with_payload(TILES, b"SEEK", bytes(len(lengths)))),
        "seek-beyond-end": ("FormatError", with_payload(TILES, b"SEEK", b"\xff" * len(lengths))),
        "tile-cut": ("TruncatedError", TILES[:-40]),
        "tile-of-fewer": ("TruncatedError", joined(chunks_of(TILES)[:-1])),
        "tile-of-more": ("FormatError", joined([*chunks_of(TILES), chunks_of(TILES)[-1]])),
        "tile-data-bit": (
            "ChecksumError",
            TILES[:-10] + bytes([TILES[-10] ^ 1]) + TILES[-9:],
        ),
        "tile-of-another-place": (
            "FormatError",
            joined([*chunks_of(PLAIN)[:-1], chunks_of(TILES)[-1]]),
        ),
        "two-pad-bytes": ("FormatError", PLAIN + bytes(2)),
        "pad-byte-not-zero": ("FormatError", PLAIN + b"\1"),
        "two-pad-bytes-after-tiles": ("FormatError", TILES + bytes(2)),
        "metadata-in-a-tile": ("FormatError", inserted(ALPHA, 2, b"exIF", b"MM\0*")),
        "metadata-after-a-tile": ("FormatError", in_tile(TILES, 1, b"exIF", b"MM\0*")),
        "animation-twice": ("FormatError", inserted(SERIES, 2, b"anIM", animation)),
        "animation-too-short": ("FormatError", with_payload(SERIES, b"anIM", animation[:4])),
        "animation-too-long": (
            "FormatError",
            with_payload(SERIES, b"anIM", animation + bytes(4)),
        ),
        "indexed-with-data": (
            "FormatError",
            joined([*chunks_of(BITS)[:-1], (b"DATA", payload_of(PLAIN, b"DATA"))]),
        ),
        "indexed-with-flat": ("FormatError", inserted(BITS, 2, b"FLAT", flat_payload(FLAT_SOUND))),
        "indices-of-a-model": (
            "FormatError",
            joined([*chunks_of(PLAIN)[:-1], (b"INDX", indices)]),
        ),
    }


def files_with_other_layers() -> dict[str, tuple[str, bytes]]:
    """ALPH, OUTL and INDX."""
    alpha, levels = payload_of(ALPHA, b"ALPH"), payload_of(ALPHA, b"ALPH")[0] + 1
    at = 1 + levels  # of the plane
    all_levels = payload_of(ALPHA_GRAY, b"ALPH")
    outliers = payload_of(OUTLIERS, b"OUTL")
    indices = payload_of(PALETTE, b"INDX")
    # Two outliers of two bytes each.
    assert outliers[:5] == b"\1\0\x80\xff\x7f" and all_levels[0] == 255
    return {
        "alpha-missing": ("FormatError", without(ALPHA, b"ALPH")),
        "alpha-missing-in-a-tile": ("FormatError", alpha_missing_in_a_tile()),
        "alpha-twice": ("FormatError", inserted(ALPHA, 1, b"ALPH", alpha)),
        "alpha-of-opaque": ("FormatError", inserted(PLAIN, 1, b"ALPH", alpha)),
        "alpha-of-indexed": ("FormatError", inserted(BITS, 2, b"ALPH", alpha)),
        "alpha-after-flat": (
            "FormatError",
            inserted(ALPHA, 1, b"FLAT", flat_payload(FLAT_SOUND)),
        ),
        "alpha-empty": ("TruncatedError", with_payload(ALPHA, b"ALPH", b"")),
        "alpha-no-levels": ("TruncatedError", with_payload(ALPHA, b"ALPH", alpha[:2])),
        "alpha-no-plane": ("TruncatedError", with_payload(ALPHA, b"ALPH", alpha[: at + 3])),
        "alpha-plane-cut": ("TruncatedError", with_payload(ALPHA, b"ALPH", alpha[:-1])),
        "alpha-plane-a-word-less": ("FormatError", with_payload(ALPHA, b"ALPH", alpha[:-4])),
        "alpha-plane-a-word-more": (
            "FormatError",
            with_payload(ALPHA, b"ALPH", alpha[: at + 4] + b"\1\0\0\0" + alpha[at + 4 :]),
        ),
        "alpha-plane-ends-in-zero": ("FormatError", with_payload(ALPHA, b"ALPH", alpha + bytes(4))),
        "alpha-checksum": ("ChecksumError", with_payload(ALPHA, b"ALPH", flipped_crc(alpha, at))),
        "alpha-all-levels-checksum": (
            "ChecksumError",
            with_payload(ALPHA_GRAY, b"ALPH", flipped_crc(all_levels, 1)),
        ),
        "alpha-levels-equal": (
            "FormatError",
            with_payload(ALPHA, b"ALPH", alpha[:2] + alpha[1:2] + alpha[3:]),
        ),
        "alpha-levels-descend": (
            "FormatError",
            with_payload(ALPHA, b"ALPH", alpha[:1] + alpha[2:0:-1] + alpha[3:]),
        ),
        "alpha-level-above-bits": ("FormatError", head_3(ALPHA, {2: 0x62})),
        "alpha-all-levels-of-7-bits": ("FormatError", head_3(ALPHA_GRAY, {2: 0x60})),
        "outliers-twice": ("FormatError", inserted(OUTLIERS, 1, b"OUTL", outliers)),
        "outliers-of-indexed": ("FormatError", inserted(BITS, 2, b"OUTL", outliers)),
        "outliers-before-flat": (
            "FormatError",
            inserted(OUTLIERS, 2, b"FLAT", flat_payload(FLAT_SOUND)),
        ),
        "outliers-256": (
            "FormatError",
            with_payload(OUTLIERS, b"OUTL", b"\xff" + bytes(512) + outliers[5:]),
        ),
        "outliers-empty": ("TruncatedError", with_payload(OUTLIERS, b"OUTL", b"")),
        "outliers-no-values": ("TruncatedError", with_payload(OUTLIERS, b"OUTL", outliers[:4])),
        "outliers-out-of-range": (
            "FormatError",
            head_3(OUTLIERS, {2: payload_of(OUTLIERS, b"HEAD")[2] & 0x0F | 0xE0}),
        ),
        "outliers-checksum": (
            "ChecksumError",
            with_payload(OUTLIERS, b"OUTL", flipped_crc(outliers, 5)),
        ),
        "indices-empty": ("TruncatedError", with_payload(PALETTE, b"INDX", b"")),
        "indices-not-words": ("TruncatedError", with_payload(PALETTE, b"INDX", indices[:-1])),
        "indices-checksum": (
            "ChecksumError",
            with_payload(PALETTE, b"INDX", flipped_crc(indices, 0)),
        ),
        # Seven symbols are spelled like six: the seventh is none of them.
        "indices-out-of-range": (
            "FormatError",
            with_payload(PALETTE, b"PLTE", b"\5" + payload_of(PALETTE, b"PLTE")[1:19]),
        ),
        "indices-ruled-out": ("FormatError", with_payload(PALETTE, b"INDX", indices[:4])),
    }


def alpha_missing_in_a_tile() -> bytes:
    """Tiles with transparency, the second without; its length in SEEK is right."""
    chunks = chunks_of(TILES_ALPHA)
    at = [number for number, (kind, _) in enumerate(chunks) if kind == b"ALPH"][1]
    sound = seek(TILES_ALPHA, {1: -12 - len(chunks[at][1])})
    chunks = chunks_of(sound)
    del chunks[at]
    return joined(chunks)


def main() -> None:
    """Write all of them."""
    errors = {}
    for name, (error, content) in (files() | files_of_version_3()).items():
        (HERE / f"{name}.mvm").write_bytes(content)
        errors[name] = error
    (HERE / "errors.json").write_text(json.dumps(errors, indent=1) + "\n")


if __name__ == "__main__":
    main()
