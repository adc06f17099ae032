"""The command as a process of its own: no traceback, no torch where none is needed."""

import os
import subprocess
import sys

import pytest

_MAIN = "import sys; sys.argv[0] = 'mvmic'; from mvmic_codec.cli import main; main()"
_WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; sys.modules['numpy'] = None; " + _MAIN


def run(code, *arguments, stdout=subprocess.PIPE, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        **options,
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


@pytest.fixture
def coded(tmp_path, header):
    from mvmic_codec.bitstream import container

    path = tmp_path / "x.mvm"
    path.write_bytes(container.write(header, b"payload", {}))
    return path


@pytest.mark.parametrize(
    "arguments", [("info", "x.mvm"), ("info", "--json", "x.mvm"), ("--help",), ("info", "--help")]
)
def test_a_full_standard_output_is_one_line(coded, arguments):
    with open("/dev/full", "wb") as full:
        result = run(_MAIN, *arguments, cwd=coded.parent, stdout=full)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "no space left on device" in result.stderr


def test_a_broken_pipe_is_not_complained_of(coded):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as broken:
        result = run(_MAIN, "info", coded, stdout=broken)
    assert result.returncode == 1 and result.stderr == ""


def test_letters_that_the_terminal_cannot_show_are_escaped(coded):
    name = coded.rename(coded.with_name("字.mvm"))
    result = run(_MAIN, "info", name, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0 and "\\u5b57.mvm" in result.stdout


def test_a_library_that_cannot_be_loaded_is_one_line(gray):
    """As with too little memory: ImportError is what the system's loader then leads to."""
    result = run(_WITHOUT_TORCH, "encode", gray)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "a library cannot be loaded" in result.stderr


def test_an_interrupt_is_one_line_and_leaves_nothing(gray):
    code = (
        "import signal, mvmic_codec.cli.encode as encode\n"
        # A shell's background jobs begin with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "encode.open_image = lambda file: signal.raise_signal(signal.SIGINT)\n"
    )
    result = run(code + _MAIN, "encode", gray)
    assert result.returncode == 130
    assert result.stderr == "mvmic: interrupted\n" and result.stdout == ""
    assert list(gray.parent.iterdir()) == [gray]
