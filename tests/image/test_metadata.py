import io
import math
import struct
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, features

from mvmic_codec.bitstream import container
from mvmic_codec.errors import FormatError, InputError
from mvmic_codec.image import metadata

ICC = bytes(16) + b"RGB " + b"the rest of a profile"


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def through(header, given, image=None):
    info = metadata.to_info(header, metadata.to_chunks(given, image, gray=False))
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
        assert metadata.to_chunks({"exif": form}, None, gray=False) == {container.EXIF: plain}


def test_exif_with_nothing_but_a_nested_directory(header):
    """Its length is 0, and it is not empty; one without any tag is."""
    tags = Image.Exif()
    assert through(header, {"exif": tags}) == {}
    tags.get_ifd(0x8825)[1] = "N"
    if len(tags.tobytes()) > len(Image.Exif().tobytes()):  # which old Pillow leaves out
        again = Image.Exif()
        again.load(through(header, {"exif": tags})["exif"])
        assert again.get_ifd(0x8825) == {1: "N"}


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
    assert metadata.to_chunks({"exif": info["exif"]}, None, gray=False) == metadata.to_chunks(
        {"exif": exif(6)}, None, gray=False
    )


@pytest.mark.parametrize(
    "dpi", [(0, 0), (math.nan, 72), (72, math.inf), (-1, 72), 72, ("a", "b"), (1e9, 1)]
)
def test_wrong_dpi_is_refused_but_not_inherited(header, dpi):
    with pytest.raises(InputError, match="dpi"):
        metadata.to_chunks({"dpi": dpi}, None, gray=False)
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
        metadata.to_chunks({"text": text}, None, gray=False)


@pytest.mark.parametrize("name", ["exif", "icc_profile", "xmp"])
def test_wrong_type(name):
    with pytest.raises(InputError, match=name):
        metadata.to_chunks({name: 3.5}, None, gray=False)


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


def jpeg_exif():
    """EXIF with a name, nested directories of its own, and interoperability within one."""
    tags = Image.Exif()
    tags[0x010E] = "DOE"
    tags[0x8769] = {0x9003: "2024:01:01 10:00:00", 0xA005: {1: "R98"}}
    tags[0x8825] = {1: "N", 29: "2024:01:01"}
    return tags


def opened(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind, **options)
    image = Image.open(io.BytesIO(file.getvalue()))
    image.load()
    return image


def ours(header, given):
    """An image as it is opened from a file of ours."""
    image = Image.new("RGB", (16, 16))
    image.info = metadata.to_info(header, metadata.to_chunks(given, None, gray=False))
    return image


XMP_BYTES = b"<x:xmpmeta>DOE</x:xmpmeta>"


def source(kind, header):
    """An image of a format with all the metadata that Pillow reads from it."""
    given = {"exif": jpeg_exif(), "icc_profile": ICC, "xmp": XMP_BYTES, "dpi": (300, 300)}
    if kind == "MVM":
        return ours(header, {**given, "text": {"Name": "DOE"}})
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Name", "DOE")
        texts.add_text("Zipped", "DOE", zip=True)
        texts.add_itxt("International", "DOE")
        texts.add_itxt("XML:com.adobe.xmp", XMP_BYTES.decode())
        return opened("PNG", pnginfo=texts, **{k: v for k, v in given.items() if k != "xmp"})
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[700] = XMP_BYTES
        tags.tagtype[700] = 1
        return opened("TIFF", tiffinfo=tags, icc_profile=ICC, dpi=(300, 300))
    image = opened(kind, **given)
    image.info.setdefault("xmp", XMP_BYTES)  # which Pillow before 11 does not write into a JPEG
    return image


KINDS = ["JPEG", "PNG", "TIFF", "WEBP", "MVM"] + ["AVIF"] * features.check("avif")
NAMES = ["exif", "icc_profile", "xmp", "dpi", "text"]
FRESH = {
    "exif": exif(3).tobytes(),
    "icc_profile": ICC + b"another",
    "xmp": b"<fresh/>",
    "dpi": (72.0, 72.0),
    "text": {"Name": "ANONYMOUS"},
}


