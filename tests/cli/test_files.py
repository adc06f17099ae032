import errno
import io
import os
import sys
from pathlib import Path

import pytest

from mvmic_codec.cli.files import STDIO, Job, Outputs, atomic, reading, shown, write
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


def test_no_output_replaces_another_one_of_the_run(tmp_path):
    """Even with force, and whatever makes two names mean one file; here a link."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    source = tmp_path / "a.png"
    source.touch()
    first, second = tmp_path / "folder" / "a.mvm", tmp_path / "link" / "a.mvm"
    first.write_bytes(b"old")
    outputs = Outputs(force=True)
    outputs.check(Job(source, first))
    outputs.write(first, b"new")
    with pytest.raises(InputError, match="which this run has written already"):
        outputs.check(Job(source, second))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_no_output_replaces_its_input(tmp_path, link):
    source, target = tmp_path / "a.mvm", tmp_path / "b.mvm"
    source.touch()
    link(source, target)
    with pytest.raises(InputError, match="replace the input"):
        Outputs(force=True).check(Job(source, target))


def test_a_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "a.mvm"
    link.symlink_to("there/b.mvm")
    for data in (b"first", b"second"):
        write(link, data)
        assert link.is_symlink() and (tmp_path / "there" / "b.mvm").read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == ["a.mvm", "there"]


def test_names_may_be_as_long_as_the_file_system_takes(tmp_path):
    source = tmp_path / "a.png"
    source.touch()
    limit = os.pathconf(tmp_path, "PC_NAME_MAX")
    longest = "字" * ((limit - 4) // 3)
    longest += "x" * (limit - 4 - len(longest.encode())) + ".mvm"
    Outputs(force=False).check(Job(source, tmp_path / longest))
    write(tmp_path / longest, b"data")
    assert longest in os.listdir(tmp_path)
    for target in (f"x{longest}", f"x{longest}/a.mvm"):
        with pytest.raises(
            InputError, match=f"is of {limit + 1} bytes, and this file system takes"
        ):
            Outputs(force=False).check(Job(source, tmp_path / target))


def test_a_device_is_written_to_and_stays_one():
    """A terminal's, whose folder takes no files: root could replace /dev/null."""
    master, terminal = os.openpty()
    try:
        device = Path(os.ttyname(terminal))
        write(device, b"data")
        assert device.is_char_device() and os.read(master, 4) == b"data"
    finally:
        os.close(master)
        os.close(terminal)


def test_a_full_standard_output_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full))
        with pytest.raises(OSError, match="No space left") as caught:
            write(STDIO, b"data")
        assert caught.value.filename == "standard output"
        monkeypatch.undo()


def test_a_full_disk_is_told_of_the_target(tmp_path):
    target = tmp_path / "a.mvm"
    with pytest.raises(OSError) as caught, atomic(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(target) and os.listdir(tmp_path) == []


def test_devices_are_not_read():
    with pytest.raises(InputError, match="device"), reading(Path(os.devnull)):
        pass


def test_no_image_is_sent_to_a_terminal(tmp_path):
    source = tmp_path / "a.png"
    source.touch()
    master, terminal = os.openpty()
    try:
        with pytest.raises(InputError, match="is a terminal"):
            Outputs(force=True).check(Job(source, Path(os.ttyname(terminal))))
    finally:
        os.close(master)
        os.close(terminal)


def test_names_are_shown_on_one_line():
    name = os.fsdecode(b"a\nb\xff.png")
    assert shown(name) == "a\\nb\\udcff.png"
    assert shown("Größe 字.png") == "Größe 字.png"
