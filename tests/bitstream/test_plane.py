"""Planes of few values: round trips, hostile payloads, and the bytes of formats/plane.md."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvmic_codec.bitstream import plane, planecoder
from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

PAGE = Path(__file__).parents[2] / "formats/plane.md"
EXAMPLE = np.array([[0, 0, 2, 2, 0], [0, 2, 3, 2, 0], [1, 0, 0, 2, 2]], np.uint8)
ORDERS = pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])


def disc(rows, columns):
    i, j = np.mgrid[0:rows, 0:columns]
    return np.hypot(i - rows / 2, j - columns / 2) < min(rows, columns) / 3


@st.composite
def planes(draw):
    """A plane and its number of symbols: noise, areas, slopes, or a tile again and again."""
    symbols = draw(st.one_of(st.integers(1, 9), st.integers(1, 256)))
    rows, columns = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    numbers = rng.integers(0, symbols, (rows, columns))
    kind = draw(st.sampled_from(["noise", "areas", "slope", "tile"]))
    if kind == "areas":
        numbers = disc(rows, columns) * (symbols - 1) * (rng.random((rows, columns)) < 0.95)
    elif kind == "slope":
        i, j = np.mgrid[0:rows, 0:columns]
        numbers = (i * rng.integers(0, 9) + j * rng.integers(0, 9)) // 4 % symbols
    elif kind == "tile":
        numbers = np.resize(numbers[:3], (rows, columns))
    return numbers.astype(np.uint8), symbols


@given(planes(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_round_trip(case, ordered):
    symbols_of, symbols = case
    payload = plane.to_payload(symbols_of, symbols, ordered)
    assert len(payload) % 4 == 0
    back = plane.from_payload(payload, *symbols_of.shape, symbols, ordered)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, symbols_of)


@ORDERS
@pytest.mark.parametrize("shape", [(1, -1), (-1, 1), (2, -1)])
def test_every_number_of_symbols(shape, ordered):
    """All symbols, after all of some others: escapes fold and reach the last."""
    rng = np.random.default_rng(1)
    for symbols in range(1, 257):
        numbers = np.concatenate([np.arange(symbols), rng.permutation(symbols)])
        wanted = numbers.astype(np.uint8).reshape(shape)
        payload = plane.to_payload(wanted, symbols, ordered)
        np.testing.assert_array_equal(
            plane.from_payload(payload, *wanted.shape, symbols, ordered), wanted
        )


@ORDERS
def test_the_example_of_the_specification(ordered):
    payloads = re.findall(r"`((?:[0-9a-f]{2} ){10,}[0-9a-f]{2})`", PAGE.read_text(encoding="utf-8"))
    assert len(payloads) == 2
    payload = plane.to_payload(EXAMPLE, 5, ordered)
    assert payload.hex(" ") == payloads[ordered]
    np.testing.assert_array_equal(plane.from_payload(payload, 3, 5, 5, ordered), EXAMPLE)


def test_one_symbol_takes_no_words():
    payload = plane.to_payload(np.zeros((900, 700), np.uint8), 1, False)
    assert payload == zlib.crc32(bytes(900 * 700)).to_bytes(4, "little")
    assert not plane.from_payload(payload, 900, 700, 1, False).any()
    with pytest.raises(FormatError):
        plane.from_payload(payload + b"\0\0\0\1", 900, 700, 1, False)


@ORDERS
@pytest.mark.parametrize("symbol", [0, 1, 255])
def test_a_plane_of_one_symbol_costs_little(symbol, ordered):
    wanted = np.full((500, 400), symbol, np.uint8)
    payload = plane.to_payload(wanted, 256, ordered)
    assert len(payload) <= 32
    np.testing.assert_array_equal(plane.from_payload(payload, 500, 400, 256, ordered), wanted)


def test_an_edge_costs_little():
    """A disc's edge of about 960 pixels, at less than two bits for each."""
    assert len(plane.to_payload(disc(512, 512).astype(np.uint8), 2, False)) < 960 * 2 / 8


def test_two_symbols_ask_once():
    """Labels 0 and 1 of three are not told apart by the first question alone."""
    mask = disc(200, 200).astype(np.uint8)
    assert len(plane.to_payload(mask, 2, False)) < len(plane.to_payload(mask, 3, False))


def test_what_is_seen_again_costs_little():
    """Letters of noise: a second line of them is remembered, if not for nothing."""
    letters = np.random.default_rng(4).integers(0, 256, (12, 300)).astype(np.uint8)
    once = len(plane.to_payload(letters, 256, True))
    twice = len(plane.to_payload(np.concatenate([letters, letters]), 256, True))
    assert once > 3000
    assert twice < 1.35 * once


