"""The residual coder: round trips within the bound, hostile lanes, and its tables."""

import re
from decimal import ROUND_FLOOR, Decimal, getcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvmic_codec.bitstream import plane, residual, residualcoder
from mvmic_codec.bitstream.residual import Kind
from mvmic_codec.errors import ChecksumError, FormatError, InputError, TruncatedError

TABLES = Path(__file__).parents[2] / "csrc/common/residual_tables.h"


def picture(height, width, planes=1, noise=2.0, high=255, seed=0):
    """A smooth image with an edge and noise [P,H,W], 0 to high."""
    rng = np.random.default_rng(seed)
    i, j = np.mgrid[0:height, 0:width]
    smooth = 0.5 + 0.3 * np.sin(i / 9 + j / 23) + 0.15 * (np.hypot(i - 20, j - 30) < 14)
    image = smooth * high + rng.normal(0, noise, (planes, height, width))
    return np.clip(np.round(image), 0, high).astype(np.int32)


def blurred(image):
    """A base for an image: the mean of each 4x4 block."""
    planes, height, width = image.shape
    blocks = np.add.reduceat(np.add.reduceat(image, range(0, height, 4), 1), range(0, width, 4), 2)
    counts = np.add.reduceat(np.add.reduceat(np.ones_like(image), range(0, height, 4), 1),
                             range(0, width, 4), 2)  # fmt: skip
    mean = (blocks // counts).repeat(4, 1).repeat(4, 2)
    return np.ascontiguousarray(mean[:, :height, :width].astype(np.int32))


def check(image, low, high, bound, base=None, mask=None):
    """The lane of an image, which comes back within the bound."""
    lane, told = residualcoder.encode(image, low, high, bound, base, mask)
    assert len(lane) % 4 == 0
    back = residualcoder.decode(lane, *image.shape, low, high, bound, base, mask)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, told)
    coded = np.ones(image.shape[1:], bool) if mask is None else mask != 0
    assert np.abs(back - image)[:, coded].max(initial=0) <= bound
    if mask is not None:
        np.testing.assert_array_equal(back[:, ~coded], base[:, ~coded])
    return lane


