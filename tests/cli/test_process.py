"""The command as a process of its own: no traceback, no torch where none is needed."""

import subprocess
import sys

import pytest

_MAIN = "import sys; sys.argv[0] = 'mvmic'; from mvmic_codec.cli import main; main()"
_WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; sys.modules['numpy'] = None; " + _MAIN


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_a_missing_file_is_one_line(command, tmp_path):
    result = run(_MAIN, command, tmp_path / "missing.xyz")
    assert result.returncode == 1
    assert result.stderr == f"mvmic: {tmp_path / 'missing.xyz'}: no such file or directory\n"


def test_an_unwritable_target_is_one_line(tmp_path, gray):
    (tmp_path / "file").touch()
    result = run(_MAIN, "encode", gray, "-o", tmp_path / "file" / "x.mvm")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "is not a folder" in result.stderr


def test_help_and_info_need_neither_torch_nor_numpy(tmp_path, header):
    from mvmic_codec.bitstream import container

    path = tmp_path / "x.mvm"
    path.write_bytes(container.write(header, b"payload", {}))
    assert run(_WITHOUT_TORCH, "--help").returncode == 0
    result = run(_WITHOUT_TORCH, "info", path)
    assert result.returncode == 0, result.stderr
    assert "rate index" in result.stdout


def test_wrong_usage(tmp_path):
    assert run(_MAIN, "transmogrify").returncode == 2
    assert run(_MAIN, "encode").returncode == 2
    assert run(_MAIN, "--version").returncode == 0
