import io
import random
import struct
import tracemalloc
import zlib
from dataclasses import replace

import one_tile
import pytest
from one_tile import Whole

from mvmic_codec.bitstream import chunks, container
from mvmic_codec.bitstream.header import pack as head_of
from mvmic_codec.errors import (
    ChecksumError,
    FormatError,
    InputError,
    MvmError,
    TruncatedError,
    VersionError,
)
from mvmic_codec.model import identity

METADATA = {b"exIF": b"MM\0*", b"icCP": b"profile", b"teXT": b"key\0value"}
PAYLOAD = b"payload bytes"
HEAD_START = 16  # magic, length and type come before
HEAD_SIZE = 14  # of the header fixture
HEAD_END = HEAD_START + HEAD_SIZE + 4  # with its checksum
SIDES = 12  # where width and height begin in HEAD's payload


def chunk(kind, payload, length=None, crc=None):
    crc = zlib.crc32(kind + payload) if crc is None else crc
    size = len(payload) if length is None else length
    return struct.pack("<I4s", size, kind) + payload + struct.pack("<I", crc)


@pytest.fixture
def file(header):
    return one_tile.write(header, PAYLOAD, METADATA)


@pytest.fixture
def parts(header):
    """The file's pieces: magic, HEAD, three metadata chunks, DATA."""
    whole = one_tile.write(header, PAYLOAD, METADATA)
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
    return with_payload(file, bytes(head))


def with_payload(file, head):
    """The file with another payload of HEAD."""
    return file[:8] + chunk(b"HEAD", head) + file[HEAD_END:]


def with_end(file, sides, ended=b""):
    """The file with other bytes for width and height, and others after them."""
    return with_payload(file, file[HEAD_START : HEAD_START + SIDES] + sides + ended)


def ranged(file, lo, hi, kind=0x78):
    """The file with lo and hi in HEAD, by default of an image of 8 bits."""
    head = bytearray(file[HEAD_START : HEAD_START + HEAD_SIZE])
    head[2] = kind
    return with_payload(file, bytes(head) + struct.pack("<ii", lo, hi))


def test_round_trip(header, file):
    assert one_tile.read(file) == Whole(header, PAYLOAD, METADATA)
    assert container.read_header(file) == header


def test_flat_stands_before_the_data(header):
    file = one_tile.write(header, PAYLOAD, METADATA, b"flat")
    assert file.endswith(chunk(b"FLAT", b"flat") + chunk(b"DATA", PAYLOAD))
    assert one_tile.read(file) == Whole(header, PAYLOAD, METADATA, b"flat")


def test_flat_may_stand_among_the_metadata_in_version_2(file):
    older = with_head(file, 0, b"\2")
    whole = one_tile.read(older[:HEAD_END] + chunk(b"FLAT", b"") + older[HEAD_END:])
    assert (whole.flat, whole.metadata) == (b"", METADATA)
    assert "where none can be" in refused(file[:HEAD_END] + chunk(b"FLAT", b"") + file[HEAD_END:])


def test_flat_stands_once(header):
    file = one_tile.write(header, PAYLOAD, {}, b"flat")
    for each in (file, with_head(file, 0, b"\2")):
        with pytest.raises(FormatError, match="FLAT chunk"):
            one_tile.read(each[:HEAD_END] + chunk(b"FLAT", b"flat") + each[HEAD_END:])
    with pytest.raises(FormatError):
        one_tile.read(file + chunk(b"FLAT", b"flat"))
    broken = bytearray(file)
    broken[HEAD_END + 9] ^= 1
    with pytest.raises(ChecksumError, match="FLAT"):
        one_tile.read(bytes(broken))


def test_bytes_are_those_of_the_specification(header):
    head = bytes.fromhex("03 12 70 09  0102030405060708  04 02")
    expected = b"\x89MVM\r\n\x1a\n" + chunk(b"HEAD", head) + chunk(b"DATA", PAYLOAD)
    assert one_tile.write(header, PAYLOAD, {}) == expected
    assert len(expected) == 46 + len(PAYLOAD)


