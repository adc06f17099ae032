"""The command as a process of its own: no traceback, no torch where none is needed."""

import os
import signal
import subprocess
import sys
import threading

import one_tile
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

    path = tmp_path / "x.mvm"
    path.write_bytes(one_tile.write(header, b"payload", {}))
    assert run(_WITHOUT_TORCH, "--help").returncode == 0
    result = run(_WITHOUT_TORCH, "info", path)
    assert result.returncode == 0, result.stderr
    assert "rate index" in result.stdout


def test_wrong_usage(tmp_path):
    assert run(_MAIN, "transmogrify").returncode == 2
    assert run(_MAIN, "encode").returncode == 2
    assert run(_MAIN, "--version").returncode == 0


# Neither encodes nor decodes anything, and gets the signal when only the renaming is left to do.
_WRITING = """
import signal
from PIL import Image
from mvmic_codec import api
from mvmic_codec.cli import files
api.encode = lambda *arguments, **options: b"data"
api.decode_image = lambda *arguments, **options: Image.new("L", (5, 3))
replace = files.os.replace
def late(source, target):
    assert open(source, "rb").read()
    signal.raise_signal(signal.{name})
    replace(source, target)
files.os.replace = late
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_signal_while_a_file_is_written_leaves_nothing(gray, coded, command, name, code):
    source = gray if command == "encode" else coded
    before = sorted(gray.parent.iterdir())
    # Background jobs and nohup begin with signals ignored.
    start = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    start += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    target = gray.with_name("new.mvm" if command == "encode" else "new.png")
    result = run(start + _WRITING.format(name=name) + _MAIN, command, source, "-o", target)
    assert result.returncode == code
    said = "interrupted" if name == "SIGINT" else "terminated"
    assert result.stderr == f"mvmic: {said}\n" and result.stdout == ""
    assert sorted(gray.parent.iterdir()) == before


def test_a_signal_that_is_ignored_stays_ignored(gray, coded):
    """As nohup has it."""
    start = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    result = run(
        start + _WRITING.format(name="SIGHUP") + _MAIN,
        "decode",
        coded,
        "-o",
        "new.png",
        cwd=gray.parent,
    )
    assert result.returncode == 0, result.stderr
    assert gray.with_name("new.png").is_file()


@pytest.mark.parametrize("handler", [signal.SIG_DFL, lambda number, frame: None])
def test_a_program_that_runs_the_command_keeps_its_handlers(mvmic, gray, handler, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "mvmic_codec.cli.encode.open_frames",
        lambda file: seen.append(signal.getsignal(signal.SIGTERM)),
    )
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(TypeError):
            mvmic("encode", gray)
        assert signal.getsignal(signal.SIGTERM) == handler
        assert (seen[0] == handler) == (handler != signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_command_runs_in_another_thread(mvmic, gray):
    """Where Python sets no handlers of signals."""
    results = []
    thread = threading.Thread(target=lambda: results.append(mvmic("encode", gray)))
    thread.start()
    thread.join(60)
    assert results[0].exit_code == 0


@pytest.fixture
def coded(tmp_path, header):

    path = tmp_path / "x.mvm"
    path.write_bytes(one_tile.write(header, b"payload", {}))
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


def test_a_library_that_is_missing_is_one_line(gray):
    result = run(_WITHOUT_TORCH, "encode", gray)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "a library is missing" in result.stderr


def test_an_interrupt_is_one_line_and_leaves_nothing(gray):
    code = (
        "import signal, mvmic_codec.cli.encode as encode\n"
        # A shell's background jobs begin with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "encode.open_frames = lambda file: signal.raise_signal(signal.SIGINT)\n"
    )
    result = run(code + _MAIN, "encode", gray)
    assert result.returncode == 130
    assert result.stderr == "mvmic: interrupted\n" and result.stdout == ""
    assert list(gray.parent.iterdir()) == [gray]
