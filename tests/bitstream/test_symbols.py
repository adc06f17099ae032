import struct
import zlib

import numpy as np
import pytest
from ladder import draw, laplace_tables

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.symbols import MANY_LANES_FROM_BYTES, Pass, Unpacker, pack
from mvmic_codec.errors import ChecksumError, FormatError, InputError, MvmError, TruncatedError

TABLES = ans.Tables(*laplace_tables(12))


def passes_of(seed, *sizes):
    rng = np.random.default_rng(seed)
    return [Pass(*draw(rng, 12, size)) for size in sizes]


def coded_of(passes):
    return [each.coded() for each in passes]


def unpack(payload, passes):
    unpacker = Unpacker(payload, TABLES)
    symbols = [unpacker.next(indices, second) for _, indices, second in passes]
    unpacker.finish()
    return symbols


def same(found, passes):
    return all(np.array_equal(f, p.symbols) for f, p in zip(found, passes, strict=True))


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (0, 5, 0), (300, 700, 11), (30000, 30000)])
def test_passes_survive(sizes):
    passes = passes_of(0, *sizes)
    assert same(unpack(pack(passes, TABLES), passes), passes)


def test_dependent_passes_survive():
    """Between others; the checksum is of their symbols, not of the numbers that are coded."""
    first, other, last = passes_of(12, 300, 0, 40)
    indices = first.indices.clip(max=5)
    # Of the first quantiser alone: 4 k leaves its state at 0.
    dependent = Pass((first.symbols.clip(-99, 99) * 4).astype(np.int16), indices, 5)
    passes = [first, dependent, other, dependent, last]
    payload = pack(passes, TABLES)
    assert same(unpack(payload, passes), passes)
    crc = zlib.crc32(b"".join(each.symbols.astype("<i2").tobytes() for each in passes))
    assert struct.unpack_from("<I", payload, 1) == (crc,)


def test_nothing_coded_is_five_bytes():
    skipped = Pass(np.zeros(100, np.int16), np.zeros(100, np.uint8))
    payload = pack([skipped], TABLES)
    assert len(payload) == 5
    assert same(unpack(payload, [skipped]), [skipped])


def test_layout_of_one_lane():
    passes = passes_of(1, 100)
    payload = pack(passes, TABLES)
    assert payload[0] == 1
    assert payload[5:] == ans.encode(coded_of(passes), TABLES, 1)[0]