@pytest.mark.parametrize(
    ("change", "framing"),
    [
        ({"width": 129, "height": 16384}, 48),
        ({"width": 128, "height": 16385}, 48),
        ({"width": 2**31 - 1, "height": 2**31 - 1, "lo": 1}, 62),
    ],
)
def test_bytes_besides_the_image_data(header, change, framing):
    assert len(one_tile.write(replace(header, **change), b"", {})) == framing


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_every_kind_of_input(header, file, kind):
    assert one_tile.read(kind(file)).payload == PAYLOAD
    assert container.read_header(kind(file)) == header


@pytest.mark.parametrize(
    "change",
    [
        {"photometric": 2},
        {"photometric": 3},
        {"photometric": 1},
        {"photometric": 2, "bits": 1, "hi": 1},
        {"lo": 77, "hi": 77},
        {"hi": 254},
        {"bits": 16, "lo": 17, "hi": 4095},
        {"bits": 16, "lo": 65535, "hi": 65535},
        {"bits": 16, "hi": 65535},
        {"bits": 16, "signed": True, "lo": -32768, "hi": 32767},
        {"bits": 16, "signed": True, "lo": -32768, "hi": 32766},
        {"bits": 1, "hi": 1},
        {"bits": 1, "signed": True, "lo": -1, "hi": 0},
        {"rate_index": 63, "width": 2**31 - 1, "height": 1, "generation": 255},
        {"width": 128, "height": 129},
        {"width": 16384, "height": 16385},
        {"width": 2**21, "height": 2**28 + 1, "generation": 1},
    ],
)
def test_headers_survive(header, change):
    changed = replace(header, **change)
    assert container.read_header(one_tile.write(changed, b"", {})) == changed


@pytest.mark.parametrize(
    ("change", "mode"),
    [
        ({}, "L"),
        ({"bits": 1, "hi": 1}, "L"),
        ({"photometric": 2}, "RGB"),
        ({"photometric": 3}, "RGB"),
        ({"bits": 9}, "I;16"),
        ({"bits": 16}, "I;16"),
        ({"bits": 16, "signed": True}, "I"),
    ],
)
def test_mode(header, change, mode):
    assert replace(header, **change).mode == mode


@pytest.mark.parametrize(
    ("photometric", "channels", "model"),
    [(0, 1, "mvmic-9g"), (1, 1, "mvmic-9g"), (2, 3, "mvmic-9c"), (3, 3, "mvmic-9g")],
)
def test_what_follows_from_photometric(header, photometric, channels, model):
    changed = replace(header, photometric=photometric)
    assert (changed.channels, changed.model) == (channels, model)


def test_models_are_named_as_those_installed(header):
    gray = replace(header, generation=identity.GENERATION)
    assert gray.model == identity.GRAY_MODEL
    assert replace(gray, photometric=2).model == identity.COLOUR_MODEL


BAD_FIELDS = [
    ({"version": 0}, 0, b"\0"),
    ({"alpha": True, "bits": 16, "hi": 65535}, 1, b"\x52\xf0"),
    ({"photometric": 2, "signed": True, "lo": -128, "hi": 127}, 2, b"\x76"),
    ({"photometric": 2, "bits": 9, "hi": 511}, 2, b"\x82"),
    ({"photometric": 3, "bits": 16, "hi": 65535}, 2, b"\xf3"),
    ({"version": 2, "generation": 0}, 3, b"\0"),
]


def refused(file):
    """The message of a FormatError that is of no other kind."""
    with pytest.raises(FormatError) as caught:
        one_tile.read(file)
    assert type(caught.value) is FormatError
    return str(caught.value)


