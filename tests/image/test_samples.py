import numpy as np
import pytest
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.image import indexed, samples
from mvmic_codec.image.indexed import Indexed
from mvmic_codec.image.outliers import range_without_outliers

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
CT = np.linspace(-1024, 3071, 16 * 24).round().astype(np.int16).reshape(16, 24)


def to_image(result):
    """What a decoder without loss would show."""
    values = np.rint(result.planes * np.float32(result.hi - result.lo)).astype(np.int32) + result.lo
    values = values[0] if len(values) == 1 else values.transpose(1, 2, 0)
    kind = samples.array_type(result.bits, result.signed)
    return Image.fromarray(np.ascontiguousarray(values, kind))


def round_trip(image):
    return to_image(samples.from_input(image))


def assert_same(image, expected, mode):
    assert image.mode == mode
    assert np.array_equal(np.asarray(image), expected)


def test_gray():
    result = samples.from_input(Image.fromarray(RAMP))
    assert result.planes.shape == (1, 16, 16)
    assert result.planes.dtype == np.float32
    assert result.planes.flags.c_contiguous
    assert (result.planes.min(), result.planes.max()) == (0, 1)
    assert (result.bits, result.signed, result.lo, result.hi) == (8, False, 0, 255)
    assert_same(to_image(result), RAMP, "L")


def test_colour():
    result = samples.from_input(Image.fromarray(COLOUR))
    assert result.planes.shape == (3, 16, 16)
    assert np.array_equal(result.planes[1] * 255, RAMP.T)
    assert_same(to_image(result), COLOUR, "RGB")


def test_8_bit_range_does_not_depend_on_the_image():
    result = samples.from_input(np.full((4, 4), 7, np.uint8))
    assert (result.lo, result.hi) == (0, 255)


def test_bilevel():
    bits = RAMP > 100
    for given in (Image.fromarray(bits), bits, bits[:, :, None]):
        result = samples.from_input(given)
        assert isinstance(result, Indexed)
        assert np.array_equal(result.indices, bits)
        assert (result.colours.tolist(), result.bits) == ([[0], [1]], 1)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_16_bit_in_every_byte_order(mode):
    values = RAMP.astype(np.uint16) * 13 + 49
    raw = values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    image = Image.frombytes(mode, (16, 16), raw)
    result = samples.from_input(image)
    assert (result.bits, result.signed, result.lo, result.hi) == (16, False, 49, 3364)
    assert_same(to_image(result), values, "I;16")


def test_every_16_bit_value_survives():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert_same(round_trip(values), values, "I;16")
    signed = values.astype(np.int32) - 32768
    assert_same(round_trip(signed.astype(np.int16)), signed, "I")


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_array_in_both_byte_orders(dtype):
    values = (RAMP.astype(np.uint16) * 16).astype(dtype)
    assert_same(round_trip(values), values, "I;16")


@pytest.mark.parametrize("value", [0, 1, 40000, 65535])
def test_constant_16_bit_image(value):
    result = samples.from_input(np.full((3, 5), value, np.uint16))
    assert result.lo == result.hi == value
    assert not result.planes.any()
    assert_same(to_image(result), np.full((3, 5), value), "I;16")


def test_range_that_uses_few_bits_stays_16_bit():
    assert round_trip(np.array([[3, 9]], np.uint16)).mode == "I;16"


def test_signed_ct():
    result = samples.from_input(CT)
    assert (result.bits, result.signed, result.lo, result.hi) == (16, True, -1024, 3071)
    assert_same(to_image(result), CT, "I")


def test_sign_of_narrow_types_does_not_depend_on_the_image():
    assert samples.from_input(np.abs(CT)).signed
    assert samples.from_input(np.array([[-5, 5]], np.int8)).signed


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_wider_integers_that_fit(dtype):
    values = np.arange(0, 65536, 4369).astype(dtype)[None]
    assert_same(round_trip(values), values, "I;16")
    with pytest.raises(InputError, match="16 bits"):
        samples.from_input(values + dtype(1))


