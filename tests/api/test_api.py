import dataclasses
import io
import pathlib
import sys

import numpy as np
import one_tile
import pytest
from PIL import Image

import mvmic_codec
from mvmic_codec import FormatError, InputError, ModelError, MvmError, TruncatedError
from mvmic_codec.errors import needs_torch

pytestmark = pytest.mark.usefixtures("fake_codec")

NOISE = np.random.default_rng(5).integers(0, 256, (24, 20, 3), dtype=np.uint8)
CT = np.random.default_rng(6).integers(-1024, 3072, (9, 7)).astype(np.int16)


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (NOISE, "RGB"),
        (NOISE[:, :, 0], "L"),
        (NOISE[:, :, 0].astype(np.uint16) * 9, "I;16"),
        (CT, "I"),
    ],
)
def test_round_trip(image, mode):
    decoded = mvmic_codec.decode(mvmic_codec.encode(image, rate_index=63))
    assert decoded.mode == mode
    assert decoded.size == image.shape[1::-1]
    span = int(image.max()) - int(image.min())
    error = np.abs(np.asarray(decoded).astype(int) - image)
    assert error.max() <= span / 65535 + 0.5


def test_header():
    header = mvmic_codec.read_header(mvmic_codec.encode(CT, quality=2))
    assert (header.width, header.height, header.channels) == (7, 9, 1)
    assert (header.bits, header.signed) == (16, True)
    assert (header.lo, header.hi) == (CT.min(), CT.max())
    assert (header.rate_index, header.model) == (9, "mvmic-9g")
    assert mvmic_codec.read_header(mvmic_codec.encode(NOISE)).photometric == 2


def test_equal_channels_cost_no_more_than_one():
    gray = NOISE[:, :, 0]
    data = mvmic_codec.encode(gray[:, :, None].repeat(3, axis=2), rate_index=63)
    header = mvmic_codec.read_header(data)
    assert (header.photometric, header.channels) == (3, 3)
    assert len(data) == len(mvmic_codec.encode(gray, rate_index=63))
    decoded = mvmic_codec.decode(data)
    assert decoded.mode == "RGB"
    assert (np.asarray(decoded) == np.asarray(decoded)[:, :, :1]).all()


def test_a_thin_image_is_measured_with_its_margins(header):
    """One pixel wide is 64 to decode: 1 x 3 million is above Pillow's limit."""
    thin = dataclasses.replace(header, width=1, height=3_000_000)
    with pytest.raises(FormatError, match="MAX_IMAGE_PIXELS"):
        mvmic_codec.decode(one_tile.write(thin, b"payload", {}))


def test_default_quality():
    assert mvmic_codec.encode(NOISE) == mvmic_codec.encode(NOISE, 7)
    assert mvmic_codec.encode(NOISE) == mvmic_codec.encode(NOISE, rate_index=54)


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "path", "str", "file"])
def test_every_kind_of_input(tmp_path, kind):
    data = mvmic_codec.encode(NOISE)
    path = tmp_path / "a.mvm"
    path.write_bytes(data)
    forms = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "path": lambda: path,
        "str": lambda: str(path),
        "file": lambda: io.BytesIO(data),
    }
    assert mvmic_codec.decode(forms[kind]()).size == (20, 24)
    assert mvmic_codec.read_header(forms[kind]()).width == 20


@pytest.mark.parametrize("data", [None, 3, io.StringIO("text"), Image.new("L", (1, 1))])
def test_wrong_input(data):
    with pytest.raises(InputError, match=type(data).__name__):
        mvmic_codec.decode(data)


def test_missing_file():
    with pytest.raises(FileNotFoundError):
        mvmic_codec.decode(pathlib.Path("no such file.mvm"))


def test_max_bytes_is_kept_and_used():
    sizes = [len(mvmic_codec.encode(NOISE, rate_index=i)) for i in range(64)]
    for limit in (sizes[0], sizes[10], sizes[10] + 1, sizes[63], 10**9):
        data = mvmic_codec.encode(NOISE, max_bytes=limit)
        index = mvmic_codec.read_header(data).rate_index
        assert len(data) <= limit
        assert index == 63 or sizes[index + 1] > limit
    with pytest.raises(InputError, match=f"takes {sizes[0]}"):
        mvmic_codec.encode(NOISE, max_bytes=sizes[0] - 1)


def test_bpp_is_kept_whatever_the_metadata():
    icc = bytes(16) + b"RGB " + bytes(5000)
    for extra in ({}, {"icc_profile": icc}):
        data = mvmic_codec.encode(NOISE, bpp=20, **extra)
        whole = one_tile.read(data)
        size = len(one_tile.write(whole.header, whole.payload, {}))
        assert 18 < size * 8 / (20 * 24) <= 20
    assert whole.metadata == {b"icCP": icc}
    with pytest.raises(InputError, match=r"0\.001 bpp cannot be met"):
        mvmic_codec.encode(NOISE, bpp=0.001)


def decibels(data):
    error = np.asarray(mvmic_codec.decode(data)).astype(float) - NOISE
    return 10 * np.log10(255**2 / np.mean(error**2))


def test_psnr_is_reached_and_not_exceeded_needlessly():
    for target in (25, 30, 41.5):
        data = mvmic_codec.encode(NOISE, psnr=target)
        index = mvmic_codec.read_header(data).rate_index
        assert decibels(data) >= target
        assert decibels(mvmic_codec.encode(NOISE, rate_index=index - 1)) < target
    assert mvmic_codec.read_header(mvmic_codec.encode(NOISE, psnr=1)).rate_index == 0
    ramp = np.linspace(0, 1, 999).reshape(27, 37)
    with pytest.raises(InputError, match="999 dB cannot be met: the best quality reaches"):
        mvmic_codec.encode(ramp, psnr=999)