def test_order_helps_a_slope():
    """A steep slope with grain: close symbols follow one another."""
    rng = np.random.default_rng(0)
    i, j = np.mgrid[0:60, 0:48]
    slope = ((3 * i + 5 * j + rng.integers(0, 4, i.shape)) % 256).astype(np.uint8)
    ordered, unordered = (len(plane.to_payload(slope, 256, each)) for each in (True, False))
    assert ordered < 0.7 * unordered


def test_not_contiguous():
    whole = np.arange(1200, dtype=np.uint32).reshape(30, 40).astype(np.uint8)
    for wanted in (whole[::2, ::3], whole.T, whole[::-1]):
        payload = plane.to_payload(wanted, 256, False)
        np.testing.assert_array_equal(
            plane.from_payload(payload, *wanted.shape, 256, False), wanted
        )


@pytest.mark.parametrize(
    ("wanted", "symbols", "message"),
    [
        (np.zeros((3, 3), np.int8), 2, "uint8"),
        (np.zeros((3, 3), np.bool_), 2, "uint8"),
        (np.zeros(3, np.uint8), 2, "2-D"),
        ([[0]], 2, "array"),
        (np.zeros((3, 3), np.uint8), 0, "1 to 256"),
        (np.zeros((3, 3), np.uint8), 257, "1 to 256"),
        (np.zeros((0, 3), np.uint8), 2, "empty"),
        (np.zeros((3, 0), np.uint8), 2, "empty"),
        (np.full((3, 3), 3, np.uint8), 3, "3 or more"),
        (np.eye(3, dtype=np.uint8), 1, "1 or more"),
    ],
)
def test_what_cannot_be_encoded(wanted, symbols, message):
    with pytest.raises(InputError, match=message):
        plane.to_payload(wanted, symbols, False)


@pytest.mark.parametrize(("height", "width", "symbols"), [(0, 3, 2), (3, 0, 2), (3, 3, 0)])
def test_what_cannot_be_asked_for(height, width, symbols):
    with pytest.raises(InputError):
        plane.from_payload(bytes(4), height, width, symbols, False)


def test_a_size_beyond_memory():
    with pytest.raises(MemoryError, match="too large"):
        planecoder.decode(b"", 2**31, 2**31, 2, False)


@pytest.fixture(params=[2, 3, 256], ids=lambda symbols: f"{symbols} symbols")
def case(request):
    """A plane, its number of symbols and its payload."""
    i, j = np.mgrid[0:20, 0:30]
    wanted = ((i * j // 5 + disc(20, 30)) % request.param).astype(np.uint8)
    return wanted, request.param, plane.to_payload(wanted, request.param, True)


def test_every_length(case):
    wanted, symbols, payload = case
    for length in range(len(payload)):
        kind = FormatError if length >= 4 and length % 4 == 0 else TruncatedError
        with pytest.raises(kind):
            plane.from_payload(payload[:length], *wanted.shape, symbols, True)


def test_every_bit(case):
    wanted, symbols, payload = case
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        kind = ChecksumError if bit < 32 else FormatError
        with pytest.raises(kind):
            plane.from_payload(bytes(damaged), *wanted.shape, symbols, True)


def test_words_too_many(case):
    wanted, symbols, payload = case
    for wrong in (payload + bytes(4), payload + b"1234", payload[:4] + b"\1\0\0\0" + payload[4:]):
        with pytest.raises(FormatError):
            plane.from_payload(wrong, *wanted.shape, symbols, True)


def test_an_escape_to_a_symbol_that_is_none():
    """Three and four symbols are spelled alike; a fourth there must not be."""
    lane = planecoder.encode(np.array([[3]], np.uint8), 4, False)
    assert planecoder.decode(lane, 1, 1, 4, False) == 3
    with pytest.raises(FormatError, match="damaged"):
        planecoder.decode(lane, 1, 1, 3, False)


def test_an_escape_to_a_symbol_that_was_ruled_out():
    """No words say no to everything: v is not W, which is 0, and then it is 0."""
    with pytest.raises(FormatError, match="damaged"):
        planecoder.decode(b"", 1, 1, 4, False)


@ORDERS
def test_garbage_gives_a_plane_or_an_error(ordered):
    rng = np.random.default_rng(3)
    accepted = 0
    for _ in range(2000):
        rows, columns = int(rng.integers(1, 20)), int(rng.integers(1, 20))
        symbols = int(rng.integers(1, 6) if rng.random() < 0.5 else rng.integers(1, 257))
        lane = rng.bytes(4 * int(rng.integers(0, 12)))
        try:
            found = planecoder.decode(lane, rows, columns, symbols, ordered)
        except FormatError:
            continue
        accepted += 1
        assert found.shape == (rows, columns)
        assert found.max() < symbols
        # What is accepted is what an encoder writes.
        assert planecoder.encode(found, symbols, ordered) == lane
    assert accepted