@pytest.mark.parametrize(("change", "offset", "value"), BAD_FIELDS)
def test_out_of_range_field(header, file, change, offset, value):
    with pytest.raises(InputError):
        one_tile.write(replace(header, **change), PAYLOAD, {})
    assert refused(with_head(file, offset, value))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 4},
        {"rate_index": -1},
        {"rate_index": 64},
        {"version": 2, "alpha": True},
        {"version": 2, "frames": 2},
        {"frames": 0},
        {"frames": 2**24 + 1},
        {"tile": 64},
        {"tile": 63, "width": 200},
        {"tile": -64, "width": 200},
        {"palette": True},
        {"generation": 0},
        {"generation": 0, "fingerprint": b""},
        {"generation": 0, "fingerprint": b"", "rate_index": 0, "lo": 1},
        {"generation": 0, "fingerprint": b"", "rate_index": 0, "palette": True, "bits": 1, "hi": 1},
        {"photometric": 4},
        {"photometric": -1},
        {"bits": 0},
        {"bits": 17},
        {"generation": 256},
        {"fingerprint": b"short"},
        {"width": 0},
        {"height": 0},
        {"height": 2**31},
    ],
)
def test_what_no_file_can_say_is_not_written(header, change):
    with pytest.raises(InputError):
        one_tile.write(replace(header, **change), PAYLOAD, {})


@pytest.mark.parametrize(
    ("lo", "hi", "kind"),
    [
        (-1, 255, 0x78),
        (256, 256, 0x78),
        (0, 256, 0x78),
        (9, 8, 0x78),
        (0, -1, 0x78),
        (-129, 127, 0x7C),
        (-128, 128, 0x7C),
        (-(2**31), 2**31 - 1, 0xF8),
    ],
)
def test_range_beyond_what_samples_can_be(header, file, lo, hi, kind):
    with pytest.raises(InputError, match="value range"):
        changed = replace(header, bits=(kind >> 4) + 1, signed=bool(kind & 4), lo=lo, hi=hi)
        one_tile.write(changed, PAYLOAD, {})
    assert "value range" in refused(ranged(file, lo, hi, kind))


@pytest.mark.parametrize(
    ("lo", "hi", "kind"), [(0, 255, 0x78), (-128, 127, 0x7C), (0, 65535, 0xF8), (-1, 0, 0x0C)]
)
def test_range_of_all_samples_is_not_written(file, lo, hi, kind):
    assert "goes without saying" in refused(ranged(file, lo, hi, kind))
    assert container.read_header(ranged(file, lo, hi - 1, kind)).hi == hi - 1
    header = container.read_header(with_head(file, 2, bytes([kind & ~8])))
    assert (header.lo, header.hi) == (lo, hi)


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        (b"\x80\0\2", "shortest"),
        (b"\x84\x80\x80\x80\0\2", "shortest"),
        (b"\4\x82\0", "shortest"),
        (b"\x84\x80\x80\x80\x80\1\2", "more than 5"),
        (b"\4\xff\xff\xff\xff\xff\1", "more than 5"),
        (b"\4" + b"\xff" * 200, "more than 5"),
        (b"\xff\xff\xff\xff\x07\2", "2147483648x3 pixels"),
        (b"\4\xff\xff\xff\xff\x7f", "5x34359738368 pixels"),
        (b"", "within its fields"),
        (b"\4", "within its fields"),
        (b"\x84\x80", "within its fields"),
        (b"\4\2\0", "15 bytes, its fields take 14"),
        (b"\4\2" + bytes(8), "22 bytes, its fields take 14"),
        (b"\4\2" + bytes(200), "214 bytes, its fields take 14"),
    ],
)
def test_sides_and_what_follows_them(file, sides, said):
    assert said in refused(with_end(file, sides))


@pytest.mark.parametrize("size", range(8))
def test_range_that_is_cut(file, size):
    whole = bytearray(ranged(file, 1, 2)[HEAD_START:][:HEAD_SIZE] + struct.pack("<ii", 1, 2))
    assert "within its fields" in refused(with_payload(file, bytes(whole[: HEAD_SIZE + size])))
    assert "fields take" in refused(with_payload(file, bytes(whole) + bytes(1 + size)))


