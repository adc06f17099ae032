"""Write files that a decoder must refuse, and the error that each must give.

    python formats/errors/make.py

They are made of formats/golden/gray.mvm, colour.mvm, flat-areas.mvm or flat-blends.mvm, one fault
each; errors.json names the error of mvm-2.md.
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
        "newer-version": ("VersionError", head(0, b"\x03")),
        "version-1": ("VersionError", version_1()),
        "rate-64": ("FormatError", head(1, b"\x40")),
        "colour-of-16-bits": ("FormatError", head(2, b"\xf2")),
        "colour-signed": ("FormatError", head(2, b"\x76")),
        "generation-0": ("FormatError", head(3, b"\0")),
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


def main() -> None:
    """Write all of them."""
    errors = {}
    for name, (error, content) in files().items():
        (HERE / f"{name}.mvm").write_bytes(content)
        errors[name] = error
    (HERE / "errors.json").write_text(json.dumps(errors, indent=1) + "\n")


if __name__ == "__main__":
    main()
