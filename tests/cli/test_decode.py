import numpy as np
import pytest
from PIL import Image

from mvmic_codec import api


@pytest.fixture
def signed(fake_codec, tmp_path):
    path = tmp_path / "signed.mvm"
    path.write_bytes(api.encode(np.arange(-60, 60, dtype=np.int16).reshape(10, 12), rate_index=63))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2", ".webp", ".bmp", ".pgm", ".JPG"])
def test_the_suffix_chooses_the_format(mvmic, gray, suffix):
    assert mvmic("encode", gray).exit_code == 0
    target = gray.with_name(f"back{suffix}")
    result = mvmic("decode", gray.with_suffix(".mvm"), "-o", target)
    assert result.exit_code == 0, result.output
    assert Image.open(target).size == (40, 30)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2", ".pgm"])
def test_16_bits_stay_16_bits(mvmic, deep, suffix):
    assert mvmic("encode", deep, "--rate-index", "63").exit_code == 0
    target = deep.with_name(f"back{suffix}")
    assert mvmic("decode", deep.with_suffix(".mvm"), "-o", target).exit_code == 0
    np.testing.assert_array_equal(np.asarray(Image.open(target)), np.asarray(Image.open(deep)))


def test_16_bits_do_not_go_into_8(mvmic, deep):
    assert mvmic("encode", deep).exit_code == 0
    target = deep.with_suffix(".jpg")
    result = mvmic("decode", deep.with_suffix(".mvm"), "-o", target)
    assert result.exit_code == 1
    assert "has 16 bits per sample, which JPEG cannot hold" in result.stderr
    assert not target.exists()


def test_signed_samples_need_tiff(mvmic, signed):
    result = mvmic("decode", signed)
    assert result.exit_code == 1 and "decode it to .tif" in result.stderr
    assert mvmic("decode", signed, "--to", "tif").exit_code == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(signed.with_suffix(".tif"))).ravel(), np.arange(-60, 60)
    )


def test_it_says_what_it_did(mvmic, deep):
    assert mvmic("encode", deep).exit_code == 0
    target, source = deep.with_name("back.tif"), deep.with_suffix(".mvm")
    assert mvmic("decode", source, "-o", target).output == f"{target}: 40x30 I;16, TIFF\n"
    # A file that is left alone is not said to be done.
    assert f"{target}: 40x30" not in mvmic("decode", source, "-o", target).output
    again = mvmic("decode", source, "-o", target, "--force", "--quiet")
    assert again.exit_code == 0 and again.output == ""


def test_the_limit_can_be_chosen(mvmic, gray, monkeypatch):
    assert mvmic("encode", gray).exit_code == 0
    source = gray.with_suffix(".mvm")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # brings the old limit back afterwards
    # Decoding works on whole squares of 64x64.
    refused = mvmic("decode", source, "--force", "--max-pixels", 64 * 64 - 2)
    assert refused.exit_code == 1 and "--max-pixels" in refused.stderr
    assert mvmic("decode", source, "--force", "--max-pixels", 64 * 64).exit_code == 0


def test_a_folder_keeps_its_tree(mvmic, study, tmp_path):
    assert mvmic("encode", study, "-o", tmp_path / "coded").exit_code == 0
    assert (
        mvmic("decode", tmp_path / "coded", "-o", tmp_path / "out", "--to", ".tif").exit_code == 0
    )
    assert len(list((tmp_path / "out").rglob("*.tif"))) == 3
    assert (tmp_path / "out" / "series" / "deeper" / "C.tif").is_file()


def test_damaged_files_are_one_sentence_and_the_others_are_done(mvmic, gray, tmp_path):
    assert mvmic("encode", gray).exit_code == 0
    whole = gray.with_suffix(".mvm")
    bad = {
        "empty": b"",
        "text": b"hello, world",
        "short": whole.read_bytes()[:40],
        "flipped": whole.read_bytes()[:-3] + b"\0\0\0",
    }
    paths = []
    for name, data in bad.items():
        paths.append(tmp_path / f"{name}.mvm")
        paths[-1].write_bytes(data)
    result = mvmic("decode", *paths, whole, "-o", tmp_path / "out")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert all(line.startswith(f"mvmic: {path}: ") for line, path in zip(lines, paths, strict=True))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gray.png"]