def test_layout_of_four_lanes():
    passes = passes_of(2, 60000)
    payload = pack(passes, TABLES)
    lanes = ans.encode(coded_of(passes), TABLES, 4)
    assert payload[0] == 4
    assert struct.unpack_from("<3I", payload, 1) == tuple(len(lane) // 4 for lane in lanes[:3])
    assert payload[17:] == b"".join(lanes)


def test_lanes_multiply_at_the_named_size():
    sizes = {}
    for size in range(20000, 60000, 1000):
        payload = pack(passes_of(3, size), TABLES)
        sizes.setdefault(payload[0], []).append(len(payload))
    assert max(sizes[1]) < MANY_LANES_FROM_BYTES + 5 <= min(sizes[4]) + 48


@pytest.mark.parametrize("lane_count", ans.LANE_COUNTS)
def test_any_lane_count_is_read(lane_count):
    passes = passes_of(4, 900, 70)
    one = pack(passes, TABLES)
    lanes = ans.encode(coded_of(passes), TABLES, lane_count)
    lengths = struct.pack(f"<{lane_count - 1}I", *(len(lane) // 4 for lane in lanes[:-1]))
    payload = bytes([lane_count]) + lengths + one[1:5] + b"".join(lanes)
    assert same(unpack(payload, passes), passes)


@pytest.mark.parametrize("size", [0, 1, 50, 5000, 40000, 100000])
def test_written_size_is_the_estimated_rate(size):
    passes = passes_of(5, size, size // 2)
    estimated = sum(ans.estimate_bits(*each.coded(), TABLES) for each in passes) / 8
    assert abs(len(pack(passes, TABLES)) - estimated) <= max(32, 0.01 * estimated)


@pytest.mark.parametrize("sizes", [(700,), (45000, 200)])
def test_a_payload_cut_at_any_byte_is_an_error(sizes):
    passes = passes_of(6, *sizes)
    payload = pack(passes, TABLES)
    cuts = [*range(min(3000, len(payload))), *range(3000, len(payload), 97)]
    for size in cuts:
        with pytest.raises(FormatError):
            unpack(payload[:size], passes)


def test_each_flipped_bit_is_an_error():
    passes = passes_of(7, 300, 100)
    payload = pack(passes, TABLES)
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack(bytes(damaged), passes)


def test_bytes_behind_are_an_error():
    passes = passes_of(8, 300)
    payload = pack(passes, TABLES)
    for extra in (b"\0", b"\0\0\0\0", b"\1\2\3\4"):
        with pytest.raises(FormatError):
            unpack(payload + extra, passes)


@pytest.mark.parametrize("lane_count", [0, 3, 5, 9, 255])
def test_a_lane_count_that_cannot_be_is_named(lane_count):
    with pytest.raises(FormatError, match=f"{lane_count} lanes"):
        Unpacker(bytes([lane_count]) + bytes(2000), TABLES)


@pytest.mark.parametrize("words", [1, 2, 2**16, 2**30, 2**32 - 1])
def test_lane_lengths_that_lie_are_named(words):
    payload = b"\2" + struct.pack("<I", words) + bytes(4)
    with pytest.raises(TruncatedError, match=f"{words} words"):
        Unpacker(payload, TABLES)


def test_lane_lengths_shifted_among_themselves_are_an_error():
    passes = passes_of(9, 60000)
    payload = bytearray(pack(passes, TABLES))
    first, second = struct.unpack_from("<2I", payload, 1)
    struct.pack_into("<2I", payload, 1, first - 1, second + 1)
    with pytest.raises(FormatError):
        unpack(bytes(payload), passes)


def test_a_wrong_checksum_is_named():
    passes = passes_of(10, 300)
    payload = bytearray(pack(passes, TABLES))
    payload[1] ^= 1
    with pytest.raises(ChecksumError, match="checksum"):
        unpack(bytes(payload), passes)


def test_other_table_indices_are_an_error():
    """What happens when the decoder's networks compute other indices than the encoder's."""
    passes = passes_of(11, 300)
    payload = pack(passes, TABLES)
    symbols, indices, _ = passes[0]
    # (An escape with the same span in both tables would come out right: not an error.)
    for place in np.flatnonzero((indices != 0) & (abs(symbols) <= 1)):
        other = indices.copy()
        other[place] = other[place] % 11 + 1
        with pytest.raises(FormatError):
            unpack(payload, [Pass(symbols, other)])


def test_a_skipped_zero_counts_in_the_checksum():
    passes = passes_of(12, 300)
    payload = pack(passes, TABLES)
    with pytest.raises(ChecksumError):
        unpack(payload, [*passes, Pass(np.zeros(1, np.int16), np.zeros(1, np.uint8))])


def test_random_payloads_do_no_harm():
    rng = np.random.default_rng(13)
    for _ in range(10_000):
        payload = bytearray(rng.bytes(int(rng.integers(0, 80))))
        if payload:
            payload[0] = int(rng.choice([1, 2, 4, 8, payload[0]]))
        indices = rng.integers(0, 12, 50).astype(np.uint8)
        with pytest.raises(FormatError):
            unpack(bytes(payload), [Pass(indices, indices)])


def test_bad_symbols_are_refused():
    with pytest.raises(InputError):
        pack([Pass(np.zeros(3, np.float32), np.zeros(3, np.uint8))], TABLES)
    with pytest.raises(MvmError):
        pack([Pass(np.zeros(3, np.int16), np.full(3, 200, np.uint8))], TABLES)
    with pytest.raises(InputError, match="none of the levels"):
        pack([Pass(np.ones(3, np.int16), np.ones(3, np.uint8), 5)], TABLES)
