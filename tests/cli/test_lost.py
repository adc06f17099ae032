"""What encoding changes or leaves out is said, once for each input, and nothing else is."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

GRAY = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
COLOUR = Image.merge("RGB", (GRAY, GRAY.rotate(90), GRAY.rotate(180)))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DEEP = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200)
METADATA = "an .mvm file does not hold all of its metadata; lost: "


def tags(**by_name):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    numbers = {"ImageDescription": 270, "Make": 271, "Software": 305, "Artist": 315}
    for name, value in by_name.items():
        directory[numbers[name]] = value
    return directory


def written(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(colour_type, bits, row_bytes, *chunks):
    """A PNG of 8x8 pixels, of kinds that Pillow does not write."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", 8, 8, bits, colour_type, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(row_bytes)) * 8)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def white_is_zero():
    data = written(DEEP, "TIFF")
    entry = struct.pack("<HHI", 262, 3, 1)
    assert data.count(entry + b"\1") == 1
    return data.replace(entry + b"\1", entry + b"\0")


def deeper_jpeg2000():
    """The file says 12 bits for each colour; for the message its pixels do not matter."""
    data = bytearray(written(COLOUR, "JPEG2000"))
    place = data.index(b"\xff\x4f\xff\x51") + 42
    assert data[place] == 7
    data[place::3][:1] = b"\x0b"
    for component in range(3):
        data[place + 3 * component] = 11
    return bytes(data)


@pytest.fixture
def said(mvmic, tmp_path):
    """Encodes a file of these bytes and returns what is said of it on standard error."""

    def said(data, *arguments):
        path = tmp_path / "scan"
        path.write_bytes(data)
        result = mvmic("encode", path, "--force", "--quiet", *arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout == "" and result.stderr.count("\n") <= 1
        return result.stderr.removeprefix(f"mvmic: {path}: ").rstrip("\n")

    return said


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        (written(GRAY, "TIFF", tiffinfo=tags(Artist="A")), "TIFF tags (Artist)"),
        (
            written(
                GRAY,
                "TIFF",
                tiffinfo=tags(ImageDescription="d", Make="m", Software="s", Artist="a"),
            ),
            "TIFF tags (ImageDescription, Make, Software and 1 more)",
        ),
        (
            written(GRAY, "TIFF", resolution=3.2, resolution_unit=1),
            "resolution without a unit",
        ),
        (written(GRAY, "GIF", comment=b"DOE"), "comment"),
        (written(GRAY, "JPEG", comment=b"DOE"), "comment"),
        (written(GRAY, "JPEG", icc_profile=SRGB), "colour profile"),
        (written(GRAY, "JPEG", comment=b"D", icc_profile=SRGB), "colour profile, comment"),
        (written(COLOUR, "TGA", id_section=b"DOE"), "id_section"),
        (png(0, 8, 8, (b"pHYs", struct.pack(">IIB", 1, 2, 0))), "resolution without a unit"),
        (written(GRAY, "TIFF", dpi=(5e6, 5e6)), "resolution"),
    ],
)
def test_metadata_without_a_place_is_told(said, data, lost):
    assert said(data) == METADATA + lost
    assert said(data, "--drop", "all") == ""


def test_iptc_is_told(said):
    block = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x04\x1c\x02\x78\0"
    segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    data = written(GRAY, "JPEG")
    assert said(data[:2] + segment + data[2:]) == METADATA + "IPTC"


def test_text_that_a_file_cannot_hold_is_told(said):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Name", "DOE\0JOHN")
    assert said(written(GRAY, "PNG", pnginfo=text)) == METADATA + "text"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("exif", written(GRAY, "TIFF", tiffinfo=tags(Artist="A"))),
        ("text", written(GRAY, "JPEG", comment=b"DOE")),
        ("icc", written(GRAY, "JPEG", icc_profile=SRGB)),
        ("dpi", written(GRAY, "TIFF", resolution=3.2, resolution_unit=1)),
    ],
)
def test_what_was_dropped_is_not_told(said, kind, data):
    assert said(data, "--drop", kind) == ""
    assert said(data, "--drop", "xmp") != ""


