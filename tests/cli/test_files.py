import os
from pathlib import Path

import pytest

from mvmic_codec.cli.files import Job, atomic
from mvmic_codec.errors import InputError


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_atomic_leaves_nothing_behind(tmp_path, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic(target) as file:
        file.write(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_atomic_makes_folders_and_follows_the_umask(tmp_path):
    target = tmp_path / "x" / "y" / "a.bin"
    with atomic(target) as file:
        file.write(b"new")
        assert not target.exists()
    (tmp_path / "plain").touch()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_plan_of_single_files(tmp_path):
    source = tmp_path / "scan.png"
    assert plan([source], None, (), ".mvm") == [Job(source, tmp_path / "scan.mvm")]
    assert plan([source], "to.mvm", (), ".mvm") == [Job(source, Path("to.mvm"))]
    assert plan([source], "to", (), ".mvm") == [Job(source, Path("to/scan.mvm"))]
    folder = tmp_path / "v1.0"
    folder.mkdir()
    assert plan([source], str(folder), (), ".mvm") == [Job(source, folder / "scan.mvm")]


def test_plan_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(InputError, match="would both be written"):
        plan([tmp_path / "a.png", tmp_path / "a.tif"], None, (), ".mvm")
    with pytest.raises(InputError, match="holds no .png files"):
        plan([tmp_path], None, (".png",), ".mvm")