def test_every_header_is_written_as_it_was_read(file):
    """There is one way to say each thing: whatever is taken for a header is what is written."""
    draw = random.Random(3)
    taken = set()
    for _ in range(60_000):
        version = draw.choice([2, 3])
        rate = draw.randrange(64 if version == 2 else 256)
        fixed = bytes([version, rate, *draw.randbytes(2)]) + bytes(8)
        sides = draw.randbytes(draw.randrange(2, 5))
        if version == 3 and rate >= 128:
            form = [draw.randrange(9), draw.randrange(99), draw.randrange(9)]
            sides += bytes(form[: draw.randrange(1, 4)])
        data = with_payload(
            file, fixed + sides + draw.choice([b"", draw.randbytes(1) + b"\0\0\0\xff\0\0\0"])
        )
        try:
            header = container.read_header(data)
        except FormatError:
            continue
        taken.add(header)
        assert head_of(header) == data[16 : data.index(b"exIF") - 8]
    assert len(taken) > 1000 and len({header.lo for header in taken}) > 100
    assert any(header.frames > 1 for header in taken) and any(header.tile for header in taken)


def test_writer_refuses(header):
    with pytest.raises(InputError, match="vpXX"):
        one_tile.write(header, b"", {b"vpXX": b""})


def test_newer_version_is_named_even_with_a_longer_header(file):
    for head in (b"\x04" + bytes(41), b"\x07" + bytes(254), b"\x04"):
        with pytest.raises(VersionError, match=f"version {head[0]}.*; update it"):
            one_tile.read(with_payload(file, head))
    assert "header chunk" in refused(with_payload(file, b"\x04" + bytes(255)))


def test_version_1_names_who_reads_it(file):
    """As 0.11 wrote it, and damaged: its checksum says that it is what was written."""
    head = struct.pack("<8BIIHii8s8s", 1, 18, 0, 1, 8, 0, 0, 0, 5, 3, 1, 0, 255, b"mvmic-1g", b"8")
    for each in (head, head[:1]):
        with pytest.raises(VersionError, match=r"before 0\.12: read it with mvmic_codec 0\.11 or"):
            one_tile.read(with_payload(file, each))


@pytest.mark.parametrize("size", [*range(14), 15, 31, 42, 256])
def test_header_of_wrong_length(file, size):
    head = (file[HEAD_START : HEAD_START + HEAD_SIZE] + bytes(size))[:size]
    assert refused(with_payload(file, head))


def test_truncated_at_every_byte(file):
    for end in range(len(file)):
        with pytest.raises(TruncatedError):
            one_tile.read(file[:end])
        with pytest.raises(TruncatedError):
            one_tile.read(io.BytesIO(file[:end]))


def test_truncated_at_every_chunk_border(parts):
    for count in range(len(parts)):
        with pytest.raises(TruncatedError):
            one_tile.read(b"".join(parts[:count]))


def test_every_flipped_bit_is_noticed(file):
    for at in range(len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[at] ^= 1 << bit
            with pytest.raises(MvmError):
                one_tile.read(bytes(damaged))


def test_every_replaced_byte_is_noticed(file):
    for at in range(len(file)):
        for value in (0, 0xFF, 0x0A, file[at] ^ 0xFF):
            if value != file[at]:
                with pytest.raises(MvmError):
                    one_tile.read(file[:at] + bytes([value]) + file[at + 1 :])


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(60), b"plain text", b"\0" * 100, b"MVM"]
)
def test_not_an_mvm_file(data):
    with pytest.raises(FormatError, match="not an mvm file"):
        container.read_header(data)


def test_empty():
    with pytest.raises(TruncatedError, match="empty"):
        one_tile.read(b"")


def test_text_mode_damage_is_named(file):
    for damaged in (file.replace(b"\r\n", b"\n"), file.replace(b"\n", b"\r\n")):
        with pytest.raises(FormatError, match="text mode"):
            one_tile.read(damaged)


