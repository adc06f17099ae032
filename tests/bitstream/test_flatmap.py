"""The coder of maps: round trips, hostile lanes, and the words of formats/flat.md."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvmic_codec.bitstream import flatmap
from mvmic_codec.errors import FormatError, InputError, TruncatedError

EXAMPLE = np.array([[0, 0, 0, 1], [0, 2, 1, 1], [1, 1, 1, 1]], np.uint8)
EXAMPLE_LANE = bytes.fromhex("822a57d20c000000")


def disc(rows, columns):
    i, j = np.mgrid[0:rows, 0:columns]
    return (i - rows / 2) ** 2 + (j - columns / 2) ** 2 < (min(rows, columns) / 3) ** 2


@st.composite
def maps(draw):
    rows, columns, colours = (
        draw(st.integers(1, 24)),
        draw(st.integers(1, 24)),
        draw(st.integers(1, 8)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    map = rng.integers(0, colours + 1, (rows, columns)) * (
        rng.random((rows, columns)) < rng.random()
    )
    if draw(st.booleans()):
        map = np.maximum(map, disc(rows, columns) * draw(st.integers(0, colours)))
    return map.astype(np.uint8), colours


@given(maps(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_round_trip(case, partly):
    map, colours = case
    open = None
    if partly:
        open = np.random.default_rng(int(map.sum())).random(map.shape) < 0.4
        map = map * open
    lane = flatmap.encode(map, colours, open)
    assert len(lane) % 4 == 0
    decoded = flatmap.decode(lane, *map.shape, colours, open)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, map)


def test_the_example_of_the_specification():
    assert flatmap.encode(EXAMPLE, 2) == EXAMPLE_LANE
    np.testing.assert_array_equal(flatmap.decode(EXAMPLE_LANE, 3, 4, 2), EXAMPLE)


@pytest.mark.parametrize("number", range(9))
def test_a_map_of_one_number(number):
    map = np.full((200, 300), number, np.uint8)
    lane = flatmap.encode(map, 8)
    assert len(lane) <= 24
    np.testing.assert_array_equal(flatmap.decode(lane, 200, 300, 8), map)


def test_the_largest_colour_counts_as_the_last():
    """With fewer colours than the map could have, the last question is not asked."""
    map = disc(40, 50).astype(np.uint8) * 3
    assert len(flatmap.encode(map, 3)) < len(flatmap.encode(map, 4)) + 4
    np.testing.assert_array_equal(flatmap.decode(flatmap.encode(map, 3), 40, 50, 3), map)


def test_an_edge_costs_little():
    """A disc's edge of about 960 pixels, at less than two bits for each."""
    map = disc(512, 512).astype(np.uint8)
    assert len(flatmap.encode(map, 1)) < 960 * 2 / 8


def test_what_is_not_open_costs_nothing():
    """Random numbers on a tenth of the pixels, at two bits each and little more."""
    rng = np.random.default_rng(5)
    open = rng.random((200, 200)) < 0.1
    map = (rng.integers(0, 4, open.shape) * open).astype(np.uint8)
    lane = flatmap.encode(map, 3, open)
    assert len(lane) < 1.35 * 2 * np.count_nonzero(open) / 8
    assert len(flatmap.encode(map, 3)) > 1.5 * len(lane)
    assert flatmap.encode(np.zeros_like(map), 3, np.zeros_like(open)) == b""


def test_a_number_where_nothing_is_open():
    map = np.array([[0, 1], [0, 0]], np.uint8)
    with pytest.raises(InputError, match="nothing is open"):
        flatmap.encode(map, 1, map == 0)


@pytest.mark.parametrize("open", [np.ones((2, 2), np.uint8), np.ones((2, 3), np.bool_)])
def test_open_of_another_kind(open):
    with pytest.raises(InputError, match="bool"):
        flatmap.encode(np.zeros((2, 2), np.uint8), 1, open)
    with pytest.raises(InputError, match="bool"):
        flatmap.decode(b"", 2, 2, 1, open)


def test_not_contiguous():
    map = np.zeros((30, 40), np.uint8)[::2, ::3]
    np.testing.assert_array_equal(flatmap.decode(flatmap.encode(map, 1), *map.shape, 1), map)


@pytest.mark.parametrize(
    ("map", "colours", "message"),
    [
        (np.zeros((3, 3), np.int8), 1, "uint8"),
        (np.zeros(3, np.uint8), 1, "2-D"),
        ([[0]], 1, "array"),
        (np.zeros((3, 3), np.uint8), 0, "1 to 8"),
        (np.zeros((3, 3), np.uint8), 9, "1 to 8"),
        (np.zeros((0, 3), np.uint8), 1, "empty"),
        (np.full((3, 3), 3, np.uint8), 2, "above"),
    ],
)
def test_what_cannot_be_encoded(map, colours, message):
    with pytest.raises(InputError, match=message):
        flatmap.encode(map, colours)


def test_lanes_that_cannot_be():
    lane = flatmap.encode(disc(60, 60).astype(np.uint8), 1)
    with pytest.raises(TruncatedError, match="whole words"):
        flatmap.decode(lane[:-1], 60, 60, 1)
    for wrong in (lane + b"\0\0\0\0", lane[4:], lane[:-4], b"\1\0\0\0" + lane):
        with pytest.raises(FormatError):
            flatmap.decode(wrong, 60, 60, 1)


def test_garbage_gives_a_map_or_an_error():
    rng = np.random.default_rng(3)
    for _ in range(2000):
        rows, columns, colours = (int(rng.integers(1, top)) for top in (20, 20, 9))
        lane = rng.bytes(4 * int(rng.integers(0, 12)))
        open = rng.random((rows, columns)) < 0.5 if rng.random() < 0.5 else None
        try:
            map = flatmap.decode(lane, rows, columns, colours, open)
        except FormatError:
            continue
        assert map.shape == (rows, columns)
        assert map.max() <= colours
        # What is accepted is what an encoder writes.
        assert flatmap.encode(map, colours, open) == lane
