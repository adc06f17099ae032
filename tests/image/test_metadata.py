import io
import math
from fractions import Fraction

import pytest
from PIL import Image, PngImagePlugin

from mvmic_codec.bitstream import container
from mvmic_codec.errors import FormatError, InputError
from mvmic_codec.image import metadata

ICC = bytes(16) + b"RGB " + b"the rest of a profile"


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def through(header, given, image=None):
    info = metadata.to_info(header, metadata.to_chunks(given, image))
    return {key: info[key] for key in info if key not in ("model", "rate_index", "quality")}


def test_everything_survives(header):
    given = {
        "exif": exif(6).tobytes(),
        "icc_profile": ICC,
        "xmp": b"<x:xmpmeta/>",
        "dpi": (300.0, 96.012),
        "text": {"Comment": "Größe 5 µm\n", "Empty": ""},
    }
    assert through(header, given) == given


def test_header_in_info(header):
    assert metadata.to_info(header, {}) == {"model": "mvmic-9g", "rate_index": 18, "quality": 3.0}


def test_exif_forms_are_stored_alike():
    plain = exif(3).tobytes().removeprefix(b"Exif\0\0")
    for form in (exif(3), exif(3).tobytes(), plain):
        assert metadata.to_chunks({"exif": form}, None) == {container.EXIF: plain}


def jpeg_with(tags):
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG", exif=tags)
    return Image.open(file)


def test_changes_of_exif_count(header):
    with jpeg_with(exif(6)) as image:
        assert through(header, {}, image)["exif"] == image.info["exif"]
        image.getexif()[0x0112] = 3
        assert through(header, {}, image)["exif"] == exif(3).tobytes()
        image.getexif().clear()
        assert "exif" not in through(header, {}, image)


def test_exif_that_cannot_be_read_is_carried_as_it_is(header):
    image = Image.new("L", (2, 2))
    image.info["exif"] = b"Exif\0\0no tiff at all"
    assert through(header, {}, image) == image.info


def test_taken_over_from_the_image(header):
    image = Image.new("RGB", (2, 2))
    image.info = {
        "exif": exif(8).tobytes(),
        "icc_profile": ICC,
        "xmp": b"<x/>",
        "dpi": (72, 72),
        "text": {"a": "b"},
        "unrelated": object(),
    }
    expected = {key: image.info[key] for key in image.info if key != "unrelated"}
    assert through(header, {}, image) == expected
    assert through(header, {"exif": b"", "text": {}, "dpi": ()}, image) == {
        "icc_profile": ICC,
        "xmp": b"<x/>",
    }
    assert through(header, {"xmp": b"<y/>"}, image)["xmp"] == b"<y/>"


def test_taken_over_from_a_png(header):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Description", "slice 7")
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG", pnginfo=texts, dpi=(150, 150), exif=exif(6))
    with Image.open(file) as image:
        info = through(header, {}, image)
    assert info["text"] == {"Description": "slice 7"}
    assert info["xmp"] == b"<x/>"
    assert info["dpi"] == pytest.approx((150, 150), abs=0.02)
    assert metadata.to_chunks({"exif": info["exif"]}, None) == metadata.to_chunks(
        {"exif": exif(6)}, None
    )


def test_ink_profile_is_not_taken_over(header):
    image = Image.new("CMYK", (2, 2))
    image.info["icc_profile"] = bytes(16) + b"CMYK" + bytes(20)
    assert through(header, {}, image) == {}


@pytest.mark.parametrize(
    "dpi", [(0, 0), (math.nan, 72), (72, math.inf), (-1, 72), 72, ("a", "b"), (1e9, 1)]
)
def test_wrong_dpi_is_refused_but_not_inherited(header, dpi):
    with pytest.raises(InputError, match="dpi"):
        metadata.to_chunks({"dpi": dpi}, None)
    image = Image.new("L", (2, 2))
    image.info["dpi"] = dpi
    assert through(header, {}, image) == {}


def test_dpi_of_other_number_types(header):
    assert through(header, {"dpi": (Fraction(72), 1)}) == {"dpi": (72.0, 1.0)}


@pytest.mark.parametrize(
    "text", [{"a": 1}, {"a": b"b"}, {1: "a"}, {"a": "\0"}, "ab", {"\ud800": ""}]
)
def test_wrong_text(text):
    with pytest.raises(InputError, match="text"):
        metadata.to_chunks({"text": text}, None)


@pytest.mark.parametrize("name", ["exif", "icc_profile", "xmp"])
def test_wrong_type(name):
    with pytest.raises(InputError, match=name):
        metadata.to_chunks({name: 3.5}, None)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"dpIX", b""),
        (b"dpIX", bytes(8)),
        (b"dpIX", b"\1" * 9),
        (b"teXT", b""),
        (b"teXT", b"key"),
        (b"teXT", b"key\0value\0"),
        (b"teXT", b"\xff\0\xff"),
    ],
)
def test_chunk_that_holds_something_else(header, kind, payload):
    with pytest.raises(FormatError, match=kind.decode()):
        metadata.to_info(header, {kind: payload})
