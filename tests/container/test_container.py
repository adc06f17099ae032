import io
import struct
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from mvmic_codec import container
from mvmic_codec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    MvmError,
    TruncatedError,
    VersionError,
)

METADATA = {b"exIF": b"MM\0*", b"icCP": b"profile", b"teXT": b"key\0value"}
PAYLOAD = b"payload bytes"
HEAD_START = 16  # magic, length and type come before
HEAD_SIZE = 42


def chunk(kind, payload, length=None, crc=None):
    crc = zlib.crc32(kind + payload) if crc is None else crc
    size = len(payload) if length is None else length
    return struct.pack("<I4s", size, kind) + payload + struct.pack("<I", crc)


@pytest.fixture
def file(header):
    return container.write(header, [PAYLOAD], METADATA)


@pytest.fixture
def parts(header):
    """The file's pieces: magic, HEAD, three metadata chunks, DATA."""
    whole = container.write(header, [PAYLOAD], METADATA)
    pieces, at = [whole[:8]], 8
    while at < len(whole):
        end = at + 12 + struct.unpack_from("<I", whole, at)[0]
        pieces.append(whole[at:end])
        at = end
    assert [piece[4:8] for piece in pieces[1:]] == [b"HEAD", b"exIF", b"icCP", b"teXT", b"DATA"]
    return pieces


def with_head(file, offset, value):
    """The file with bytes of HEAD's payload changed and its checksum made right again."""
    head = bytearray(file[HEAD_START : HEAD_START + HEAD_SIZE])
    head[offset : offset + len(value)] = value
    return file[:8] + chunk(b"HEAD", bytes(head)) + file[HEAD_START + HEAD_SIZE + 4 :]


def test_round_trip(header, file):
    whole = container.read(file)
    assert whole == container.Container(header, METADATA, None, [PAYLOAD])
    assert container.read_header(file) == header
    assert container.read_info(file) == (header, METADATA)


def test_flat_stands_before_the_data(header):
    file = container.write(header, [PAYLOAD], METADATA, b"flat")
    assert file.endswith(chunk(b"FLAT", b"flat") + chunk(b"DATA", PAYLOAD))
    assert container.read(file) == container.Container(header, METADATA, b"flat", [PAYLOAD])
    assert container.read_info(file) == (header, {**METADATA, b"FLAT": b"flat"})


def test_flat_may_stand_among_the_metadata(file):
    end = HEAD_START + HEAD_SIZE + 4
    whole = container.read(file[:end] + chunk(b"FLAT", b"") + file[end:])
    assert (whole.flat, whole.metadata) == (b"", METADATA)


def test_flat_stands_once(header):
    file = container.write(header, [PAYLOAD], {}, b"flat")
    end = HEAD_START + HEAD_SIZE + 4
    with pytest.raises(FormatError, match="second FLAT"):
        container.read(file[:end] + chunk(b"FLAT", b"flat") + file[end:])
    with pytest.raises(FormatError):
        container.read(file + chunk(b"FLAT", b"flat"))
    broken = bytearray(file)
    broken[end + 9] ^= 1
    with pytest.raises(ChecksumError, match="FLAT"):
        container.read(bytes(broken))


def test_bytes_are_those_of_the_specification(header):
    head = bytes.fromhex(
        "01 12 00 01 08 00 00 00  05000000 03000000 0100 00000000 ff000000"
        "66616b6500000000 0102030405060708"
    )
    expected = b"\x89MVM\r\n\x1a\n" + chunk(b"HEAD", head) + chunk(b"DATA", PAYLOAD)
    assert container.write(header, [PAYLOAD], {}) == expected
    assert len(expected) == 74 + len(PAYLOAD)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_every_kind_of_input(header, file, kind):
    assert container.read(kind(file)).payloads == [PAYLOAD]
    assert container.read_header(kind(file)) == header


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 3, "photometric": 2},
        {"channels": 3, "photometric": 3},
        {"photometric": 1},
        {"bits": 16, "lo": 17, "hi": 4095},
        {"bits": 16, "lo": 65535, "hi": 65535},
        {"bits": 16, "signed": True, "lo": -32768, "hi": 32767},
        {"bits": 1, "hi": 1},
        {"rate_index": 63, "width": 2**31 - 1, "height": 1, "model": "~8chars~"},
    ],
)
def test_headers_survive(header, change):
    changed = replace(header, **change)
    assert container.read_header(container.write(changed, [b""], {})) == changed


