import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mvmic_codec.cli import batch
from mvmic_codec.evaluation.memory import Peak
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
        assert row.psnr_y == row.psnr
        assert row.enc_s is not None and row.dec_s is not None
    assert "scans_8bit" in result.stdout


@pytest.mark.slow
def test_memory_is_measured_where_it_is_asked_for(mvmic, scans, tmp_path):
    with Peak() as peak:
        pass
    is_told = peak.mib is not None  # Linux alone tells
    table = tmp_path / "rows.csv"
    arguments = ("eval", scans, "--codec", "jpeg", "--limit", 1, "--csv", table, "--force")
    assert mvmic(*arguments).exit_code == 0
    assert all(row.enc_mib is row.dec_mib is None for row in read_rows(table))
    for jobs in (1, 2):
        assert mvmic(*arguments, "--memory", "--jobs", jobs).exit_code == 0
        rows = read_rows(table)
        known = [row.enc_mib is not None and row.dec_mib is not None for row in rows]
        assert known == [is_told] * len(rows)


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
    assert len(rows) == 2 * len(first)


@pytest.mark.slow
def test_processes_give_the_same_rows_without_seconds(mvmic, scans, tmp_path):
    """jpeg and webp, as a process of its own knows nothing of the fake codec."""
    for name in "cdef":
        shutil.copy(scans / "b.png", scans / f"{name}.png")
    alone, beside = tmp_path / "alone.csv", tmp_path / "beside.csv"
    arguments = ("eval", scans, "--codec", "jpeg", "--codec", "webp", "--csv")
    assert mvmic(*arguments, alone).exit_code == 0
    result = mvmic(*arguments, beside, "--jobs", 2, "--limit", 2)
    assert result.exit_code == 0, result.output
    resumed = mvmic(*arguments, beside, "--jobs", 2, "--resume")
    assert resumed.exit_code == 0, resumed.output
    timed, untimed = read_rows(alone), read_rows(beside)
    assert all(row.enc_s is not None and row.dec_s is not None for row in timed)
    assert all(row.enc_s is None and row.dec_s is None for row in untimed)

    def measured(rows):
        return sorted((replace(row, enc_s=None, dec_s=None) for row in rows), key=repr)

    assert measured(untimed) == measured(timed)
    assert [row.image for row in untimed if row.codec == "jpeg"][:14] == ["a.png"] * 7 + [
        "b.png"
    ] * 7


@pytest.mark.slow
def test_a_bad_image_is_named_by_a_process_too(mvmic, scans):
    (scans / "a.png").write_text("no image")
    result = mvmic("eval", scans, "--codec", "jpeg", "--json", "--jobs", 2)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "a.png" in result.stderr
    assert {row["image"] for row in json.loads(result.stdout)} == {"b.png", "deep.png"}


def test_a_process_that_dies_is_one_sentence(mvmic, scans, monkeypatch):
    submit = ProcessPoolExecutor.submit
    monkeypatch.setattr(
        ProcessPoolExecutor, "submit", lambda pool, *work: submit(pool, os._exit, 9)
    )
    result = mvmic("eval", scans, "--codec", "jpeg", "--jobs", 2)
    assert result.exit_code == 1
    assert result.stderr == (
        "mvmic: a process ended while it measured, perhaps for want of memory\n"
    )


def test_against_measures_mvm_and_prints_bd_rates(mvmic, scans):
    result = mvmic("eval", scans, "--against", "jpeg, webp", "--limit", 2)
    assert result.exit_code == 0, result.output
    codecs = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("scans ")}
    assert codecs == {"mvm", "jpeg", "webp"}
    assert "| scans | jpeg | " in result.stdout and "| scans | webp | " in result.stdout
    assert "BD-rate" not in mvmic("eval", scans, "--codec", "jpeg", "--codec", "mvm").stdout
    assert mvmic("eval", scans, "--against", "jpeg", "--quiet").stdout == ""
    rows = json.loads(mvmic("eval", scans, "--against", "jpeg", "--json").stdout)
    assert {row["codec"] for row in rows} == {"mvm", "jpeg"}