def test_metadata_comes_along(mvmic, tmp_path):
    source = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x010E] = "chest, frontal"
    Image.new("RGB", (8, 8)).save(source, exif=exif, dpi=(300, 300))
    assert mvmic("encode", source).exit_code == 0
    assert mvmic("decode", source.with_suffix(".mvm")).exit_code == 0
    with Image.open(tmp_path / "photo.png") as image:
        assert image.getexif()[0x010E] == "chest, frontal"
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_text_comes_along_into_png(mvmic, tmp_path):
    """All but what PNG has no place for, which is no reason not to decode."""
    source = tmp_path / "scan.mvm"
    text = {"Comment": "Größe 5 µm", "Автор": "x", "k" * 80: "y", "": "z"}
    source.write_bytes(api.encode(Image.new("L", (8, 8)), text=text))
    assert mvmic("decode", source).exit_code == 0
    with Image.open(tmp_path / "scan.png") as image:
        assert image.text == {"Comment": "Größe 5 µm"}
    assert mvmic("decode", source, "--to", ".tif").exit_code == 0


@pytest.mark.parametrize("arguments", [("-o", "out.docx"), ("--to", ".mp4")])
def test_an_unknown_format_is_wrong_usage(mvmic, gray, arguments):
    assert mvmic("encode", gray).exit_code == 0
    result = mvmic("decode", gray.with_suffix(".mvm"), *arguments)
    assert result.exit_code == 2 and "is no format to decode to" in result.stderr


@pytest.fixture
def transparent_palette(fake_codec, tmp_path):
    """The path of a .mvm file, and its colours."""
    labels = Image.fromarray((np.arange(40 * 30) // 250).astype(np.uint8).reshape(30, 40))
    labels.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 9, 1, 2, 3, 4, 5, 6])
    labels.info["transparency"] = b"\x00\x80\xff"
    path = tmp_path / "labels.mvm"
    labels.save(path)
    return path, labels.convert("RGBA")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2", ".webp"])
def test_a_palette_keeps_its_transparency(mvmic, transparent_palette, suffix):
    path, colours = transparent_palette
    out = path.with_suffix(suffix)
    result = mvmic("decode", path, "-o", out)
    assert result.exit_code == 0, result.output
    with Image.open(out) as image:
        found = np.asarray(image.convert("RGBA"))
    wanted = np.asarray(colours)
    assert np.array_equal(found[..., 3], wanted[..., 3])
    seen = wanted[..., 3] > 0
    assert np.array_equal(found[seen], wanted[seen])


@pytest.mark.parametrize("suffix", [".bmp", ".ppm", ".pgm", ".jpg"])
def test_a_format_that_holds_no_transparency_is_refused(mvmic, transparent_palette, suffix):
    path, colours = transparent_palette
    full = path.with_name("full.mvm")
    colours.save(full)
    for source in (path, full):
        result = mvmic("decode", source, "-o", path.with_suffix(suffix))
        assert result.exit_code == 1
        assert "has transparency, which" in result.output
        assert "cannot hold; decode it to .png or .tif" in result.output
        assert not path.with_suffix(suffix).exists()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_series_of_palettes_keeps_its_transparency(mvmic, transparent_palette, suffix):
    path, colours = transparent_palette
    with Image.open(path) as image:
        turned = image.rotate(180)
        image.save(path.with_name("series.mvm"), save_all=True, append_images=[turned])
    out = path.with_name(f"series{suffix}")
    assert mvmic("decode", path.with_name("series.mvm"), "-o", out).exit_code == 0
    with Image.open(out) as image:
        for number, wanted in enumerate((colours, colours.rotate(180))):
            image.seek(number)
            found, wanted = np.asarray(image.convert("RGBA")), np.asarray(wanted)
            assert np.array_equal(found[..., 3], wanted[..., 3])
