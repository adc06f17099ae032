"""The payload of a FLAT chunk, and painting."""

from dataclasses import replace

import numpy as np
import pytest

from mvmic_codec.bitstream import flat
from mvmic_codec.bitstream.header import GRAY_RGB, RGB
from mvmic_codec.decoder.paint import paint
from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

MAP = np.array([[0, 1, 2, 2, 1], [1, 1, 0, 0, 2], [2, 0, 0, 1, 1]], np.uint8)
BLENDS = np.array([[3, 0, 0, 0, 0], [0, 0, 1, 2, 0], [0, 0, 1, 0, 0]], np.uint8)
TWO_FORMS = pytest.mark.parametrize("blends", [None, BLENDS], ids=["form 1", "form 2"])


@TWO_FORMS
@pytest.mark.parametrize(
    ("changes", "colours", "size"),
    [
        ({}, [[0], [255]], 1),
        ({"photometric": RGB}, [[0, 255, 7], [1, 2, 3]], 1),
        ({"photometric": GRAY_RGB}, [[9], [200]], 1),
        ({"bits": 16, "hi": 40000}, [[0], [40000]], 2),
        ({"bits": 16, "signed": True, "lo": -2000, "hi": 3000}, [[-2000], [1]], 2),
        ({"bits": 8, "signed": True, "lo": -100, "hi": 50}, [[-100], [50]], 1),
    ],
)
def test_round_trip(header, changes, colours, size, blends):
    header = replace(header, **changes)
    areas = flat.Flat(np.array(colours, np.int32), MAP, blends)
    payload = flat.to_payload(areas, header.bits, header.signed)
    back = flat.from_payload(payload, header)
    np.testing.assert_array_equal(back.colours, areas.colours)
    np.testing.assert_array_equal(back.map, MAP)
    if blends is None:
        assert payload[0] == 2 and back.blends is None and back.hidden is None
    else:
        assert payload[0] == 130
        np.testing.assert_array_equal(back.blends, BLENDS)
        np.testing.assert_array_equal(back.hidden, MAP > 0)
    stored = (
        areas.colours.astype(f"<i{size}") if header.signed else areas.colours.astype(f"<u{size}")
    )
    assert payload[1 : 1 + stored.nbytes] == stored.tobytes()


@pytest.mark.parametrize(
    ("colour", "bits", "signed"), [(256, 8, False), (-1, 16, False), (40000, 16, True)]
)
def test_a_colour_that_does_not_fit(colour, bits, signed):
    areas = flat.Flat(np.array([[colour]], np.int32), np.ones((2, 2), np.uint8), None)
    with pytest.raises(InputError, match="does not fit"):
        flat.to_payload(areas, bits, signed)


@pytest.fixture(params=[None, BLENDS], ids=["form 1", "form 2"])
def payload(request):
    areas = flat.Flat(np.array([[10], [250]], np.int32), MAP, request.param)
    return flat.to_payload(areas, 8, False)


@pytest.mark.parametrize("length", range(7))
def test_too_short(header, payload, length):
    with pytest.raises(TruncatedError):
        flat.from_payload(payload[:length], header)


def test_every_length(header, payload):
    for length in range(len(payload)):
        with pytest.raises(FormatError):
            flat.from_payload(payload[:length], header)