def test_efforts_are_codecs_of_their_own(mvmic, scans, tmp_path):
    """No table mixes them unseen, and compare sets one against the other."""
    table = tmp_path / "rows.csv"
    arguments = ("eval", scans, "--limit", 1, "--csv", table)
    assert mvmic(*arguments).exit_code == 0
    resumed = mvmic(*arguments, "--resume", "--against", "jpeg", "--effort", 3)
    assert resumed.exit_code == 0, resumed.output
    rows = read_rows(table)
    sizes = {
        name: [row.bytes for row in rows if row.codec == name] for name in ("mvm", "mvm-effort3")
    }
    assert len(sizes["mvm"]) == len(sizes["mvm-effort3"]) == 8
    assert sizes["mvm"] != sizes["mvm-effort3"]
    assert "BD-rate of mvm-effort3 against each codec" in resumed.stdout
    assert "| scans | mvm | " in resumed.stdout and "| scans | jpeg | " in resumed.stdout
    compared = mvmic("compare", table, "--test", "mvm-effort3")
    assert compared.exit_code == 0 and "| scans | mvm | " in compared.stdout


def test_against_tells_of_rows_that_are_there_twice(mvmic, scans, tmp_path):
    table = tmp_path / "rows.csv"
    arguments = ("eval", scans, "--against", "jpeg", "--csv", table)
    assert mvmic(*arguments).exit_code == 0
    header, first, *others = table.read_text().splitlines(keepends=True)
    table.write_text("".join([header, first, first, *others]))
    result = mvmic(*arguments, "--resume")
    assert result.exit_code == 1
    assert result.stderr.startswith("mvmic: ") and "twice" in result.stderr


def test_a_peer_that_is_not_here_stops_before_any_work(mvmic, scans, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    table = tmp_path / "rows.csv"
    result = mvmic("eval", scans, "--against", "jpeg,bpg", "--csv", table)
    assert result.exit_code == 1 and not table.exists()
    assert result.stderr.count("\n") == 1
    assert "bpgenc is not on the PATH" in result.stderr and "--peers-dir" in result.stderr


def test_a_bad_image_is_named_and_the_others_are_measured(mvmic, scans):
    (scans / "a.png").write_text("no image")
    result = mvmic("eval", scans, "--codec", "jpeg", "--json")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "a.png" in result.stderr
    assert {row["image"] for row in json.loads(result.stdout)} == {"b.png", "deep.png"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--limit", "many"),
        ("--codec", "gif"),
        ("--resume",),
        ("--against", "gif"),
        ("--against", "mvm"),
        ("--against", "jpeg,"),
        ("--against", "jpeg", "--codec", "mvm"),
        ("--jobs", "0"),
        ("--effort", "4"),
    ],
)
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
    objects = mvmic("compare", one, two, "--test", "jpeg2000", "--json")
    assert objects.exit_code == 0, objects.output
    assert {each["set"] for each in json.loads(objects.stdout)} == {"scans", "scans_8bit"}
    assert all(each["bd_rate_ms_ssim"] is not None for each in json.loads(objects.stdout))
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


def test_folders_of_one_name_are_refused(mvmic, scans, tmp_path):
    other = tmp_path / "other" / "scans"
    shutil.copytree(scans, other)
    for folders in ((scans, other), (scans, scans)):
        result = mvmic("eval", *folders, "--codec", "jpeg")
        assert result.exit_code == 2 and "named scans" in result.stderr


def test_a_limit_of_no_folder_is_refused(mvmic, scans):
    result = mvmic("eval", scans, "--codec", "jpeg", "--limit", "scan=1")
    assert result.exit_code == 2 and "no folder of that name" in result.stderr


def test_resuming_at_other_rate_indices_is_refused(mvmic, scans, tmp_path):
    table = tmp_path / "rows.csv"
    (scans / "deep.png").unlink()
    assert mvmic("eval", scans, "--csv", table, "--rate-index", 0).exit_code == 0
    before = table.read_bytes()
    result = mvmic("eval", scans, "--csv", table, "--rate-index", 5, "--resume")
    assert result.exit_code == 1 and "rate indices 0;" in result.stderr
    assert mvmic("eval", scans, "--csv", table, "--rate-index", 0, "--resume").exit_code == 0
    assert table.read_bytes() == before
    more = mvmic("eval", scans, "--csv", table, "--codec", "jpeg", "--resume")
    assert more.exit_code == 0, "another codec is no matter of rate indices"