def test_mode_i():
    assert_same(round_trip(Image.fromarray(CT.astype(np.int32))), CT, "I")
    assert_same(round_trip(Image.fromarray(RAMP.astype(np.int32) * 200)), RAMP * 200.0, "I;16")
    for values in ([[-1, 32768]], [[0, 65536]], [[-32769, 0]]):
        with pytest.raises(InputError, match="16 bits"):
            samples.from_input(Image.fromarray(np.array(values, np.int32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_in_0_to_1(dtype):
    values = (RAMP / 255).astype(dtype)
    assert_same(round_trip(values), RAMP, "L")
    assert_same(round_trip((COLOUR / 255).astype(dtype)), COLOUR, "RGB")


def test_float_is_not_rounded_before_the_model_sees_it():
    result = samples.from_input(np.full((2, 2), 0.123456))
    assert result.planes[0, 0, 0] == np.float32(0.123456)


def test_mode_f():
    assert_same(round_trip(Image.fromarray((RAMP / 255).astype(np.float32))), RAMP, "L")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value):
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = value
    for image in (values, Image.fromarray(values), np.stack([values] * 3, -1)):
        with pytest.raises(InputError, match="NaN or infinite"):
            samples.from_input(image)


@pytest.mark.parametrize("values", [[[0.0, 255.0]], [[-1024.0, 0.5]], [[0.0, 1.0001]]])
def test_float_outside_0_to_1(values):
    for image in (np.array(values), Image.fromarray(np.array(values, np.float32))):
        with pytest.raises(InputError, match="0 to 1"):
            samples.from_input(image)


def test_palettes():
    noise = np.random.default_rng(0).integers(0, 64, (64, 64), np.uint8)
    image = Image.fromarray(noise)
    image.putpalette([i * 7 % 256 for i in range(3 * 256)])
    assert_same(round_trip(image), np.asarray(image.convert("RGB")), "RGB")
    gray = Image.fromarray(noise)
    gray.putpalette([255 - i for i in range(256) for _ in range(3)])
    assert gray.mode == "P"
    assert_same(round_trip(gray), 255 - noise, "L")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX"])
def test_colour_spaces_are_converted(mode):
    image = Image.fromarray(COLOUR).convert(mode)
    assert_same(round_trip(image), np.asarray(image.convert("RGB")), "RGB")


def test_lab_is_refused():
    with pytest.raises(InputError, match="mode LAB"):
        samples.from_input(Image.new("LAB", (2, 2)))


@pytest.mark.parametrize(
    ("mode", "expected"), [("RGBA", "RGB"), ("RGBa", "RGB"), ("LA", "L"), ("La", "L")]
)
def test_alpha_is_dropped_only_where_opaque(mode, expected):
    image = Image.fromarray(COLOUR).convert(mode.upper())
    holed = image.copy()
    holed.putpixel((3, 4), (*holed.getpixel((3, 4))[:-1], 254))
    plain = np.asarray(image.convert(expected))
    assert samples.from_input(image.convert(mode)).alpha is None
    assert_same(round_trip(image.convert(mode)), plain, expected)
    result = samples.from_input(holed.convert(mode))
    assert result.alpha.shape == (16, 16)
    assert result.alpha[4, 3] == 254 and result.alpha.sum() == 255 * 255 + 254
    assert result.channels == len(expected)


def test_palette_with_alpha():
    image = Image.fromarray(COLOUR).quantize(16).convert("PA")
    assert samples.from_input(image).channels == 3
    image.putalpha(100)
    assert (samples.from_input(image).alpha == 100).all()


@pytest.mark.parametrize(
    ("image", "used", "unused", "at"),
    [
        (Image.fromarray(RAMP // 2), 7, 200, RAMP // 2 == 7),
        (Image.fromarray(COLOUR), (0, 0, 255), (1, 1, 1), RAMP < 1),
    ],
    ids=["L", "RGB"],
)
def test_transparent_value(image, used, unused, at):
    image = image.copy()
    plain = round_trip(image)
    image.info["transparency"] = unused
    assert round_trip(image) == plain
    image.info["transparency"] = used
    assert np.array_equal(samples.from_input(image).alpha == 0, at)


def test_transparent_value_of_16_bits_is_refused():
    image = Image.fromarray(RAMP.astype(np.uint16))
    image.info["transparency"] = 300
    assert samples.from_input(image).alpha is None
    image.info["transparency"] = 7
    with pytest.raises(InputError, match="transparency"):
        samples.from_input(image)


def test_arrays_with_alpha():
    rgba = np.dstack([COLOUR, np.full_like(RAMP, 255)])
    assert_same(round_trip(rgba), COLOUR, "RGB")
    assert_same(round_trip(rgba[:, :, 2:]), COLOUR[:, :, 2], "L")
    assert_same(round_trip(rgba / 255), COLOUR, "RGB")
    rgba[0, 0, 3] = 77
    for given in (rgba, rgba / 255, rgba[:, :, 2:]):
        result = samples.from_input(given)
        assert result.alpha[0, 0] == 77 and (result.alpha[1:] == 255).all()


def test_single_channel_dimension():
    assert_same(round_trip(RAMP[:, :, None]), RAMP, "L")


def test_arrays_that_are_views():
    assert_same(round_trip(COLOUR[::-1, ::2]), COLOUR[::-1, ::2], "RGB")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (0, 4, 3)])
def test_zero_sized_array(shape):
    for dtype in (np.uint8, np.uint16, np.float32):
        with pytest.raises(InputError, match="empty"):
            samples.from_input(np.zeros(shape, dtype))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "F", "1"])