@pytest.mark.parametrize("count", [0, 9, 127, 128, 137, 255])
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
    ("kind", "lo", "hi"),
    [
        (np.uint8, 0, 255),
        (np.int32, -1024, 3071),
        (np.uint16, 0, 65535),
        (np.uint8, 5, 5),
        (np.int32, -32768, 32767),
    ],
)
def test_painted_colours_are_exact(kind, lo, hi):
    colours = np.linspace(lo, hi, 8).astype(np.int32)[:, None]
    map = np.arange(9, dtype=np.uint8).reshape(3, 3)
    samples = np.full((3, 3, 1), lo + (hi - lo) // 4, kind)
    paint(samples, flat.Flat(colours, map, None))
    assert samples[0, 0, 0] == lo + (hi - lo) // 4
    np.testing.assert_array_equal(samples.ravel()[1:], colours[:, 0])


def test_painting_colours():
    areas = flat.Flat(np.array([[0, 128, 255]], np.int32), np.array([[0, 1]], np.uint8), None)
    samples = np.full((1, 2, 3), 77, np.uint8)
    paint(samples, areas)
    np.testing.assert_array_equal(samples, [[[77, 77, 77], [0, 128, 255]]])


def test_the_example_of_the_specification():
    map = np.array([[0, 0, 0, 1], [0, 2, 1, 1], [1, 1, 1, 1]], np.uint8)
    blends = np.array([[0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(flat.beside(map)[:2], [[2, 2, 1, 0], [2, 0, 0, 0]])
    colours = np.array([[0], [255]], np.int32)
    first = flat.to_payload(flat.Flat(colours, map, None), 8, False)
    second = flat.to_payload(flat.Flat(colours, map, blends), 8, False)
    assert first.hex(" ") == "02 00 ff 2a cd 01 e3 82 2a 57 d2 0c 00 00 00"
    assert second.hex(" ") == (
        "82 00 ff d9 ca a0 de 02 00 00 00 82 2a 57 d2 0c 00 00 00 00 00 0d 00"
    )


def test_words_of_another_number(header):
    """The lanes' border is not covered by their checksum, and need not be."""
    areas = flat.Flat(np.array([[10], [250]], np.int32), MAP, BLENDS)
    payload = flat.to_payload(areas, 8, False)
    (words,) = np.frombuffer(payload[7:11], "<u4")
    for other in (0, words - 1, words + 1, 2**30, 2**32 - 1):
        damaged = payload[:7] + int(other).to_bytes(4, "little") + payload[11:]
        with pytest.raises(FormatError):
            flat.from_payload(damaged, header)


def test_the_first_neighbour_counts():
    order = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
    for first in range(len(order)):
        map = np.zeros((3, 3), np.uint8)
        for later, (down, right) in enumerate(order[first:]):
            map[1 + down, 1 + right] = later + 1
        assert flat.beside(map)[1, 1] == 1
        assert (flat.beside(map)[map > 0] == 0).all()
    assert (flat.beside(np.zeros((3, 3), np.uint8)) == 0).all()


def test_painting_blends():
    """Quarters of the neighbour's colour, to the nearest sample, halves up."""
    colours = np.array([[0, 100, 200], [255, 255, 255]], np.int32)
    map = np.array([[1, 0, 0, 2]], np.uint8)
    blends = np.array([[0, 3, 2, 0]], np.uint8)
    samples = np.full((1, 4, 3), 100, np.uint8)
    paint(samples, flat.Flat(colours, map, blends))
    np.testing.assert_array_equal(samples[0], [[0, 100, 200], [25, 100, 175], [178] * 3, [255] * 3])


@pytest.mark.parametrize(
    ("sample", "colour", "blend", "found"),
    [(-5, -6, 2, -5), (-5, -8, 2, -6), (-32768, 32767, 1, -16384), (7, 4, 1, 6), (7, 5, 1, 7)],
)
def test_blends_of_samples_with_a_sign(sample, colour, blend, found):
    samples = np.array([[[sample], [0]]], np.int32)
    map, blends = np.array([[0, 1]], np.uint8), np.array([[blend, 0]], np.uint8)
    paint(samples, flat.Flat(np.array([[colour]], np.int32), map, blends))
    assert samples.ravel().tolist() == [found, colour]


def test_painting_part_by_part():
    rng = np.random.default_rng(1)
    map = rng.integers(0, 3, (9, 11)).astype(np.uint8) * (rng.random((9, 11)) < 0.3)
    blends = rng.integers(0, 4, (9, 11)).astype(np.uint8) * (flat.beside(map) > 0)
    areas = flat.Flat(rng.integers(0, 256, (2, 3)).astype(np.int32), map, blends)
    samples = rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    whole = samples.copy()
    paint(whole, areas)
    parts = samples.copy()
    for top, bottom in ((0, 1), (1, 5), (5, 9)):
        for left, right in ((0, 4), (4, 10), (10, 11)):
            paint(parts[top:bottom, left:right], areas, top, left)
    assert np.count_nonzero(blends) > 10
    np.testing.assert_array_equal(parts, whole)