@st.composite
def cases(draw):
    """Images of all sizes, ranges and kinds, with all that may go with them."""
    planes = draw(st.sampled_from([1, 1, 3]))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    low = draw(st.integers(-32768, 65535))
    widest = min(65535 - low, 65535 if planes == 1 else 255)
    high = low + draw(st.one_of(st.integers(0, min(widest, 255)), st.integers(0, widest)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (planes, height, width)

    def drawn():
        kind = draw(st.sampled_from(["noise", "slope", "extremes", "constant"]))
        if kind == "noise":
            return rng.integers(low, high + 1, shape)
        if kind == "slope":
            i, j = np.mgrid[0:height, 0:width]
            return low + (i * rng.integers(0, 99) + j * 3 + rng.integers(0, 3, shape)) % (
                high - low + 1
            )
        if kind == "extremes":
            return np.where(rng.random(shape) < 0.5, low, high)
        return np.full(shape, rng.integers(low, high + 1))

    image = drawn().astype(np.int32)
    base = drawn().astype(np.int32) if draw(st.booleans()) else None
    mask = None
    if base is not None and draw(st.booleans()):
        mask = (rng.random((height, width)) < 0.6).astype(np.uint8)
    bound = draw(st.sampled_from([0, 0, 1, 2, 3, 9, 1000, residualcoder.BOUND_MAX]))
    return image, low, high, bound, base, mask


@given(cases())
@settings(max_examples=250, deadline=None)
def test_round_trip(case):
    check(*case)


@pytest.mark.parametrize("bound", [0, 1, 5])
@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("with_base", [False, True])
def test_pictures(planes, bound, with_base):
    image = picture(70, 90, planes)
    check(image, 0, 255, bound, blurred(image) if with_base else None)


def test_sixteen_bits_of_noise():
    """Nothing can be said about such samples, and saying it costs next to nothing."""
    rng = np.random.default_rng(1)
    image = rng.integers(-32768, 32768, (1, 100, 100)).astype(np.int32)
    assert len(check(image, -32768, 32767, 0)) * 8 < 16.4 * 100 * 100


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_constant_costs_next_to_nothing(value):
    image = np.full((1, 500, 400), value, np.int32)
    assert len(check(image, 0, 255, 0)) < 200
    assert len(check(image, value, value, 0)) == 0


def test_a_base_that_is_the_image_costs_next_to_nothing():
    image = picture(200, 200)
    assert len(check(image, 0, 255, 0, base=image)) < 0.02 * len(check(image, 0, 255, 0))


def test_noise_costs_its_entropy():
    """Gaussian noise of 2 levels has 3.05 bits a sample; what is learned costs some more."""
    image = picture(256, 256, noise=2.0)
    assert 3.0 < len(check(image, 0, 255, 0)) * 8 / image.size < 3.3


def test_a_bound_saves_bits():
    """Steps of 3 and 5 levels take ln2(3) and ln2(5) bits fewer, where noise is wide."""
    image = picture(200, 200, noise=30.0, high=4000)
    exact, one, two = (len(check(image, 0, 4000, bound)) * 8 / image.size for bound in (0, 1, 2))
    assert exact - one == pytest.approx(np.log2(3), abs=0.06)
    assert exact - two == pytest.approx(np.log2(5), abs=0.06)


def test_colours_that_go_together_cost_little():
    """Three equal planes of noise cost hardly more than one."""
    gray = picture(120, 120, noise=6.0)
    lone = len(check(gray, 0, 255, 0))
    assert len(check(np.repeat(gray, 3, 0), 0, 255, 0)) < 1.03 * lone


def test_where_a_mask_is_0_nothing_is_coded():
    image = picture(128, 128)
    base = blurred(image)
    mask = np.zeros((128, 128), np.uint8)
    assert len(check(image, 0, 255, 0, base, mask)) == 0
    mask[32:64, 40:72] = 1
    part, whole = (len(check(image, 0, 255, 0, base, each)) for each in (mask, mask * 0 + 1))
    assert part < 0.12 * whole


def test_any_words_decode_or_are_refused():
    """What is accepted is what an encoder writes: a lane that is another's is never accepted."""
    rng = np.random.default_rng(3)
    accepted = 0
    for trial in range(300):
        shape = (rng.choice([1, 3]), *rng.integers(1, 5, 2))
        words = rng.integers(0, 2**32, rng.integers(0, 4), np.uint32)
        if trial % 3 == 0:
            words = words >> rng.integers(0, 32)
        bound = int(rng.integers(0, 3))
        data = words.astype("<u4").tobytes()
        try:
            samples = residualcoder.decode(data, *shape, 0, 12, bound)
        except FormatError:
            continue
        accepted += 1
        assert samples.min() >= 0
        assert samples.max() <= 12
        assert residualcoder.encode(samples, 0, 12, bound)[0] == data
    assert accepted


def test_a_changed_lane_gives_samples_in_range():
    image = picture(30, 40, 3)
    lane = bytearray(check(image, 0, 255, 0))
    rng = np.random.default_rng(2)
    for _ in range(60):
        damaged = lane.copy()
        damaged[rng.integers(len(lane))] ^= 1 << rng.integers(8)
        try:
            samples = residualcoder.decode(bytes(damaged), 3, 30, 40, 0, 255, 0)
        except FormatError:
            continue
        assert samples.min() >= 0
        assert samples.max() <= 255


def test_a_cut_lane_is_refused():
    image = picture(30, 40)
    lane = check(image, 0, 255, 0)
    with pytest.raises(TruncatedError, match="whole words"):
        residualcoder.decode(lane[:-1], 1, 30, 40, 0, 255, 0)
    with pytest.raises(FormatError, match="damaged"):
        residualcoder.decode(lane[:-4], 1, 30, 40, 0, 255, 0)
    with pytest.raises(FormatError, match="damaged"):
        residualcoder.decode(lane + bytes(4), 1, 30, 40, 0, 255, 0)


def zeros(*shape, dtype=np.int32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((zeros(3, 3), 0, 255, 0), "planes,H,W"),
        (([[[0]]], 0, 255, 0), "array"),
        ((zeros(2, 3, 3), 0, 255, 0), "1 or 3 planes"),
        ((zeros(1, 0, 3), 0, 255, 0), "empty"),
        ((zeros(1, 3, 3, dtype=np.int64), 0, 255, 0), "int32"),
        ((zeros(1, 3, 3), 1, 255, 0), "not 1 to 255"),
        ((zeros(1, 3, 3) + 256, 0, 255, 0), "not 0 to 255"),
        ((zeros(1, 3, 3), 3, 2, 0), "cannot be 3 to 2"),
        ((zeros(1, 3, 3), -32769, 2, 0), "cannot be"),
        ((zeros(1, 3, 3), 0, 65536, 0), "cannot be"),
        ((zeros(1, 3, 3), -1, 65535, 0), "cannot be"),
        ((zeros(3, 3, 3), 0, 256, 0), "3 planes cannot be"),
        ((zeros(1, 3, 3), 0, 255, -1), "bound"),
        ((zeros(1, 3, 3), 0, 255, 32768), "bound"),
        ((zeros(1, 3, 3), 0, 255, 0, zeros(1, 3, 4)), "base"),
        ((zeros(1, 3, 3), 0, 255, 0, zeros(1, 3, 3) - 1), "the base"),
        ((zeros(1, 3, 3), 0, 255, 0, None, zeros(3, 3, dtype=np.uint8)), "there is none"),
        ((zeros(1, 3, 3), 0, 255, 0, zeros(1, 3, 3), zeros(3, 3)), "mask"),
    ],
)
def test_what_cannot_be_encoded(arguments, message):
    with pytest.raises(InputError, match=message):
        residualcoder.encode(*arguments)


def there_and_back(image, kind, base=None, mask=None):
    """The payload of an image [H,W,C], which comes back within the bound."""
    payload, told = residual.to_payload(image, kind, base, mask)
    back = residual.from_payload(payload, kind, base, mask)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, told)
    coded = np.ones(image.shape[:2], bool) if mask is None else mask
    assert np.abs(back.astype(int) - image)[coded].max(initial=0) <= kind.bound
    if mask is not None:
        np.testing.assert_array_equal(back[~coded], base[~coded])
    return payload


