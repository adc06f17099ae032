import json

import numpy as np
import pytest
from PIL import Image

from mvmic_codec.cli import batch
from mvmic_codec.evaluation.rows import read_rows


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    y, x = np.mgrid[0:48, 0:64]
    for name, phase in (("a.png", 0), ("b.png", 3)):
        gray = 120 + 60 * np.sin(x / 5 + phase) + 50 * np.cos(y / 7)
        Image.fromarray(gray.astype(np.uint8)).save(folder / name)
    Image.fromarray((gray * 16).astype(np.uint16)).save(folder / "deep.png")
    return folder


def test_rows_of_two_codecs(mvmic, scans, tmp_path):
    table = tmp_path / "rows.csv"
    result = mvmic(
        *("eval", scans, "--codec", "mvm", "--codec", "jpeg", "--csv", table),
        *("--rate-index", 9, "--rate-index", 0),
    )
    assert result.exit_code == 0, result.output
    rows = read_rows(table)
    ours = [(row.set, row.image, row.setting) for row in rows if row.codec == "mvm"]
    assert ours == [
        (name, image, setting)
        for name, image in [
            ("scans", "a.png"),
            ("scans", "b.png"),
            ("scans", "deep.png"),
            ("scans_8bit", "deep.png"),
        ]
        for setting in ("0", "9")
    ]
    theirs = {(row.set, row.image) for row in rows if row.codec == "jpeg"}
    assert theirs == {("scans", "a.png"), ("scans", "b.png"), ("scans_8bit", "deep.png")}
    for row in rows:
        assert row.bpp == pytest.approx(8 * row.bytes / (64 * 48), abs=1e-5)
        assert row.channels == 1 and 0 < row.ms_ssim <= 1
    assert "scans_8bit" in result.stdout


def test_resume_does_only_what_is_missing(mvmic, scans, tmp_path):
    table = tmp_path / "rows.csv"
    arguments = ("eval", scans, "--codec", "jpeg", "--csv", table)
    assert mvmic(*arguments, "--limit", 1).exit_code == 0
    first = read_rows(table)
    assert {row.image for row in first} == {"a.png"}
    refused = mvmic(*arguments)
    assert refused.exit_code == 1 and "--resume" in refused.stderr
    assert mvmic(*arguments, "--resume", "--limit", "scans=2").exit_code == 0
    rows = read_rows(table)
    assert rows[: len(first)] == first and {row.image for row in rows} == {"a.png", "b.png"}


def test_a_bad_image_is_named_and_the_others_are_measured(mvmic, scans):
    (scans / "a.png").write_text("no image")
    result = mvmic("eval", scans, "--codec", "jpeg", "--json")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "a.png" in result.stderr
    assert {row["image"] for row in json.loads(result.stdout)} == {"b.png", "deep.png"}


@pytest.mark.parametrize("arguments", [("--limit", "many"), ("--codec", "gif"), ("--resume",)])
def test_wrong_usage(mvmic, scans, arguments):
    assert mvmic("eval", scans, *arguments).exit_code == 2


def test_a_folder_without_images(mvmic, tmp_path):
    result = mvmic("eval", tmp_path, "--codec", "jpeg")
    assert result.exit_code == 1 and "holds no images" in result.stderr
    missing = mvmic("eval", tmp_path / "none", "--codec", "jpeg")
    assert missing.exit_code == 1 and "no such file" in missing.stderr


def test_compare_prints_markdown(mvmic, scans, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    for codec in ("jpeg", "jpeg2000"):
        table = tables / f"{codec}.csv"
        assert mvmic("eval", scans, "--codec", codec, "--csv", table).exit_code == 0
    page = tmp_path / "page.md"
    one = tables / "jpeg.csv"
    two = tables / "jpeg2000.csv"
    result = mvmic("compare", one, two, "--test", "jpeg2000", "-o", page)
    assert result.exit_code == 0, result.output
    assert "| scans | jpeg | " in page.read_text()
    again = mvmic("compare", one, two, "-o", page)
    assert again.exit_code == 1 and "--force" in again.stderr
    nothing = mvmic("compare", one)
    assert nothing.exit_code == 1 and "no rows of mvm" in nothing.stderr
    by_folder = mvmic("compare", one, "--peers-dir", tables, "--test", "jpeg2000")
    assert by_folder.exit_code == 1 and "twice" in by_folder.stderr


def test_errors_become_sentences():
    assert batch.sentence(MemoryError()) == "there is not enough memory for this image"
    assert batch.sentence(OSError("line one\nline two")) == "line one line two"
    assert batch.sentence(PermissionError(13, "Permission denied", "x")) == "x: permission denied"


def test_a_missing_package_is_named_with_its_remedy(mvmic, scans, monkeypatch):
    monkeypatch.setattr("mvmic_codec.evaluation.find_spec", lambda name: None)
    for command in ("eval", "compare"):
        result = mvmic(command, scans)
        assert result.exit_code == 1 and "pip install 'mvmic_codec[eval]'" in result.stderr