@pytest.mark.parametrize(
    ("change", "mode"),
    [
        ({}, "L"),
        ({"bits": 1, "hi": 1}, "L"),
        ({"channels": 3, "photometric": 2}, "RGB"),
        ({"bits": 9}, "I;16"),
        ({"bits": 16}, "I;16"),
        ({"bits": 16, "signed": True}, "I"),
    ],
)
def test_mode(header, change, mode):
    assert replace(header, **change).mode == mode


BAD_FIELDS = [
    ({"version": 2}, 0, b"\0"),
    ({"rate_index": 64}, 1, b"\x40"),
    ({"channels": 2}, 3, b"\x02"),
    ({"channels": 3}, 3, b"\x03"),
    ({"bits": 0}, 4, b"\0"),
    ({"bits": 17}, 4, b"\x11"),
    ({"photometric": 3}, 6, b"\x03"),
    ({"photometric": 4}, 6, b"\x04"),
    ({"photometric": 2}, 6, b"\x02"),
    ({"tile_log2": 9}, 7, b"\x09"),
    ({"width": 0}, 8, bytes(4)),
    ({"width": 2**31}, 8, b"\0\0\0\x80"),
    ({"height": 0}, 12, bytes(4)),
    ({"height": 2**32 - 1}, 12, b"\xff\xff\xff\xff"),
    ({"frames": 0}, 16, b"\0\0"),
    ({"frames": 2}, 16, b"\x02\0"),
    ({"lo": -1}, 18, b"\xff\xff\xff\xff"),
    ({"lo": 256}, 18, b"\0\x01\0\0"),
    ({"hi": 256}, 22, b"\0\x01\0\0"),
    ({"hi": -1}, 22, b"\xff\xff\xff\xff"),
    ({"model": ""}, 26, bytes(8)),
    ({"model": "fa\0e"}, 26, b"fa\0e\0\0\0\0"),
    ({"model": "f\xe9e"}, 26, b"f\xe9e\0\0\0\0\0"),
]


@pytest.mark.parametrize(("change", "offset", "value"), BAD_FIELDS)
def test_out_of_range_field(header, file, change, offset, value):
    with pytest.raises(InputError):
        container.write(replace(header, **change), [PAYLOAD] * max(1, header.frames), {})
    with pytest.raises(FormatError) as caught:
        container.read(with_head(file, offset, value))
    assert not isinstance(caught.value, (ChecksumError, TruncatedError))


@pytest.mark.parametrize(("offset", "value"), [(2, b"\x01"), (2, b"\x80"), (5, b"\x02")])
def test_flags_and_sign_are_strict(file, offset, value):
    with pytest.raises(FormatError):
        container.read_header(with_head(file, offset, value))


def test_writer_refuses(header):
    with pytest.raises(InputError, match="fingerprint"):
        container.write(replace(header, fingerprint=b"short"), [b""], {})
    with pytest.raises(InputError, match="DATA"):
        container.write(header, [], {})
    with pytest.raises(InputError, match="vpXX"):
        container.write(header, [b""], {b"vpXX": b""})


def test_newer_version_is_named_even_with_a_longer_header(file):
    rest = file[HEAD_START + HEAD_SIZE + 4 :]
    for head in (b"\x02" + bytes(41), b"\x07" + bytes(80), b"\x02"):
        with pytest.raises(VersionError, match=f"version {head[0]}"):
            container.read(file[:8] + chunk(b"HEAD", head) + rest)


@pytest.mark.parametrize("size", [0, 41, 43, 256])
def test_header_of_wrong_length(file, size):
    data = file[:8] + chunk(b"HEAD", (b"\x01" + bytes(size))[:size])
    with pytest.raises(FormatError):
        container.read_header(data)


def test_truncated_at_every_byte(file):
    for end in range(len(file)):
        with pytest.raises(TruncatedError):
            container.read(file[:end])
        with pytest.raises(TruncatedError):
            container.read(io.BytesIO(file[:end]))


def test_truncated_at_every_chunk_border(parts):
    for count in range(len(parts)):
        with pytest.raises(TruncatedError):
            container.read(b"".join(parts[:count]))


def test_every_flipped_bit_is_noticed(file):
    for at in range(len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[at] ^= 1 << bit
            with pytest.raises(MvmError):
                container.read(bytes(damaged))


def test_every_replaced_byte_is_noticed(file):
    for at in range(len(file)):
        for value in (0, 0xFF, 0x0A, file[at] ^ 0xFF):
            if value != file[at]:
                with pytest.raises(MvmError):
                    container.read(file[:at] + bytes([value]) + file[at + 1 :])


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(60), b"plain text", b"\0" * 100, b"MVM"]
)
def test_not_an_mvm_file(data):
    with pytest.raises(FormatError, match="not an mvm file"):
        container.read_header(data)