def kind_of(image, bound=0, low=None, high=None):
    bits, signed = 8 * image.dtype.itemsize, image.dtype.kind == "i"
    low = int(image.min()) if low is None else low
    high = int(image.max()) if high is None else high
    return Kind(*image.shape, bits, signed, low, high, bound)


@pytest.mark.parametrize("bound", [0, 1, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_payloads(dtype, bound):
    image = picture(40, 50).transpose(1, 2, 0).astype(dtype) - dtype(3)
    there_and_back(image, kind_of(image, bound, 0 if dtype != np.int16 else -40, 255))
    colours = picture(40, 50, 3).transpose(1, 2, 0).astype(np.uint8)
    there_and_back(colours, kind_of(colours, bound, 0, 255))


@pytest.mark.parametrize("bound", [0, 2, 3, 5, 6, 7, 600])
@pytest.mark.parametrize("with_base", [False, True])
def test_levels_with_gaps(bound, with_base):
    """Values of every third number alone, as of an image whose contrast was stretched."""
    image = (3 * picture(60, 80, high=300).transpose(1, 2, 0) - 200).astype(np.int16)
    base = np.clip(image // 40 * 40 + 21, image.min(), image.max()) if with_base else None
    mask = np.arange(80) % 7 > np.arange(60)[:, None] % 5 if with_base else None
    kind = kind_of(image, bound)
    payload = there_and_back(image, kind, base, mask)
    # With a bound it may pay more to ignore the gaps.
    if bound == 0:
        assert int.from_bytes(payload[4:8], "little") > 0
    if bound == 0 and not with_base:
        dense = picture(60, 80, high=300).transpose(1, 2, 0).astype(np.int16)
        assert len(payload) < 1.05 * len(there_and_back(dense, kind_of(dense)))


def test_levels_that_do_not_pay_are_not_listed():
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 1)).astype(np.uint8)
    payload = there_and_back(image, kind_of(image, 0, 0, 255))
    assert int.from_bytes(payload[4:8], "little") == 0


def test_damaged_payloads_are_refused():
    image = (3 * picture(30, 40, high=200).transpose(1, 2, 0)).astype(np.uint16)
    kind = kind_of(image)
    payload = there_and_back(image, kind)
    length = int.from_bytes(payload[4:8], "little")
    assert length
    for cut in range(0, len(payload), 7):
        with pytest.raises(FormatError):
            residual.from_payload(payload[:cut], kind)
    for at in range(0, len(payload), 11):
        damaged = bytearray(payload)
        damaged[at] ^= 0x10
        with pytest.raises(FormatError):
            residual.from_payload(bytes(damaged), kind)
    with pytest.raises(ChecksumError, match="checksum"):
        residual.from_payload(b"\0\0\0\0" + payload[4:], kind)
    none = plane.to_payload(np.zeros((1, kind.high - kind.low + 1), np.uint8), 2, ordered=False)
    start = payload[:4] + len(none).to_bytes(4, "little")
    with pytest.raises(FormatError, match="no levels"):
        residual.from_payload(start + none + payload[8 + length :], kind)
    colour = Kind(30, 40, 3, 8, False, 0, 255, 0)
    with pytest.raises(FormatError, match="colour"):
        residual.from_payload(payload, colour)


def rounded(value):
    return int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def expected_tables():
    """The formulas of formats/residual.md, to fifty digits."""
    getcontext().prec = 50
    sixteenths = [(Decimal(i) - 192) / 16 for i in range(385)]
    return {
        "LOGISTIC": [min(rounded(65536 / (1 + (-z).exp())), 65535) for z in sixteenths],
        "SOFTPLUS": [rounded(256 * (1 + z.exp()).ln()) for z in sixteenths],
        "LOG_EXPM1_NEAR": [
            rounded(256 * ((Decimal(max(i, 1)) / 256).exp() - 1).ln()) for i in range(256)
        ],
        "LOG_EXPM1_FAR": [
            rounded(256 * ((Decimal(i) / 16).exp() - 1).ln()) for i in range(16, 193)
        ],
    }


@pytest.mark.parametrize("name", ["LOGISTIC", "SOFTPLUS", "LOG_EXPM1_NEAR", "LOG_EXPM1_FAR"])
def test_tables(name):
    text = TABLES.read_text(encoding="utf-8")
    found = re.search(rf"\b{name}\[(\d+)\] = {{([^}}]*)}}", text)
    numbers = [int(each) for each in found[2].split(",") if each.strip()]
    assert int(found[1]) == len(numbers)
    assert numbers == expected_tables()[name]
