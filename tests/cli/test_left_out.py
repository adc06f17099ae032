"""What a run leaves out is named, and names are what file systems take."""

import json
import os

import pytest
from PIL import Image

from mvmic_codec import api


def test_every_image_in_a_folder_is_encoded(mvmic, tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for name in ("a.png", "b.jfif", "c.jpe", "d.pbm", "e.jpf", "F.TIFF"):
        Image.new("L", (8, 8)).save(folder / name)
    result = mvmic("encode", folder, "-o", tmp_path / "out")
    assert result.exit_code == 0 and result.stderr == ""
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted("abcdeF")


def test_what_is_left_out_is_named(mvmic, study):
    for number in range(5):
        (study / f"{number}.dcm").touch()
    (study / "drawing.eps").touch()
    result = mvmic("encode", study, "--json")
    assert result.exit_code == 0
    names = ", ".join(str(study / name) for name in ("0.dcm", "1.dcm", "2.dcm"))
    assert result.stderr.splitlines() == [
        f"mvmic: left out 1, hidden: {study / '.hidden.png'}",
        f"mvmic: left out 7, not named as images that Pillow reads: {names} and 4 more",
    ]
    summary = json.loads(result.stdout)
    assert len(summary["files"]) == 3 and len(summary["skipped"]) == 8
    assert summary["skipped"][0] == {"input": str(study / ".hidden.png"), "reason": "hidden"}


def test_decode_names_what_it_leaves_out(mvmic, study):
    assert mvmic("encode", study).exit_code == 0
    result = mvmic("decode", study, "--to", "bmp")
    assert result.exit_code == 0
    assert "left out 4, not named as .mvm files: " in result.stderr


def test_an_empty_folder_fails_and_the_others_are_done(mvmic, gray, tmp_path):
    (tmp_path / "empty").mkdir()
    result = mvmic("encode", tmp_path / "empty", gray, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert "holds no images that Pillow reads" in result.stderr
    summary = json.loads(result.stdout)
    assert len(summary["files"]) == 1 and len(summary["failed"]) == 1


def test_names_that_only_differ_in_what_is_no_suffix(mvmic, tmp_path):
    sources = [tmp_path / f"IM.000{number}" for number in (1, 2)]
    for source in sources:
        Image.new("L", (8, 8)).save(source, "PNG")
        assert mvmic("encode", source, "--force").exit_code == 0
    for source in sources:
        assert mvmic("decode", f"{source}.mvm").exit_code == 0
        assert source.with_name(f"{source.name}.png").is_file()


def test_a_name_of_80_chinese_letters(mvmic, tmp_path):
    source = tmp_path / ("字" * 80 + ".png")
    Image.new("L", (8, 8)).save(source)
    assert mvmic("encode", source).exit_code == 0
    assert mvmic("decode", source.with_suffix(".mvm"), "--to", "bmp").exit_code == 0


def test_an_output_name_that_is_too_long(mvmic, tmp_path):
    source = tmp_path / ("x" * 253)
    Image.new("L", (8, 8)).save(source, "PNG")
    result = mvmic("encode", source)
    assert result.exit_code == 1 and "is of 257 bytes" in result.stderr
    assert mvmic("encode", source, "-o", tmp_path / "short.mvm").exit_code == 0


@pytest.mark.parametrize("name", [b"a\nb.png", b"a\xffb.png", b"-q.png", b" .png"])
def test_any_name_is_taken_and_shown_on_one_line(mvmic, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name)
    Image.new("L", (8, 8)).save(path, "PNG")
    for _ in range(2):
        result = mvmic("encode", "--", path)
        assert len(result.output.splitlines()) == 1
    assert result.exit_code == 1 and "exists; use --force" in result.stderr
    assert api.read_header(path[:-4] + ".mvm").width == 8
    result = mvmic("encode", "--json", "--force", "--", path)
    assert json.loads(result.stdout)["files"][0]["input"] == path
    assert mvmic("info", "--", path[:-4] + ".mvm").exit_code == 0
