"""Residuals of formats/reference/decode.py, written from formats/residual.md, against the C."""

import re
from pathlib import Path

import decode as reference
import numpy as np
import pytest

import mvmic_codec
from mvmic_codec.bitstream import residual, residualcoder

TEXT = (Path(__file__).parents[2] / "formats/residual.md").read_text(encoding="utf-8")
EXAMPLE = np.array([[[100, 102, 103], [99, 101, 160]]], np.int32)
COLOURS = np.array([[[10, 200]], [[12, 190]], [[9, 210]]], np.int32)
BASE = np.array([[[12, 190]], [[12, 190]], [[12, 200]]], np.int32)
BOUNDS = [0, 1, 3, 7]


def smooth(planes=1, size=(24, 17), noise=3.0, high=255, seed=0):
    """A smooth image with an edge and noise [P,H,W], 0 to high."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[: size[0], : size[1]]
    image = (0.5 + 0.3 * np.sin(i / 5 + j / 9) + 0.15 * (i + 2 * j > 30)) * high
    return np.clip(image + rng.normal(0, noise, (planes, *size)), 0, high)


def images():
    """Images of one plane and their range."""
    rng = np.random.default_rng(1)
    return {
        "smooth": (smooth(), 0, 255),
        "grain": (smooth(size=(50, 40), noise=12.0), 0, 255),
        "12 bits": (smooth(high=4000) - 1000, -1000, 3000),
        "noise": (rng.integers(-32768, 32768, (1, 24, 17)), -32768, 32767),
        "extremes": (rng.choice([-32768, 32767], (1, 24, 17)), -32768, 32767),
        "outliers": (np.where(rng.random((1, 24, 17)) < 0.05, 65535, smooth()), 0, 65535),
        "constant": (np.full((1, 24, 17), 77), 0, 255),
        "one value": (np.full((1, 24, 17), 77), 77, 77),
        "two values": (rng.integers(4, 6, (1, 24, 17)), 4, 5),
        "pixel": (np.full((1, 1, 1), 200), 0, 255),
        "row": (smooth(size=(1, 40)), 0, 255),
        "column": (smooth(size=(40, 1)), 0, 255),
    }


def agree(image, low, high, bound, base=None, mask=None):
    """The lane of an image, of which both decoders make the same samples."""
    image, base = (
        None if each is None else np.round(each).astype(np.int32) for each in (image, base)
    )
    lane, told = residualcoder.encode(image, low, high, bound, base, mask)
    planes, height, width = image.shape
    found = reference.decode_residual(lane, height, width, planes, bound, low, high, base, mask)
    np.testing.assert_array_equal(found, told)
    np.testing.assert_array_equal(
        residualcoder.decode(lane, planes, height, width, low, high, bound, base, mask), told
    )
    return lane


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("name", images())
def test_gray(name, bound):
    agree(*images()[name], bound)


@pytest.mark.parametrize("bound", [1000, residualcoder.BOUND_MAX])
def test_wide_bounds(bound):
    agree(*images()["noise"], bound)


@pytest.mark.parametrize("bound", [0, 3])
@pytest.mark.parametrize("name", images())
def test_gray_with_a_base_and_a_mask(name, bound):
    image, low, high = images()[name]
    rng = np.random.default_rng(2)
    base = np.clip(image + rng.normal(0, 5, image.shape), low, high)
    agree(image, low, high, bound, base)
    mask = (rng.random(image.shape[1:]) < 0.7).astype(np.uint8)
    agree(image, low, high, bound, base, mask)
    assert agree(image, low, high, bound, base, 0 * mask) == b""


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("size", [(24, 17), (1, 1), (1, 30), (30, 1)])
def test_colours(size, bound):
    image = smooth(3, size) * [[[0.9]], [[1.0]], [[0.7]]]
    rng = np.random.default_rng(3)
    base = np.clip(image + rng.normal(0, 5, image.shape), 0, 255)
    mask = (rng.random(size) < 0.7).astype(np.uint8)
    agree(image, 0, 255, bound)
    agree(image - 128, -128, 127, bound)
    agree(image, 0, 255, bound, base)
    agree(image, 0, 255, bound, base, mask)


DAMAGES = {
    "cut": ("TruncatedError", lambda lane: lane[:-1]),
    "a word less": ("FormatError", lambda lane: lane[:-4]),
    "a word more": ("FormatError", lambda lane: b"1234" + lane),
    "ends in 0": ("FormatError", lambda lane: lane + bytes(4)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_lanes_are_refused_alike(name):
    expected, damage = DAMAGES[name]
    lane = damage(agree(smooth(), 0, 255, 0))
    with pytest.raises(reference.MvmError) as ours:
        reference.decode_residual(lane, 24, 17, 1, 0, 0, 255)
    with pytest.raises(mvmic_codec.MvmError) as theirs:
        residualcoder.decode(lane, 1, 24, 17, 0, 255, 0)
    assert [caught.type.__name__ for caught in (ours, theirs)] == [expected] * 2


@pytest.mark.parametrize("planes", [1, 3])
def test_no_words_are_no_to_all_questions(planes):
    base = np.round(smooth(planes)).astype(np.int32)
    for given in (None, base):
        found = reference.decode_residual(b"", 24, 17, planes, 0, 0, 255, given)
        assert (found == (128 if given is None else base)).all()
        again = residualcoder.decode(b"", planes, 24, 17, 0, 255, 0, given)
        np.testing.assert_array_equal(found, again)


# --- The example of the page ----------------------------------------------------------------------


def test_lanes_of_the_example():
    mask = np.array([[0, 1]], np.uint8)
    expected = [
        agree(EXAMPLE, 0, 255, 0),
        agree(EXAMPLE, 0, 255, 1),
        agree(COLOURS, 0, 255, 0),
        agree(COLOURS, 0, 255, 0, BASE),
        agree(COLOURS, 0, 255, 0, BASE, mask),
    ]
    lanes = [bytes.fromhex(each) for each in re.findall(r"`((?:[0-9a-f]{2}\s){3,}\w\w)`", TEXT)]
    assert lanes == expected
    samples = reference.decode_residual(lanes[1], 2, 3, 1, 1, 0, 255)
    assert samples.tolist() == [[[101, 102, 102], [99, 101, 159]]]
    assert "    101 102 102\n     99 101 159\n" in TEXT


def test_steps_of_the_example(monkeypatch):
    """Every number in both tables, and the weights between them."""
    samples, answers, weights = [], [], []

    def watch(owner, name, after):
        method = getattr(owner, name)

        def watched(self, *arguments):
            result = method(self, *arguments)
            after(self, result, *arguments)
            return result

        monkeypatch.setattr(owner, name, watched)

    watch(reference.FlatLane, "take", lambda _, yes, p: answers.append([p, ["no", "yes"][yes]]))
    watch(
        reference.Questions,
        "ask",
        lambda _, yes, keys, number, estimate: answers[-1].extend([number, estimate]),
    )
    watch(
        reference.Questions,
        "ask_plain",
        lambda _, yes, estimate: answers[-1].extend(["plain", estimate]),
    )
    watch(
        reference.Questions,
        "distance",
        lambda _, d, up, down, keys, of: samples.append(
            [of.m, (of.m + 32) >> 6, of.S, *keys.mixers[0], up, down, d]
        ),
    )
    watch(reference.ResidualPlane, "value", lambda _, result, x, y: samples[-1].extend(result))
    watch(reference.Fit, "learn", lambda fit, *_: weights.append(fit.w[1::4].tolist()))
    agree(EXAMPLE, 0, 255, 0)

    rows = re.findall(r"^\| \d, \d \|(.*) \|$", TEXT, re.MULTILINE)
    rows = [[cell.strip() for cell in row.split("|")] for row in rows]
    assert rows[:6] == [[str(number) for number in row] for row in samples]
    assert rows[6:] == [
        [str(number), str(estimate), str(p), yes] for p, yes, number, estimate in answers
    ]
    numbers = ", ".join(map(str, weights[1][:-1])) + f" and {weights[1][-1]}"
    assert f"inputs 1, 5, 9, 13 and 17 are {numbers}." in re.sub(r"\s+", " ", TEXT)
    assert weights[0] == [32768, 0, 0, 0, 0]


@pytest.mark.parametrize("bound", [0, 1, 4, 9])
@pytest.mark.parametrize("under", [False, True], ids=["alone", "on a base"])
@pytest.mark.parametrize("gap", [1, 4])
def test_payloads(gap, under, bound):
    """Those with levels and those without, of signed samples of 16 bits."""
    image = (gap * smooth(high=60).astype(np.int16) - 90).transpose(1, 2, 0)
    base = np.clip(image // 30 * 30 + 7, -90, 200) if under else None
    mask = np.arange(17) % 5 > np.arange(24)[:, None] % 3 if under else None
    kind = residual.Kind(24, 17, 1, 16, True, -90, max(200, int(image.max())), bound)
    payload, told = residual.to_payload(image, kind, base, mask)
    if bound == 0:
        assert (payload[4:8] != bytes(4)) == (gap > 1)
    back = reference.read_residual(
        payload,
        24,
        17,
        1,
        16,
        True,
        bound,
        -90,
        kind.high,
        base,
        None if mask is None else mask * 1,
    )
    np.testing.assert_array_equal(back, told)


def test_colour_payloads():
    image = smooth(3).transpose(1, 2, 0).astype(np.uint8)
    kind = residual.Kind(24, 17, 3, 8, False, 0, 255, 1)
    payload, told = residual.to_payload(image, kind)
    read = reference.read_residual(payload, 24, 17, 3, 8, False, 1, 0, 255)
    np.testing.assert_array_equal(read, told)
    with pytest.raises(reference.ChecksumError):
        reference.read_residual(b"\0\0\0\0" + payload[4:], 24, 17, 3, 8, False, 1, 0, 255)
    with pytest.raises(reference.FormatError):
        reference.read_residual(
            payload[:4] + b"\4\0\0\0" + payload[8:], 24, 17, 3, 8, False, 1, 0, 255
        )
    with pytest.raises(reference.TruncatedError):
        reference.read_residual(payload[:7], 24, 17, 3, 8, False, 1, 0, 255)