def test_zero_sized_image(mode):
    for size in ((0, 5), (5, 0), (0, 0)):
        with pytest.raises(InputError, match="empty"):
            samples.from_input(Image.new(mode, size))


@pytest.mark.parametrize("shape", [(), (4,), (1, 4, 4, 3), (4, 4, 5), (3, 4, 9), (4, 4, 0)])
def test_wrong_shape(shape):
    with pytest.raises(InputError, match="shape"):
        samples.from_input(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.complex64, object, "S1", "U1", "M8[s]", "V3", "u1,<u2"])
def test_wrong_type(dtype):
    with pytest.raises(InputError, match="array of"):
        samples.from_input(np.zeros((2, 2), dtype))


def test_deep_colour_is_refused():
    with pytest.raises(InputError, match="uint8"):
        samples.from_input(COLOUR.astype(np.uint16))


class Lazy:
    """Something that can become an array, as of dask or torch: what it costs is its owner's."""

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("was computed")


@pytest.mark.parametrize("thing", [None, b"bytes", "path.png", [[1, 2]], 3, np.uint8(3), Lazy()])
def test_neither_image_nor_array(thing):
    with pytest.raises(InputError, match=type(thing).__name__):
        samples.from_input(thing)


def test_masked_array():
    mask = np.zeros(RAMP.shape, bool)
    assert_same(round_trip(np.ma.masked_array(RAMP, mask)), RAMP, "L")
    assert_same(round_trip(np.ma.masked_array(RAMP)), RAMP, "L")
    mask[2, 3] = mask[2, 4] = True
    for values in (RAMP, RAMP / 255, CT[:16, :16], RAMP[:, :, None]):
        with pytest.raises(InputError, match="2 samples of the array are masked, .*filled"):
            samples.from_input(np.ma.masked_array(values, mask.reshape(values.shape)))


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_subclasses_of_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "ramp", np.uint8, "w+", shape=RAMP.shape)
    mapped[:] = RAMP
    for array in (np.matrix(RAMP), mapped, RAMP.view(np.recarray)):
        assert_same(round_trip(array), RAMP, "L")
    assert_same(round_trip(np.matrix(CT)), CT, "I")


def test_arrays_of_other_memory():
    """Byte orders, read-only arrays, steps backwards or of no bytes at all."""
    for dtype in (">f4", ">f8", "f2", "g"):
        assert_same(round_trip((RAMP / 255).astype(dtype)), RAMP, "L")
    for dtype in (">i2", ">i4", ">i8"):
        assert_same(round_trip(CT.astype(dtype)), CT, "I")
    fixed = COLOUR.copy()
    fixed.flags.writeable = False
    assert_same(round_trip(fixed[::-1, ::-1, ::-1]), COLOUR[::-1, ::-1, ::-1], "RGB")
    assert_same(round_trip(np.broadcast_to(RAMP[:, :1], (16, 9))), RAMP[:, :1].repeat(9, 1), "L")
    assert_same(round_trip(np.asfortranarray(COLOUR)), COLOUR, "RGB")


def test_palette_with_a_profile(monkeypatch):
    """A profile for RGB belongs to the colours of a palette, gray or not."""
    monkeypatch.setattr(indexed, "PALETTE_BYTES_MAX", 0)
    image = Image.fromarray(RAMP).convert("P")
    assert len(samples.from_input(image).planes) == 1
    for space, planes in ((b"RGB ", 3), (b"GRAY", 1), (b"CMYK", 1)):
        image.info["icc_profile"] = bytes(16) + space + bytes(20)
        assert len(samples.from_input(image).planes) == planes
        assert len(samples.from_input(Image.fromarray(RAMP)).planes) == 1