def test_empty():
    with pytest.raises(TruncatedError, match="empty"):
        container.read(b"")


def test_text_mode_damage_is_named(file):
    for damaged in (file.replace(b"\r\n", b"\n"), file.replace(b"\n", b"\r\n")):
        with pytest.raises(FormatError, match="text mode"):
            container.read(damaged)


def test_unknown_ancillary_chunk_is_skipped(header, parts):
    extra = chunk(b"vpXX", b"from the future")
    for at in range(2, len(parts)):
        data = b"".join([*parts[:at], extra, extra, *parts[at:]])
        assert container.read(data) == container.Container(header, METADATA, None, [PAYLOAD])


def test_unknown_ancillary_chunk_is_still_checked(parts):
    extra = chunk(b"vpXX", b"from the future", crc=1)
    with pytest.raises(ChecksumError, match="vpXX"):
        container.read(b"".join([*parts[:2], extra, *parts[2:]]))


@pytest.mark.parametrize("kind", [b"NEWX", b"DATa", b"Exif"])
def test_unknown_critical_chunk_is_named(parts, kind):
    with pytest.raises(FormatError, match=kind.decode()):
        container.read(b"".join([*parts[:-1], chunk(kind, b""), parts[-1]]))


@pytest.mark.parametrize("kind", [b"ex\0F", b"1234", b"\xe4bcd", b"    "])
def test_chunk_type_of_other_than_letters(parts, kind):
    with pytest.raises(FormatError, match="no chunk type"):
        container.read(b"".join([*parts[:-1], chunk(kind, b""), parts[-1]]))


def test_order_of_chunks(parts):
    magic, head, exif, icc, text, data = parts
    for wrong in (
        [magic, exif, head, data],
        [magic, data],
        [magic, head, head, data],
        [magic, head, exif, exif, data],
        [magic, head, data, exif],
        [magic, head, data, data],
        [magic, head, data, b"\0"],
        [head, data],
    ):
        with pytest.raises(FormatError):
            container.read(b"".join(wrong))
    assert list(container.read(b"".join([magic, head, text, icc, data])).metadata) == [
        b"teXT",
        b"icCP",
    ]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 1 << 30])
def test_lies_in_lengths_allocate_nothing(parts, length, tmp_path):
    magic, head, exif, _, _, data = parts
    lie = struct.pack("<I", length)
    path = tmp_path / "lie.mvm"
    for pieces in (
        [magic, lie + head[4:], data],
        [magic, head, lie + exif[4:], data],
        [magic, head, lie + data[4:]],
        [magic, head, chunk(b"vpXX", b"", length), data],
    ):
        path.write_bytes(b"".join(pieces))
        tracemalloc.start()
        with open(path, "rb") as file, pytest.raises(FormatError):
            container.read(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20


def test_header_is_read_without_the_rest(header, file):
    stream = io.BytesIO(file)
    assert container.read_header(stream) == header
    assert stream.tell() == 62
    assert container.read_header(file[:62]) == header


def test_info_is_read_without_the_image_data(header, file):
    assert container.read_info(file[: -len(PAYLOAD) - 4]) == (header, METADATA)


def test_file_is_read_from_where_it_stands(header, file):
    stream = io.BytesIO(b"before" + file)
    stream.seek(6)
    assert container.read(stream).header == header


class Trickle(io.RawIOBase):
    """A stream that gives one byte at a time, as a socket may."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, size=-1):
        return self._data.read(min(size, 1))


def test_short_reads_are_not_the_end(header, file):
    assert container.read(Trickle(file)) == container.read(file)
    with pytest.raises(TruncatedError):
        container.read(Trickle(file[:-1]))
    with pytest.raises(FormatError, match="not an mvm file"):
        container.read(Trickle(b"\x89MVM plain"))


def test_large_payload(header):
    payload = bytes(range(256)) * 20_000
    assert container.read(container.write(header, [payload], {})).payloads == [payload]


def test_random_bytes_after_the_magic():
    import random

    generator = random.Random(7)
    for _ in range(500):
        body = generator.randbytes(generator.randrange(120))
        with pytest.raises(MvmError):
            container.read(container.MAGIC + body)
        with pytest.raises(MvmError):
            container.read(container.MAGIC + chunk(b"HEAD", body[:42].ljust(42, b"\0")) + body)