@pytest.mark.parametrize(
    ("data", "change"),
    [
        (written(COLOUR.convert("CMYK"), "JPEG"), "CMYK becomes RGB"),
        (
            written(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"),
            "float samples become 8 bits",
        ),
        (png(2, 16, 48), "Pillow reads its samples of more than 8 bits as 8 bits"),
        (b"P6 8 8 65535\n" + bytes(384), "Pillow reads its samples of more than 8 bits as 8 bits"),
        (deeper_jpeg2000(), "Pillow reads its samples of more than 8 bits as 8 bits"),
        (white_is_zero(), "in it 0 is white, and in the .mvm file black"),
        (
            written(COLOUR, "MPO", save_all=True, append_images=[COLOUR, COLOUR]),
            "holds 3 frames; only the first is encoded",
        ),
        (
            written(COLOUR.resize((64, 64)), "ICO", sizes=[(16, 16), (32, 32)]),
            "holds 2 sizes; only the largest is encoded",
        ),
    ],
    ids=["cmyk", "float", "png16", "ppm16", "jpeg2000", "white", "mpo", "ico"],
)
def test_changed_samples_are_told(said, data, change):
    assert said(data) == change


def test_changes_and_metadata_are_told_on_one_line(said):
    data = written(COLOUR.convert("CMYK"), "JPEG", comment=b"DOE")
    assert said(data) == f"CMYK becomes RGB; {METADATA}comment"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "JPEG2000"])
def test_a_plain_image_is_not_talked_of(said, form):
    assert said(written(GRAY if form != "WEBP" else COLOUR, form)) == ""


@pytest.mark.parametrize(
    "data",
    [
        written(DEEP, "PNG"),
        written(COLOUR.quantize(16), "PNG"),
        written(COLOUR.convert("RGBA"), "PNG"),
        written(GRAY.convert("1"), "PNG"),
        written(GRAY, "JPEG", dpi=(300, 300), progressive=True),
        written(GRAY, "TIFF", dpi=(300, 300), compression="tiff_lzw"),
        written(GRAY, "TIFF", resolution=10, resolution_unit="cm"),
        written(COLOUR, "JPEG", icc_profile=SRGB, exif=b"Exif\0\0no EXIF", xmp=b"<x/>"),
        written(COLOUR.convert("P"), "GIF", transparency=255, loop=0),
        b"P6 8 8 100\n" + bytes(192),
        png(0, 8, 8, (b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Author\0DOE")),
    ],
)
def test_what_comes_along_or_means_nothing_is_not_talked_of(said, data):
    assert said(data) == ""


@pytest.mark.parametrize("form", ["TIFF", "GIF", "PNG", "WEBP"])
def test_a_series_is_encoded_and_decoded(mvmic, tmp_path, form):
    path = tmp_path / "series"
    frames = [COLOUR, COLOUR.rotate(90), GRAY.convert("RGB")]
    path.write_bytes(written(frames[0], form, save_all=True, append_images=frames[1:], duration=70))
    result = mvmic("encode", path, "-q", 8)
    assert result.exit_code == 0 and "3 frames of 16x16 RGB" in result.output
    for suffix in (".tif", ".png", ".webp"):
        target = tmp_path / f"again{suffix}"
        result = mvmic("decode", tmp_path / "series.mvm", "-o", target)
        assert result.exit_code == 0 and "3 frames of" in result.output
        with Image.open(target) as image, Image.open(tmp_path / "series.mvm") as expected:
            assert image.n_frames == 3
            for number in range(3):
                image.seek(number)
                expected.seek(number)
                assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(expected))
            if suffix != ".tif" and form != "TIFF":
                assert image.info["duration"] == 70
    one = tmp_path / "one.bmp"
    result = mvmic("decode", tmp_path / "series.mvm", "-o", one)
    assert result.exit_code == 1 and "has 3 frames, which BMP cannot hold" in result.stderr
    result = mvmic("decode", tmp_path / "series.mvm", "-o", one, "--frame", 1)
    assert result.exit_code == 0
    with Image.open(one) as image, Image.open(tmp_path / "series.mvm") as expected:
        expected.seek(1)
        assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_a_folder_gives_its_mpo_files(mvmic, tmp_path):
    COLOUR.save(tmp_path / "a.mpo", save_all=True, append_images=[COLOUR])
    result = mvmic("encode", tmp_path)
    assert result.exit_code == 0 and "holds 2 frames" in result.stderr