def test_input_is_not_changed():
    values = CT.copy()
    samples.from_input(values)
    assert np.array_equal(values, CT)


def test_1x1():
    for value in (np.uint8(3), np.uint16(300), np.int16(-3)):
        assert np.asarray(round_trip(np.full((1, 1), value))).item() == value


def psnr(original, planes):
    return samples.psnr_of(*original.error(planes))


def test_psnr():
    original = samples.from_input(np.zeros((10, 10), np.uint8))
    planes = original.planes.copy()
    assert psnr(original, planes) == float("inf")
    planes += np.float32(0.3 / 255)
    assert psnr(original, planes) == float("inf")
    planes[0, 0, 0] = 1 / 255
    assert psnr(original, planes) == pytest.approx(20 * np.log10(255) + 20, abs=1e-4)


def test_psnr_of_16_bits_is_relative_to_the_range():
    original = samples.from_input(np.array([[100, 200]], np.uint16))
    off_by_one = original.planes + np.float32([[[0.01, 0]]])
    assert psnr(original, original.planes) == float("inf")
    assert psnr(original, off_by_one) == pytest.approx(40 + 10 * np.log10(2), abs=1e-4)
    constant = samples.from_input(np.full((2, 2), 9, np.uint16))
    assert psnr(constant, constant.planes) == float("inf")


def test_psnr_leaves_out_what_is_transparent_and_outliers():
    rgba = np.dstack([COLOUR, np.where(RAMP < 64, 0, 255).astype(np.uint8)])
    original = samples.from_input(rgba)
    planes = original.planes.copy()
    planes[:, :4] = 0
    assert original.error(planes) == (0.0, 3 * 192)
    deep = CT.copy()
    deep[3, 4] = 30000
    original = samples.from_input(deep)
    planes = original.planes.copy()
    planes[0, 3, 4] = 0
    assert original.error(planes) == (0.0, deep.size)


def test_outliers_do_not_stretch_the_range():
    plain = samples.from_input(CT)
    assert plain.outliers is None
    deep = CT.copy()
    deep[:4] = -32768
    deep[9, 9] = 31000
    result = samples.from_input(deep)
    assert (result.lo, result.hi) == (int(CT[4:].min()), 3071)
    assert np.array_equal(result.outliers, (deep == -32768) | (deep == 31000))
    assert result.planes.min() == 0 and result.planes.max() == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Of two values the rarer is the outlier, so that both are exact.
        ([0, 1000], (1000, 1000)),
        ([0, 1000, 1000], (1000, 1000)),
        ([0, 0, 1000], (0, 0)),
        ([*[1000] * 339, 65535], (1000, 1000)),
        ([0, 100], (0, 100)),
        ([0, 1, 2, 3], (0, 3)),
        ([7, 7, 7], (7, 7)),
        ([0, *range(1000, 1100)], (1000, 1099)),
        ([0, *range(150, 250)], (0, 249)),
        ([*range(100), 60000], (0, 99)),
        ([0, *range(300, 500)], (300, 499)),
        # Two values beyond the gap, and each of many pixels: a picture in two parts.
        ([*[0, 1] * 50, *range(1000, 1100)], (0, 1099)),
        # The gap is narrow.
        ([0, *range(90, 500)], (0, 499)),
        # Padding and a dead pixel on the same side, in either order, and gaps that grow or shrink.
        ([*range(1000, 2000), *[60000] * 500, 65535], (1000, 1999)),
        ([*range(1000, 2000), 60000, *[65535] * 500], (1000, 1999)),
        ([*[0] * 500, 40000, *range(60000, 61000)], (60000, 60999)),
        ([*[0] * 500, 20000, *range(60000, 61000)], (60000, 60999)),
    ],
)
def test_range_without_outliers(values, expected):
    assert range_without_outliers([np.array([values], np.uint16)]) == expected


def test_range_of_frames_together():
    padding = np.full((1, 500), -32768, np.int16)
    body = np.arange(-1000, 0, dtype=np.int16)[None]
    assert range_without_outliers([body, padding]) == (-1000, -1)
    assert range_without_outliers([padding, padding]) == (-32768, -32768)


def test_parts_have_the_range_of_the_whole():
    whole = samples.from_input(CT)
    part = whole.part(2, 3, 5, 7)
    assert np.array_equal(part.planes, whole.planes[:, 2:7, 3:10])
    assert (part.lo, part.hi, part.size) == (whole.lo, whole.hi, (5, 7))
