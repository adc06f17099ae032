"""Metadata through the command line: what is dropped, kept, and told to be lost."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from mvmic_codec import api

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>DOE</x:xmpmeta>"


def exif():
    said = Image.Exif()
    said[0x010E] = "DOE"
    said.get_ifd(0x8825)[1] = "N"
    return said


@pytest.fixture
def save(fake_codec, tmp_path):
    """Writes x.mvm with all kinds of metadata, but for what is given, and returns its path."""

    def save(**given):
        all_kinds = {
            "exif": exif(),
            "icc_profile": PROFILE,
            "xmp": XMP,
            "dpi": (300, 300),
            "text": {"PatientName": "DOE"},
        }
        path = tmp_path / "x.mvm"
        path.write_bytes(api.encode(Image.new("RGB", (8, 8)), **{**all_kinds, **given}))
        return path

    return save


def kinds(path):
    names = ("exif", "icc_profile", "xmp", "dpi", "text")
    with Image.open(path) as image:
        return {name for name in names if name in image.info}


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ((), {"exif", "icc_profile", "xmp", "dpi", "text"}),
        (("--drop", "exif", "--drop", "text"), {"icc_profile", "xmp", "dpi"}),
        (("--drop", "icc", "--drop", "xmp"), {"exif", "dpi", "text"}),
        (("--drop", "dpi"), {"exif", "icc_profile", "xmp", "text"}),
        (("--drop", "all"), set()),
    ],
)
def test_encode_leaves_out_what_is_dropped(mvmic, save, tmp_path, arguments, left):
    target = tmp_path / "again.mvm"
    assert mvmic("encode", save(), "-o", target, *arguments).exit_code == 0
    assert kinds(target) == left


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_decode_leaves_out_what_is_dropped(mvmic, save, tmp_path, suffix):
    source = save()
    result = mvmic("decode", source, "--drop", "all", "--to", suffix, "--quiet")
    assert result.exit_code == 0 and result.output == ""
    target = source.with_suffix(f".{suffix}")
    # TIFF has a resolution in any case, of which it says that it is none.
    assert kinds(target) <= ({"dpi"} if suffix == "tif" else set())
    assert b"DOE" not in target.read_bytes()


def test_wrong_kinds_are_wrong_usage(mvmic, save):
    assert mvmic("decode", save(), "--drop", "gps").exit_code == 2


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        ("png", ""),
        ("tif", "text"),
        ("jpg", "text"),
        ("webp", "resolution, text"),
        ("bmp", "EXIF, colour profile, XMP, text"),
        ("ppm", "EXIF, colour profile, XMP, resolution, text"),
        ("jp2", "EXIF, colour profile, XMP, resolution, text"),
    ],
)
def test_what_a_format_does_not_hold_is_told(mvmic, save, suffix, lost):
    source = save()
    result = mvmic("decode", source, "--to", suffix)
    assert result.exit_code == 0
    form = Image.open(source.with_suffix(f".{suffix}")).format
    said = f"mvmic: {source}: {form} does not hold all of its metadata; lost: {lost}\n"
    assert result.stderr == (said if lost else "")


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_what_is_not_told_to_be_lost_is_there(mvmic, save, suffix):
    source = save()
    assert mvmic("decode", source, "--to", suffix).exit_code == 0
    with Image.open(source.with_suffix(f".{suffix}")) as image:
        said = image.getexif()
        assert said[0x010E] == "DOE" and said.get_ifd(0x8825)[1] == "N"
        assert image.info["icc_profile"] == PROFILE
        assert image.info["xmp"] == XMP


def test_text_that_png_has_no_place_for_is_told(mvmic, save):
    result = mvmic("decode", save(text={"Автор": "x", "Comment": "y"}))
    assert result.exit_code == 0 and "lost: text\n" in result.stderr


@pytest.mark.parametrize("suffix", ["bmp", "jpg"])
def test_exif_that_pillow_cannot_read(mvmic, save, suffix):
    result = mvmic(
        "decode", save(exif=b"no EXIF", text={}, icc_profile=b"", xmp=b""), "--to", suffix
    )
    assert result.exit_code == 0
    assert ("lost: EXIF\n" in result.stderr) == (suffix == "bmp")


@pytest.mark.parametrize("dpi", [(100_000, 100_000), (25.4, 25.4), (0.3, 0.3)])
def test_a_resolution_that_jpeg_cannot_have_is_told(mvmic, save, dpi):
    result = mvmic("decode", save(dpi=dpi, text={}), "--to", "jpg")
    assert result.exit_code == 0 and "lost: resolution\n" in result.stderr


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("xmp", {"xmp": b"<x>" + b" " * 70_000 + b"</x>"}),
        ("exif", {"exif": b"II*\0" + b"\x08\0\0\0" + bytes(70_000)}),
    ],
)
def test_metadata_too_large_for_jpeg_can_be_dropped(mvmic, save, kind, given):
    source = save(**given)
    result = mvmic("decode", source, "--to", "jpg")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"; --drop {kind} leaves that metadata out\n")
    assert not source.with_suffix(".jpg").exists()
    assert mvmic("decode", source, "--to", "jpg", "--drop", kind).exit_code == 0


def test_a_size_that_a_format_cannot_hold_is_no_fault_of_metadata(mvmic, save, tmp_path):
    path = tmp_path / "long.mvm"
    path.write_bytes(api.encode(np.zeros((1, 70_000), np.uint8), xmp=XMP))
    result = mvmic("decode", path, "--to", "jpg")
    assert result.exit_code == 1 and "--drop" not in result.stderr