def test_search_with_constant_16_bit_image():
    decoded = mvmic_codec.decode(mvmic_codec.encode(np.full((4, 4), 700, np.uint16), psnr=90))
    assert np.asarray(decoded).tolist() == [[700] * 4] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 3, "rate_index": 18},
        {"quality": 3, "bpp": 1},
        {"bpp": 1, "psnr": 30, "max_bytes": 9},
    ],
)
def test_contradicting_options(options):
    with pytest.raises(InputError, match=" and ".join(options)):
        mvmic_codec.encode(NOISE, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": "high"},
        {"rate_index": 64},
        {"bpp": 0},
        {"psnr": float("nan")},
        {"max_bytes": -3},
        {"exif": "text"},
        {"text": {"a": 3}},
        {"effort": 0},
        {"effort": 4},
        {"effort": True},
        {"effort": "2"},
        {"effort": 2.0},
        {"effort": None},
    ],
)
def test_wrong_options_are_noticed_before_any_work(fake_codec, options):
    fake_codec.EncodeCandidate = None
    with pytest.raises(InputError, match=next(iter(options)).replace("_", ".")):
        mvmic_codec.encode(NOISE, **options)


@pytest.mark.parametrize(
    "target", [{}, {"rate_index": 9}, {"bpp": 20}, {"psnr": 30}, {"max_bytes": 3000}]
)
def test_effort_reaches_the_codec(target):
    """At a fixed quality and in every search."""
    files = [mvmic_codec.encode(NOISE, effort=effort, **target) for effort in (1, 2, np.int64(3))]
    assert files[0] == mvmic_codec.encode(NOISE, **target)
    assert len(set(files)) == 3


@pytest.mark.parametrize(("effort", "rounds"), [(1, 0), (2, 2), (3, 12)])
def test_every_round_is_told(effort, rounds):
    told = []
    file = mvmic_codec.encode(NOISE, effort=effort, on_round=lambda: told.append(1))
    assert len(told) == rounds and file == mvmic_codec.encode(NOISE, effort=effort)


def test_info_of_decoded_image():
    data = mvmic_codec.encode(NOISE, 5, text={"a": "b"}, dpi=(72, 72))
    assert mvmic_codec.decode(data).info == {
        "model": "mvmic-9c",
        "rate_index": 36,
        "quality": 5.0,
        "text": {"a": "b"},
        "dpi": (72.0, 72.0),
    }


def test_metadata_goes_through_decode_and_encode_again():
    image = Image.fromarray(NOISE)
    image.info = {"xmp": b"<x/>", "text": {"a": "b"}}
    again = mvmic_codec.decode(mvmic_codec.encode(mvmic_codec.decode(mvmic_codec.encode(image))))
    assert again.info["xmp"] == b"<x/>"
    assert again.info["text"] == {"a": "b"}


def test_every_flipped_byte_is_an_error():
    data = mvmic_codec.encode(NOISE[:3, :3], text={"a": "b"}, dpi=(72, 72))
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises(MvmError):
                mvmic_codec.decode(bytes(damaged))


def test_every_truncation_is_an_error():
    data = mvmic_codec.encode(NOISE[:3, :3])
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            mvmic_codec.decode(data[:end])


def test_unknown_fingerprint_is_named(monkeypatch):
    whole = one_tile.read(mvmic_codec.encode(NOISE))
    header = mvmic_codec.Header(**{**vars(whole.header), "fingerprint": b"12345678"})
    data = one_tile.write(header, whole.payload, {})
    assert mvmic_codec.read_header(data) == header
    with pytest.raises(ModelError, match=b"12345678".hex()):
        mvmic_codec.decode(data)


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (20_000, 20_000)])
def test_lie_about_the_size_reaches_no_codec(fake_codec, size):
    whole = one_tile.read(mvmic_codec.encode(NOISE))
    header = mvmic_codec.Header(**{**vars(whole.header), "width": size[0], "height": size[1]})
    fake_codec.decode_planes = None
    with pytest.raises(FormatError, match="MAX_IMAGE_PIXELS"):
        mvmic_codec.decode(one_tile.write(header, whole.payload, {}))


def test_limit_can_be_raised(monkeypatch):
    data = mvmic_codec.encode(NOISE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20 * 24 // 2 - 1)
    with pytest.raises(FormatError, match="20x24"):
        mvmic_codec.decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert mvmic_codec.decode(data).size == (20, 24)


def test_a_library_that_is_missing_is_named(monkeypatch):
    # As where it is not installed.
    monkeypatch.setitem(sys.modules, "scipy", None)
    with (
        pytest.raises(MvmError, match="^packing needs torch and scipy, and scipy is not installed"),
        needs_torch("packing"),
    ):
        import scipy.ndimage  # noqa: F401
    # A part of the package that is missing is another matter.
    monkeypatch.setitem(sys.modules, "mvmic_codec.rate", None)
    with pytest.raises(ModuleNotFoundError, match="rate"), needs_torch("packing"):
        import mvmic_codec.rate  # noqa: F401


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="encodes"):
        mvmic_codec.encodes  # noqa: B018


def test_public_names():
    for name in mvmic_codec.__all__:
        assert getattr(mvmic_codec, name) is not None