def test_unknown_ancillary_chunk_is_skipped(header, parts):
    extra = chunk(b"vpXX", b"from the future")
    for at in range(2, len(parts)):
        data = b"".join([*parts[:at], extra, extra, *parts[at:]])
        assert one_tile.read(data) == Whole(header, PAYLOAD, METADATA)


def test_unknown_ancillary_chunk_is_still_checked(parts):
    extra = chunk(b"vpXX", b"from the future", crc=1)
    with pytest.raises(ChecksumError, match="vpXX"):
        one_tile.read(b"".join([*parts[:2], extra, *parts[2:]]))


@pytest.mark.parametrize("kind", [b"NEWX", b"DATa", b"Exif"])
def test_unknown_critical_chunk_is_named(parts, kind):
    with pytest.raises(FormatError, match=kind.decode()):
        one_tile.read(b"".join([*parts[:-1], chunk(kind, b""), parts[-1]]))


@pytest.mark.parametrize("kind", [b"ex\0F", b"1234", b"\xe4bcd", b"    "])
def test_chunk_type_of_other_than_letters(parts, kind):
    with pytest.raises(FormatError, match="no chunk type"):
        one_tile.read(b"".join([*parts[:-1], chunk(kind, b""), parts[-1]]))


def test_order_of_chunks(parts):
    magic, head, exif, icc, text, data = parts
    for wrong in (
        [magic, exif, head, data],
        [magic, data],
        [magic, head, head, data],
        [magic, head, exif, exif, data],
        [magic, head, data, exif],
        [magic, head, data, data],
        [magic, head, data, b"\0\0"],
        [magic, head, data, b"\1"],
        [head, data],
    ):
        with pytest.raises(FormatError):
            one_tile.read(b"".join(wrong))
    assert list(one_tile.read(b"".join([magic, head, text, icc, data])).metadata) == [
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
            one_tile.read(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20


def test_header_is_read_without_the_rest(header, file):
    stream = io.BytesIO(file)
    assert container.read_header(stream) == header
    assert stream.tell() == HEAD_END
    assert container.read_header(file[:HEAD_END]) == header


def test_metadata_are_read_without_the_image_data(header, file):
    reader = container.Reader(file[: -len(PAYLOAD) - 4])
    assert (reader.header, reader.metadata) == (header, METADATA)


def test_a_byte_of_padding_may_follow(header, file):
    """DICOM adds one where a length must be even. Version 2 did not know that."""
    assert one_tile.read(file + b"\0") == one_tile.read(file)
    older = with_head(file, 0, b"\2")
    with pytest.raises(FormatError, match="bytes after"):
        one_tile.read(older + b"\0")


SERIES = {"frames": 3, "tile": 64, "width": 100, "height": 70}


def tiles_of(count, **chunks):
    return [container.Tile(bytes([number]) * number, **chunks) for number in range(count)]


@pytest.fixture
def series(header):
    return container.write(replace(header, **SERIES), tiles_of(12, flat=b"flat"), METADATA)


def test_tiles_are_read_in_any_order(header, series):
    tiles = tiles_of(12, flat=b"flat")
    for source in (series, io.BytesIO(series), Trickle(series)):
        reader = container.Reader(source)
        assert (reader.header.rows, reader.header.columns, reader.header.count) == (2, 2, 12)
        assert reader.metadata == METADATA
        assert reader.tile(2, 1, 0) == tiles[10]
        assert reader.tile(0, 0, 0) == tiles[0]
        assert reader.tile(1, 0, 1) == tiles[5]
        assert reader.sizes() == {b"FLAT": 48, b"DATA": 66}
        reader.check()
        assert reader.tile(0, 0, 0) == tiles[0]


def test_a_file_within_a_file(series):
    stream = io.BytesIO(b"before" + series)
    stream.seek(6)
    reader = container.Reader(stream)
    stream.seek(0)
    assert reader.tile(2, 1, 1) == tiles_of(12, flat=b"flat")[11]


def test_a_tile_needs_no_other(series):
    cut = container.Reader(series[:-40])
    assert cut.tile(1, 1, 1).payload == b"\7" * 7
    with pytest.raises(TruncatedError):
        cut.tile(2, 1, 1)
    with pytest.raises(TruncatedError):
        cut.check()


def test_every_flipped_bit_of_a_series_is_noticed(series):
    for at in range(len(series)):
        damaged = bytearray(series)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(MvmError):
            container.Reader(bytes(damaged)).check()


def seek_table(series):
    at = series.index(b"SEEK") - 4
    return at, struct.unpack_from("<12I", series, at + 8)


def with_lengths(series, lengths):
    at, old = seek_table(series)
    table = chunk(b"SEEK", struct.pack(f"<{len(lengths)}I", *lengths))
    return series[:at] + table + series[at + 12 + 4 * len(old) :]


def test_lengths_that_lie(series):
    _, lengths = seek_table(series)
    for number, change in ((0, 1), (3, -1), (11, 5), (11, -12), (2, 2**31), (4, -lengths[4])):
        wrong = list(lengths)
        wrong[number] += change
        with pytest.raises(FormatError):
            container.Reader(with_lengths(series, wrong)).check()
    for change, said in ((-1, "longer than its tile"), (1, "tile is shorter")):
        wrong = [*lengths[:-1], lengths[-1] + change]
        with pytest.raises(FormatError, match=said):
            container.Reader(with_lengths(series, wrong)).check()
    swapped = [*lengths[1:], lengths[0]]
    with pytest.raises(FormatError):
        container.Reader(with_lengths(series, swapped)).check()
    for count in (0, 11, 13):
        with pytest.raises(FormatError, match="tiles"):
            container.Reader(with_lengths(series, (lengths * 2)[:count]))


def test_a_million_frames_of_nothing(header):
    many = replace(header, frames=2**24)
    data = container.MAGIC + chunk(b"HEAD", head_of(many)) + chunk(b"SEEK", b"")
    with pytest.raises(FormatError, match="lengths of 0 tiles"):
        container.Reader(data)
    lie = struct.pack("<I4s", 4 * 2**24, b"SEEK") + bytes(100)
    tracemalloc.start()
    with pytest.raises(TruncatedError):
        container.Reader(container.MAGIC + chunk(b"HEAD", head_of(many)) + lie)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_series_without_a_table(header, series):
    at, lengths = seek_table(series)
    with pytest.raises(FormatError, match="where its SEEK chunk should be"):
        container.Reader(series[:at] + series[at + 12 + 4 * len(lengths) :])
    with pytest.raises(FormatError, match="a SEEK chunk too many"):
        table = series[at : at + 12 + 4 * len(lengths)]
        container.Reader(series[:at] + table + series[at:])


def test_indexed(header):
    kind = replace(header, generation=0, fingerprint=b"", rate_index=0, palette=True, frames=2)
    file = container.write(kind, tiles_of(2), {}, b"colours")
    reader = container.Reader(file)
    assert (reader.header, reader.colours, reader.header.mode) == (kind, b"colours", "P")
    assert reader.tile(1).payload == b"\1"
    assert b"FLAT" not in file and b"DATA" not in file and file.count(b"INDX") == 2
    with pytest.raises(InputError, match="list of colours"):
        container.write(kind, tiles_of(2), {})
    with pytest.raises(InputError, match="list of colours"):
        container.write(header, tiles_of(1), {}, b"colours")
    with pytest.raises(InputError, match="indices alone"):
        container.write(kind, tiles_of(2, flat=b""), {}, b"colours")
    with pytest.raises(FormatError, match="DATA chunk where none can be"):
        container.Reader(file.replace(b"INDX", b"DATA")).check()
    assert replace(kind, palette=False, bits=1, hi=1).mode == "1"


def test_transparency(header):
    kind = replace(header, alpha=True)
    file = container.write(kind, tiles_of(1, alpha=b"alpha", flat=b"f", outliers=b"o"), {})
    reader = container.Reader(file)
    assert reader.header == kind and kind.mode == "LA"
    assert replace(kind, photometric=2).mode == "RGBA"
    assert reader.tile() == container.Tile(b"", b"alpha", b"f", b"o")
    with pytest.raises(InputError, match="transparency"):
        container.write(kind, tiles_of(1), {})
    with pytest.raises(InputError, match="transparency"):
        container.write(header, tiles_of(1, alpha=b"a"), {})
    plain = one_tile.write(header, PAYLOAD)
    with pytest.raises(FormatError, match="no ALPH"):
        container.Reader(with_head(plain, 1, b"\x52")).check()
    with pytest.raises(FormatError, match="ALPH chunk where none can be"):
        one_tile.read(plain[:HEAD_END] + chunk(b"ALPH", b"") + plain[HEAD_END:])


def test_order_of_the_chunks_of_a_tile(header):
    plain = one_tile.write(header, PAYLOAD)
    flat, outliers = chunk(b"FLAT", b"f"), chunk(b"OUTL", b"o")
    start, data = plain[:HEAD_END], plain[HEAD_END:]
    extra = chunk(b"vpXX", b"later")
    tile = container.Reader(start + flat + extra + outliers + extra + data).tile()
    assert tile == container.Tile(PAYLOAD, flat=b"f", outliers=b"o")
    for wrong in (outliers + flat, flat + flat, outliers + outliers, chunk(b"INDX", b"")):
        with pytest.raises(FormatError, match="where none can be"):
            one_tile.read(start + wrong + data)
    with pytest.raises(FormatError, match="needs a reader that knows NEWX"):
        one_tile.read(start + flat + chunk(b"NEWX", b"") + data)


def test_layers_of_the_future_are_announced(header):
    head = head_of(replace(header, frames=2))
    form = head.index(b"\1\0", 12)
    for flags in (8, 0x81):
        data = container.MAGIC + chunk(b"HEAD", head[:form] + bytes([flags]) + head[form + 1 :])
        with pytest.raises(FormatError, match="update mvmic_codec"):
            container.read_header(data)
    data = container.MAGIC + chunk(b"HEAD", head[:form] + b"\0")
    with pytest.raises(FormatError, match="goes without saying"):
        container.read_header(data)


def test_file_is_read_from_where_it_stands(header, file):
    stream = io.BytesIO(b"before" + file)
    stream.seek(6)
    assert one_tile.read(stream).header == header


class Trickle(io.RawIOBase):
    """A stream that gives one byte at a time, as a socket may."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, size=-1):
        return self._data.read(min(size, 1))


def test_short_reads_are_not_the_end(header, file):
    assert one_tile.read(Trickle(file)) == one_tile.read(file)
    with pytest.raises(TruncatedError):
        one_tile.read(Trickle(file[:-1]))
    with pytest.raises(FormatError, match="not an mvm file"):
        one_tile.read(Trickle(b"\x89MVM plain"))


def test_large_payload(header):
    payload = bytes(range(256)) * 20_000
    assert one_tile.read(one_tile.write(header, payload, {})).payload == payload


def test_random_bytes_after_the_magic():
    generator = random.Random(7)
    for _ in range(500):
        body = generator.randbytes(generator.randrange(120))
        with pytest.raises(MvmError):
            one_tile.read(container.MAGIC + body)
        with pytest.raises(MvmError):
            one_tile.read(container.MAGIC + chunk(b"HEAD", body) + body)
        with pytest.raises(MvmError):
            one_tile.read(container.MAGIC + chunk(b"HEAD", b"\2" + body) + body)


def test_chunks_have_the_right_article():
    kinds = (b"exIF", b"icCP", b"xmPP", b"anIM", b"ALPH", b"INDX", b"OUTL", b"dpIX", b"DATA")
    assert [chunks.named(kind).split()[0] for kind in kinds] == ["an"] * 7 + ["a"] * 2
