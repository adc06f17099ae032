import os
from pathlib import Path

import click
import pytest

from mvmic_codec.cli.files import STDIO, Job
from mvmic_codec.cli.plan import Naming, plan
from mvmic_codec.errors import InputError

NAMING = Naming("images", {".png", ".jpg"}, {".png", ".jpg", ".pdf"}, ".mvm")


def jobs(*inputs, output=None):
    return plan([str(path) for path in inputs], output and str(output), NAMING).jobs


def test_single_files(tmp_path):
    source = tmp_path / "scan.png"
    assert jobs(source) == [Job(source, tmp_path / "scan.mvm")]
    assert jobs(source, output="to.mvm") == [Job(source, Path("to.mvm"))]
    assert jobs(source, output="to") == [Job(source, Path("to/scan.mvm"))]
    folder = tmp_path / "v1.0"
    folder.mkdir()
    assert jobs(source, output=folder) == [Job(source, folder / "scan.mvm")]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("scan.PNG", "scan.mvm"),
        ("scan.pdf", "scan.mvm"),
        ("IM.0001", "IM.0001.mvm"),
        ("1.2.840.113", "1.2.840.113.mvm"),
        ("scan", "scan.mvm"),
        (".png", ".png.mvm"),
        ("scan..png", "scan..mvm"),
    ],
)
def test_only_a_known_suffix_is_replaced(name, target):
    assert jobs(name) == [Job(Path(name), Path(target))]


def test_a_dash_is_a_standard_stream_and_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert jobs("-", output="x.mvm") == [Job(STDIO, Path("x.mvm"))]
    assert jobs("a.png", output="-") == [Job(Path("a.png"), STDIO)]
    assert jobs("./-") == [Job(tmp_path / "-", tmp_path / "-.mvm")]


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["-"], None),
        (["-"], "folder"),
        (["/dev/fd/0"], None),
        (["a.png", "b.png"], "-"),
        (["."], "-"),
        (["a.png", "b.png"], os.devnull),
        ([""], None),
        (["a.png"], ""),
    ],
)
def test_what_has_no_name_or_holds_one_image_is_wrong_usage(inputs, output):
    with pytest.raises(click.UsageError):
        plan(inputs, output, NAMING)


def test_two_sources_of_one_target(tmp_path):
    with pytest.raises(InputError, match=r"a.png and .*a.jpg would both be written"):
        jobs(tmp_path / "a.png", tmp_path / "a.jpg")


def test_what_is_given_twice_is_done_once(tmp_path):
    (tmp_path / "a.png").touch()
    assert jobs(tmp_path / "a.png", tmp_path, f"{tmp_path}/./a.png") == [
        Job(tmp_path / "a.png", tmp_path / "a.mvm")
    ]


def test_what_a_folder_holds_beside_is_named(tmp_path):
    for name in ("a.png", "b.JPG", "notes.txt", ".c.png", ".git/d.png", "sub/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nowhere.png").symlink_to("nothing")
    (tmp_path / "circle.png").symlink_to("circle.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to("a.png")
    made = plan([str(tmp_path)], None, NAMING)
    assert [job.source.relative_to(tmp_path).as_posix() for job in made.jobs] == [
        *("a.png", "b.JPG", "link.png", "sub/e.png")
    ]
    skipped = {path.relative_to(tmp_path).as_posix(): reason for path, reason in made.skipped}
    assert skipped == {
        "notes.txt": "not named as images",
        ".c.png": "hidden",
        ".git": "hidden",
        "pipe.png": "no regular file",
        "nowhere.png": "no regular file",
        "circle.png": "no regular file",
        "sub/up": "link to a folder",
    }
    assert made.failed == []


def test_a_folder_without_any_fails_alone(tmp_path):
    (tmp_path / "empty").mkdir()
    made = plan([str(tmp_path / "empty"), "a.png"], "out", NAMING)
    assert made.failed == [(tmp_path / "empty", "the folder holds no images")]
    assert made.jobs == [Job(Path("a.png"), Path("out/a.mvm"))]


def test_a_folder_that_cannot_be_read_has_failed(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):  # as for anyone but root
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    made = plan([str(tmp_path)], None, NAMING)
    assert made.failed == [(tmp_path / "closed", "permission denied")]
    assert [job.source for job in made.jobs] == [tmp_path / "a.png"]
