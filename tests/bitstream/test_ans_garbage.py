"""Whatever the bytes: symbols or a named error, in bounded time."""

import numpy as np
import pytest
from ladder import draw, laplace_tables

from mvmic_codec.bitstream import ans
from mvmic_codec.errors import FormatError, TruncatedError

TABLES = ans.Tables(*laplace_tables(12))


def decode(lanes, indices):
    decoder = ans.Decoder(lanes, TABLES)
    symbols = decoder.decode(indices)
    decoder.finish()
    return symbols


@pytest.mark.parametrize("lane_count", ans.LANE_COUNTS)
def test_a_lane_cut_at_any_byte_is_an_error(lane_count):
    """All but a lane that happens to end just where its symbols do: the payload's CRC is for it."""
    symbols, indices = draw(np.random.default_rng(0), 12, 1200)
    lanes = ans.encode([(symbols, indices)], TABLES, lane_count)
    assert min(len(lane) for lane in lanes) > 40
    lucky = 0
    cuts = sum(len(lane) for lane in lanes)
    for number, lane in enumerate(lanes):
        for size in range(len(lane)):
            cut = [*lanes[:number], lane[:size], *lanes[number + 1 :]]
            try:
                found = decode(cut, indices)
            except FormatError:
                continue
            assert not np.array_equal(found, symbols)
            lucky += 1
    assert lucky < 0.005 * cuts


def test_a_lane_cut_within_a_word_is_named():
    with pytest.raises(TruncatedError, match="lane 1"):
        ans.Decoder([b"", b"123"], TABLES)


def test_a_lane_that_lost_its_first_words_is_an_error():
    symbols, indices = draw(np.random.default_rng(1), 12, 800)
    (lane,) = ans.encode([(symbols, indices)], TABLES, 1)
    for size in range(4, len(lane), 4):
        with pytest.raises(FormatError):
            decode([lane[size:]], indices)


def test_words_left_over_are_an_error():
    symbols, indices = draw(np.random.default_rng(2), 12, 800)
    lanes = ans.encode([(symbols, indices)], TABLES, 2)
    with pytest.raises(FormatError, match="left after"):
        decode(lanes, indices[:400])


def test_reading_on_after_the_end_is_an_error_at_once():
    symbols, indices = draw(np.random.default_rng(3), 12, 800)
    for lane_count in ans.LANE_COUNTS:
        lanes = ans.encode([(symbols, indices)], TABLES, lane_count)
        decoder = ans.Decoder(lanes, TABLES)
        np.testing.assert_array_equal(decoder.decode(indices), symbols)
        decoder.finish()
        with pytest.raises(TruncatedError, match="ran out"):
            decoder.decode(np.ones(1, np.uint8))


@pytest.mark.parametrize("lane_count", ans.LANE_COUNTS)
def test_a_lane_of_first_entries_alone_still_ends(lane_count):
    symbols = np.full(40, -1, np.int16)
    indices = np.ones(40, np.uint8)
    lanes = ans.encode([(symbols, indices)], TABLES, lane_count)
    assert all(lanes)
    np.testing.assert_array_equal(decode(lanes, indices), symbols)
    with pytest.raises(TruncatedError, match="ran out"):
        decode([b""] * lane_count, indices)


def test_no_encoder_writes_a_last_word_of_zero():
    with pytest.raises(FormatError, match="lane 0"):
        ans.Decoder([b"\0\0\1\0\0\0\0\0"], TABLES)


def test_no_encoder_writes_low_bits_into_the_first_word():
    with pytest.raises(FormatError, match="lane 0"):
        ans.Decoder([b"\1\0\0\0\1\0\0\0"], TABLES)
    ans.Decoder([b"\0\x10\0\0\1\0\0\0"], TABLES)


def test_a_lane_that_ends_elsewhere_is_named():
    decoder = ans.Decoder([b"\0\0\0\x7f"], TABLES)
    decoder.decode(np.ones(1, np.uint8))
    with pytest.raises(TruncatedError, match="does not end"):
        decoder.finish()


def test_ten_thousand_random_lanes_do_no_harm():
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(10_000):
        lane_count = int(rng.choice(ans.LANE_COUNTS))
        lanes = []
        for _ in range(lane_count):
            words = rng.integers(0, 2**32, rng.integers(0, 12), np.uint32)
            if len(words) and rng.random() < 0.9:
                words[0] &= 0xFFFFF000  # past the first check, into the decoder
            lanes.append(words.astype("<u4").tobytes()[: None if rng.random() < 0.95 else -1])
        indices = rng.integers(0, 12, rng.integers(0, 150)).astype(np.uint8)
        try:
            symbols = decode(lanes, indices)
        except FormatError:
            refused += 1
        else:
            assert (symbols[indices == 0] == 0).all()
    assert refused > 9000


def test_flipped_bits_do_no_harm():
    symbols, indices = draw(np.random.default_rng(5), 12, 300)
    (lane,) = ans.encode([(symbols, indices)], TABLES, 1)
    for bit in range(8 * len(lane)):
        damaged = bytearray(lane)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = decode([bytes(damaged)], indices)
        except FormatError:
            continue
        assert not np.array_equal(found, symbols)