def says(info, name):
    if name == "exif" and "exif" in info:
        return metadata.to_chunks({"exif": info["exif"]}, None, gray=False)
    return info.get(name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_last_word_of_the_caller(header, kind, name):
    """What an image came with: kept, removed from info, changed there, or refused in save."""
    kept = through(header, {}, source(kind, header))
    if name not in kept:
        lacking = {"PNG": (), "MVM": (), "TIFF": ("exif", "text")}.get(kind, ("dpi", "text"))
        assert name in lacking
    else:
        if name == "text":
            assert kept["text"]["Name"] == "DOE"
        others = {key: kept[key] for key in kept if key != name}
        image = source(kind, header)
        assert through(header, {name: None}, image) == others
        assert through(header, {name: type(FRESH[name])()}, image) == others
        image.info.pop("Name" if name == "text" and kind == "PNG" else name)
        removed = through(header, {}, image)
        if name == "text" and kind == "PNG":
            assert removed.pop("text") == {"Zipped": "DOE", "International": "DOE"}
        assert removed == others

    image = source(kind, header)
    image.info[name] = FRESH[name]
    changed = through(header, {}, image)
    assert says(changed, name) == says(FRESH, name)
    del changed[name]
    assert changed == {key: kept[key] for key in kept if key != name}

    image = source(kind, header)
    image.getexif()
    image.info.clear()
    assert through(header, {}, image) == {}


EXIF_KINDS = [kind for kind in KINDS if kind != "TIFF"]


def nested(payload):
    tags = Image.Exif()
    tags.load(payload)
    first = tags.get_ifd(0x8769)
    return {
        "first": tags.get(0x010E),
        "taken": first.get(0x9003),
        "gps": dict(tags.get_ifd(0x8825)),
        "interop": dict(tags.get_ifd(0xA005)) if 0xA005 in first else {},
    }


def change(image, place, how):
    """Change one place of the EXIF through getexif."""
    tags = image.getexif()
    directory = {
        "first": lambda: tags,
        "taken": lambda: tags.get_ifd(0x8769),
        "gps": lambda: tags.get_ifd(0x8825),
        "interop": lambda: tags.get_ifd(0xA005),
    }[place]()
    tag = {"first": 0x010E, "taken": 0x9003, "gps": 29, "interop": 1}[place]
    if how == "changed":
        directory[tag] = "X" if place == "interop" else "ANONYMOUS"
    elif place in ("first", "taken"):
        del directory[tag]
    elif place == "gps":
        del tags[0x8825]
    else:
        del tags.get_ifd(0x8769)[0xA005]


@pytest.mark.parametrize("kind", EXIF_KINDS)
@pytest.mark.parametrize("place", ["first", "taken", "gps", "interop"])
def test_changes_through_getexif_count_at_every_depth(header, kind, place):
    before = nested(source(kind, header).info["exif"])
    assert before["first"] == "DOE" and before["gps"] and before["taken"]
    if not before["interop"] and place == "interop":
        pytest.fail("the test lost its directory")
    for how in ("changed", "removed"):
        image = source(kind, header)
        change(image, place, how)
        after = nested(through(header, {}, image)["exif"])
        assert {key: after[key] for key in after if key != place} == {
            key: before[key] for key in before if key != place
        }
        if how == "removed":
            assert not after[place]
        else:
            assert "ANONYMOUS" in str(after[place]) or after[place] == {1: "X"}


@pytest.mark.parametrize("kind", EXIF_KINDS)
def test_reading_exif_changes_nothing(header, kind):
    image = source(kind, header)
    for tag in (0x8769, 0x8825, 0xA005, 0x014A):
        image.getexif().get_ifd(tag)
    assert dict(image.getexif())
    assert says(through(header, {}, image), "exif") == says(source(kind, header).info, "exif")


def test_exif_that_only_getexif_has(header):
    """An image without EXIF in info: what the caller adds is added, nested or not."""
    image = Image.new("RGB", (4, 4))
    image.getexif().get_ifd(0x8825)
    assert through(header, {}, image) == {}
    image.getexif()[0x0112] = 6
    image.getexif().get_ifd(0x8825)[1] = "N"
    tags = Image.Exif()
    tags.load(through(header, {}, image)["exif"])
    assert tags[0x0112] == 6 and tags.get_ifd(0x8825) == {1: "N"}
    assert through(header, {"exif": None}, image) == {}


def test_info_and_getexif_both_changed(header):
    """Lost in info is lost; the same in both is no conflict; two values are one sentence."""
    image = source("MVM", header)
    image.getexif()[0x010E] = "ANONYMOUS"
    image.info["exif"] = image.getexif().tobytes()
    assert nested(through(header, {}, image)["exif"])["first"] == "ANONYMOUS"
    image.info["exif"] = exif(3).tobytes()
    with pytest.raises(InputError, match="both changed and disagree; give exif="):
        through(header, {}, image)
    assert through(header, {"exif": exif(8)}, image)["exif"] == exif(8).tobytes()
    del image.info["exif"]
    assert "exif" not in through(header, {}, image)


def test_image_turned_upright(header):
    """Pillow takes the orientation out of both, and writes EXIF without a tag into info."""
    image = opened("JPEG", exif=exif(6))
    ImageOps.exif_transpose(image, in_place=True)
    assert "exif" not in through(header, {}, image)


def test_exif_that_pillow_cannot_write_any_more(header):
    image = source("MVM", header)
    image.getexif()[0x010E] = object()
    with pytest.raises(InputError, match="cannot write .* give exif="):
        through(header, {}, image)


def test_exif_object_in_info(header):
    image = source("JPEG", header)
    image.info["exif"] = exif(3)
    assert through(header, {}, image)["exif"] == exif(3).tobytes()


def test_png_with_exif_as_text(header):
    """ImageMagick writes EXIF as hexadecimal text, which Pillow reads as EXIF."""
    raw = exif(6).tobytes()
    lines = "\n".join(raw.hex()[i : i + 72] for i in range(0, 2 * len(raw), 72))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{lines}\n")
    image = opened("PNG", pnginfo=texts)
    assert through(header, {}, image) == {"exif": raw}
    image.getexif()[0x0112] = 3
    assert through(header, {}, image) == {"exif": exif(3).tobytes()}
    del image.info["Raw profile type exif"]
    assert through(header, {}, image) == {}


def test_png_text_changed_or_removed_in_either_place(header):
    image = source("PNG", header)
    del image.text["Zipped"]
    image.info["International"] = "ANONYMOUS"
    image.text["Name"] = "ANON"
    assert through(header, {}, image)["text"] == {"Name": "ANON", "International": "ANONYMOUS"}
    image.info["Name"] = None
    assert through(header, {}, image)["text"] == {"International": "ANONYMOUS"}
    image.info["Name"] = "SMITH"
    with pytest.raises(InputError, match="text 'Name' .* give text="):
        through(header, {}, image)


def test_png_text_changed_where_its_file_is_gone(header, tmp_path):
    """Nobody can tell which one was changed: an error, never the old name."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Name", "DOE")
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path, pnginfo=texts)
    for gone in (False, True):
        image = Image.open(path)
        image.load()
        image.text["Name"] = "ANON"
        if gone:
            path.unlink()
            with pytest.raises(InputError, match="give text="):
                through(header, {}, image)
        else:
            assert through(header, {}, image)["text"] == {"Name": "ANON"}


def test_png_text_named_as_something_else_in_info(header):
    """Pillow's `info` then has the other, which says nothing of the text."""
    said = PngImagePlugin.PngInfo()
    said.add_text("gamma", "DOE")
    said.add(b"gAMA", struct.pack(">I", 45455))
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG", pnginfo=said)
    image = Image.open(file)
    assert image.info["gamma"] == 0.45455
    assert through(header, {}, image)["text"] == {"gamma": "DOE"}


@pytest.mark.parametrize("value", [b"ANON", 0])
def test_png_text_of_another_type_is_refused(header, value):
    image = source("PNG", header)
    image.info["Name"] = value
    with pytest.raises(InputError, match="text 'Name'"):
        through(header, {}, image)


@pytest.mark.parametrize("key", ["xmp", "XML:com.adobe.xmp"])
def test_png_xmp_changed_or_removed_in_any_place(header, key):
    image = source("PNG", header)
    image.info[key] = "<fresh/>"
    assert through(header, {}, image)["xmp"] == b"<fresh/>"
    del image.info[key]
    assert "xmp" not in through(header, {}, image)
    image = source("PNG", header)
    del image.text["XML:com.adobe.xmp"]
    assert "xmp" not in through(header, {}, image)
    image = source("PNG", header)
    image.info["xmp"], image.info["XML:com.adobe.xmp"] = b"<one/>", "<other/>"
    with pytest.raises(InputError, match="both changed and disagree; give xmp="):
        through(header, {}, image)


def profile(space):
    return bytes(16) + space + bytes(108)


@pytest.mark.parametrize("space", [b"RGB ", b"GRAY", b"CMYK", b"Lab ", b""])
@pytest.mark.parametrize("gray", [False, True])
def test_profile_belongs_to_its_samples(space, gray):
    """One of other samples is refused if given, and left out if it comes with the image."""
    image = Image.new("L" if gray else "RGB", (2, 2))
    image.info["icc_profile"] = given = profile(space)[: 128 if space else 10]
    fits = space == (b"GRAY" if gray else b"RGB ")
    assert metadata.to_chunks({}, image, gray=gray) == ({container.ICC: given} if fits else {})
    if fits:
        assert metadata.to_chunks({"icc_profile": given}, None, gray=gray) == {container.ICC: given}
    else:
        with pytest.raises(InputError, match="icc_profile is no ICC profile for"):
            metadata.to_chunks({"icc_profile": given}, None, gray=gray)


def tiff(tags):
    file = io.BytesIO()
    Image.new("L", (5, 4)).save(file, "TIFF", tiffinfo=tags)
    return Image.open(file)


@pytest.mark.parametrize(
    ("tags", "dpi"),
    [
        ({}, None),
        ({296: 2}, None),
        ({296: 3}, None),
        ({282: 300.0, 296: 2}, None),
        ({282: 300.0, 283: 300.0, 296: 1}, None),
        ({282: 300.0, 283: 300.0, 296: 2}, (300, 300)),
        ({282: 100.0, 283: 100.0, 296: 3}, (254, 254)),
        ({282: 1.0, 283: 1.0, 296: 2}, (1, 1)),
    ],
)
def test_a_tiff_without_a_resolution_has_none(header, tags, dpi):
    with tiff(tags) as image:
        assert through(header, {}, image).get("dpi") == dpi
        image.info["dpi"] = (72, 96)
        assert through(header, {}, image)["dpi"] == (72, 96)


@pytest.mark.parametrize(
    ("tags", "options", "dpi"),
    [
        ({0x0110: "a camera"}, {}, None),
        ({0x011A: 300.0}, {}, None),
        ({0x011A: 72.0, 0x0128: 2}, {}, (72, 72)),
        ({0x011A: 300.0, 0x0128: 2}, {}, (300, 300)),
        ({0x0110: "a camera"}, {"dpi": (72, 72)}, (72, 72)),
    ],
)
def test_a_jpeg_without_a_resolution_has_none(header, tags, options, dpi):
    exif, file = Image.Exif(), io.BytesIO()
    exif.update(tags)
    Image.new("L", (5, 4)).save(file, "JPEG", exif=exif, **options)
    with Image.open(file) as image:
        assert through(header, {}, image).get("dpi") == dpi
        del image.info["exif"]
        assert through(header, {}, image).get("dpi") == dpi
        image.info["dpi"] = (96, 96)
        assert through(header, {}, image)["dpi"] == (96, 96)


def test_a_frame_of_many_costs_no_more_than_one_of_few(header):
    count = 1_000_000
    header = replace(header, frames=count)
    chunks = {b"anIM": struct.pack("<I", 3) + b"".join(map(struct.Struct("<I").pack, range(count)))}
    tracemalloc.start()
    try:
        info = metadata.to_info(header, chunks, 765_432)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (info["loop"], info["duration"]) == (3, 765_432) and peak < 20_000
