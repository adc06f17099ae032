"""Write files that a decoder must refuse, and the error that each must give.

    python formats/errors/make.py

They are made of formats/golden/gray.mvm, colour.mvm, flat-areas.mvm or flat-blends.mvm, one fault
each; errors.json names the error of mvm-1.md.
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
HEAD = SOUND[8 : 8 + 54]
# Of the models that coded them.
GRAY_MODEL, COLOUR_MODEL = (sound[16:][34:42] for sound in (SOUND, COLOUR_SOUND))
DATA = SOUND[62:]


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk with a checksum that is right."""
    crc = zlib.crc32(kind + payload)
    return struct.pack("<I", len(payload)) + kind + payload + struct.pack("<I", crc)


def head(at: int, value: bytes, sound: bytes = SOUND) -> bytes:
    """The file with other bytes at an offset of HEAD's payload."""
    payload = bytearray(sound[16:58])
    payload[at : at + len(value)] = value
    return sound[:8] + chunk(b"HEAD", bytes(payload)) + sound[62:]


def data(at: int, value: bytes) -> bytes:
    """The file with other bytes at an offset of DATA's payload."""
    payload = bytearray(DATA[8:-4])
    payload[at : at + len(value)] = value
    return SOUND[:62] + chunk(b"DATA", bytes(payload))


def flat(payload: bytes, between: bytes = b"", sound: bytes = FLAT_SOUND) -> bytes:
    """A file with flat areas, with another payload for them."""
    return sound[:62] + chunk(b"FLAT", payload) + between + sound[flat_end(sound) :]


def flat_end(sound: bytes) -> int:
    """Where FLAT ends in a file that has it right after HEAD."""
    assert sound[66:70] == b"FLAT"
    end: int = 62 + 12 + struct.unpack_from("<I", sound, 62)[0]
    return end


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
    areas = FLAT_SOUND[70 : flat_end(FLAT_SOUND) - 4]
    # One byte for the count, one for each colour, four for the checksum.
    lane_at = 1 + areas[0] + 4
    blended = BLENDS_SOUND[70 : flat_end(BLENDS_SOUND) - 4]
    words_at = 1 + (blended[0] & 0x7F) + 4
    (words,) = struct.unpack_from("<I", blended, words_at)

    def with_words(count: int) -> bytes:
        return blended[:words_at] + struct.pack("<I", count) + blended[words_at + 4 :]

    return {
        "empty": ("TruncatedError", b""),
        "within-magic": ("TruncatedError", SOUND[:5]),
        "not-mvm": ("FormatError", b"\x89PNG" + SOUND[4:]),
        "text-mode": ("FormatError", SOUND.replace(b"\r\n", b"\n", 1)),
        "within-head": ("TruncatedError", SOUND[:40]),
        "after-head": ("TruncatedError", SOUND[:62]),
        "within-data": ("TruncatedError", SOUND[:-30]),
        "last-byte-missing": ("TruncatedError", SOUND[:-1]),
        "head-bit": ("ChecksumError", flipped(30)),
        "data-bit": ("ChecksumError", flipped(100)),
        "length-of-data": ("TruncatedError", SOUND[:62] + b"\xff\xff\xff\xff" + DATA[4:]),
        "newer-version": ("VersionError", head(0, b"\x02")),
        "rate-64": ("FormatError", head(1, b"\x40")),
        "flags": ("FormatError", head(2, b"\x01")),
        "two-channels": ("FormatError", head(3, b"\x02")),
        "colour-without-channels": ("FormatError", head(6, b"\x02")),
        "no-width": ("FormatError", head(8, struct.pack("<I", 0))),
        "huge": ("FormatError", head(8, struct.pack("<II", 2**31 - 1, 2**31 - 1))),
        "two-frames": ("FormatError", head(16, b"\x02\0")),
        "range-upside-down": ("FormatError", head(18, struct.pack("<ii", 9, 8))),
        "unknown-model": ("ModelError", head(34, b"\1\2\3\4\5\6\7\x08")),
        "gray-of-a-model-for-colour": ("FormatError", head(34, COLOUR_MODEL)),
        "colour-of-a-model-for-gray": ("FormatError", head(34, GRAY_MODEL, COLOUR_SOUND)),
        "head-twice": ("FormatError", SOUND[:62] + HEAD + DATA),
        "data-twice": ("FormatError", SOUND + DATA),
        "bytes-after": ("FormatError", SOUND + b"\0"),
        "unknown-critical": ("FormatError", SOUND[:62] + chunk(b"NEWS", b"") + DATA),
        "type-of-digits": ("FormatError", SOUND[:62] + chunk(b"te1T", b"") + DATA),
        "text-twice": ("FormatError", SOUND[:62] + text + text + DATA),
        "text-without-value": ("FormatError", SOUND[:62] + chunk(b"teXT", b"key") + DATA),
        "resolution-zero": ("FormatError", SOUND[:62] + chunk(b"dpIX", b"\0" * 8) + DATA),
        "three-lanes": ("FormatError", data(0, b"\x03")),
        "no-payload": ("FormatError", SOUND[:62] + chunk(b"DATA", b"")),
        "lane-beyond-end": ("FormatError", SOUND[:62] + chunk(b"DATA", two_lanes)),
        "lane-not-words": ("FormatError", SOUND[:62] + chunk(b"DATA", payload + b"\0")),
        "lane-ends-in-zero": ("FormatError", SOUND[:62] + chunk(b"DATA", payload + b"\0" * 4)),
        "lane-first-word": ("FormatError", data(5, b"\x01")),
        "lane-too-short": ("FormatError", SOUND[:62] + chunk(b"DATA", payload[:5] + payload[9:])),
        "lane-too-long": ("FormatError", SOUND[:62] + chunk(b"DATA", payload + payload[-4:])),
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
        "another-width": ("FormatError", head(8, struct.pack("<I", 154))),
    }


def main() -> None:
    """Write all of them."""
    errors = {}
    for name, (error, content) in files().items():
        (HERE / f"{name}.mvm").write_bytes(content)
        errors[name] = error
    (HERE / "errors.json").write_text(json.dumps(errors, indent=1) + "\n")


if __name__ == "__main__":
    main()
