"""The payload of a FLAT chunk, and painting."""

from dataclasses import replace

import numpy as np
import pytest

from mvmic_codec import flat
from mvmic_codec.container import GRAY_RGB, RGB
from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

MAP = np.array([[0, 1, 2, 2, 1], [1, 1, 0, 0, 2], [2, 0, 0, 1, 1]], np.uint8)


@pytest.mark.parametrize(
    ("changes", "colours", "size"),
    [
        ({}, [[0], [255]], 1),
        ({"channels": 3, "photometric": RGB}, [[0, 255, 7], [1, 2, 3]], 1),
        ({"channels": 3, "photometric": GRAY_RGB}, [[9], [200]], 1),
        ({"bits": 16, "hi": 40000}, [[0], [40000]], 2),
        ({"bits": 16, "signed": True, "lo": -2000, "hi": 3000}, [[-2000], [1]], 2),
        ({"bits": 8, "signed": True, "lo": -100, "hi": 50}, [[-100], [50]], 1),
    ],
)
def test_round_trip(header, changes, colours, size):
    header = replace(header, **changes)
    areas = flat.Flat(np.array(colours, np.int32), MAP)
    payload = flat.to_payload(areas, header.bits, header.signed)
    back = flat.from_payload(payload, header)
    np.testing.assert_array_equal(back.colours, areas.colours)
    np.testing.assert_array_equal(back.map, MAP)
    assert payload[0] == 2
    stored = (
        areas.colours.astype(f"<i{size}") if header.signed else areas.colours.astype(f"<u{size}")
    )
    assert payload[1 : 1 + stored.nbytes] == stored.tobytes()


@pytest.mark.parametrize(
    ("colour", "bits", "signed"), [(256, 8, False), (-1, 16, False), (40000, 16, True)]
)
def test_a_colour_that_does_not_fit(colour, bits, signed):
    areas = flat.Flat(np.array([[colour]], np.int32), np.ones((2, 2), np.uint8))
    with pytest.raises(InputError, match="does not fit"):
        flat.to_payload(areas, bits, signed)


@pytest.fixture
def payload():
    return flat.to_payload(flat.Flat(np.array([[10], [250]], np.int32), MAP), 8, False)


@pytest.mark.parametrize("length", range(7))
def test_too_short(header, payload, length):
    with pytest.raises(TruncatedError):
        flat.from_payload(payload[:length], header)


@pytest.mark.parametrize("count", [0, 9, 255])
def test_number_of_colours(header, payload, count):
    with pytest.raises(FormatError, match="flat colours"):
        flat.from_payload(bytes([count]) + payload[1:], header)


def test_a_colour_out_of_range(header, payload):
    with pytest.raises(FormatError, match="range, 11 to 255"):
        flat.from_payload(payload, replace(header, lo=11))
    with pytest.raises(FormatError, match="range, 0 to 249"):
        flat.from_payload(payload, replace(header, hi=249))


@pytest.mark.parametrize("at", [1, 2])
def test_another_colour(header, payload, at):
    """The checksum covers the colours too: they change pixels as the map does."""
    damaged = bytearray(payload)
    damaged[at] ^= 1
    with pytest.raises(ChecksumError):
        flat.from_payload(bytes(damaged), header)


def test_every_bit(header, payload):
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            flat.from_payload(bytes(damaged), header)


@pytest.mark.parametrize(
    ("lo", "hi"), [(0, 255), (-1024, 3071), (0, 65535), (5, 5), (-32768, 32767)]
)
def test_painted_colours_are_exact(lo, hi):
    """Through planes of floats and back, as samples are made of them."""
    colours = np.linspace(lo, hi, 8).astype(np.int32)[:, None]
    map = np.arange(9, dtype=np.uint8).reshape(3, 3)
    planes = np.full((1, 3, 3), 0.25, np.float32)
    painted = flat.paint(planes, flat.Flat(colours, map), lo, hi)
    assert painted.dtype == np.float32
    samples = lo + np.rint(painted * np.float32(hi - lo)).astype(int)
    assert painted[0, 0, 0] == np.float32(0.25)
    np.testing.assert_array_equal(samples.ravel()[1:], colours[:, 0])


def test_painting_colours(header):
    areas = flat.Flat(np.array([[0, 128, 255]], np.int32), np.array([[0, 1]], np.uint8))
    painted = flat.paint(np.full((3, 1, 2), 0.5, np.float32), areas, 0, 255)
    np.testing.assert_array_equal(painted[:, 0, 0], [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(np.rint(painted[:, 0, 1] * 255), [0, 128, 255])
