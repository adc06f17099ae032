"""Pipes and standard streams as inputs and outputs."""

import io
import json
import os
import threading

import pytest
from click.testing import CliRunner
from PIL import Image

from mvmic_codec import api
from mvmic_codec.cli import main


@pytest.fixture
def run(fake_codec):
    """Runs a command line with bytes for its standard input."""

    def run(*arguments, given=b""):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


@pytest.fixture
def coded(fake_codec, gray):
    return api.encode(Image.open(gray))


@pytest.fixture
def piped():
    """The name of a pipe that holds the bytes it is called with."""
    ends = []

    def piped(data):
        reader, writer = os.pipe()
        assert os.write(writer, data) == len(data)
        os.close(writer)
        ends.append(reader)
        return f"/dev/fd/{reader}"

    yield piped
    for end in ends:
        os.close(end)


def test_from_standard_input_to_standard_output(run, gray, coded):
    encoded = run("encode", "-", "-o", "-", given=gray.read_bytes())
    assert encoded.exit_code == 0 and encoded.stdout_bytes == coded
    assert (
        encoded.stderr
        == f"-: 40x30 L, {len(coded)} bytes, {len(coded) * 8 / 1200:.4f} bpp, "
        + ("rate index 54\n")
    )
    decoded = run("decode", "-", "-o", "-", "--to", "tif", given=coded)
    assert decoded.exit_code == 0 and decoded.stderr == "-: 40x30 L, TIFF\n"
    assert Image.open(io.BytesIO(decoded.stdout_bytes)).format == "TIFF"
    described = run("info", "-", "--json", given=coded)
    assert json.loads(described.stdout)[0]["bytes"] == len(coded)


def test_the_summary_goes_where_the_image_does_not(run, gray, coded):
    result = run("encode", gray, "-o", "-", "--json")
    assert result.stdout_bytes == coded
    assert json.loads(result.stderr)["files"][0]["output"] == "-"
    assert run("encode", gray, "-o", "-", "--quiet").stderr == ""


def test_from_a_pipe(run, gray, coded, piped, tmp_path):
    for source in (piped(gray.read_bytes()), gray):
        target = tmp_path / "coded.mvm"
        assert run("encode", source, "-o", target, "--force").exit_code == 0
        assert target.read_bytes() == coded
    assert run("decode", piped(coded), "-o", tmp_path / "back.png").exit_code == 0
    assert Image.open(tmp_path / "back.png").size == (40, 30)
    described = run("info", piped(coded), "--json")
    assert json.loads(described.stdout)[0]["bytes"] == len(coded)


def test_named_pipes_at_both_ends(run, coded, tmp_path):
    source, target = tmp_path / "in.mvm", tmp_path / "out.png"
    received = []
    for path in (source, target):
        os.mkfifo(path)
    ends = [
        threading.Thread(target=source.write_bytes, args=(coded,), daemon=True),
        threading.Thread(target=lambda: received.append(target.read_bytes()), daemon=True),
    ]
    for end in ends:
        end.start()
    result = run("decode", source, "-o", target)
    assert result.exit_code == 0, result.output
    for end in ends:
        end.join(10)
    assert Image.open(io.BytesIO(received[0])).size == (40, 30)
    assert target.is_fifo()


def test_a_file_that_is_redirected_into_a_stream_is_added_to(run, gray, coded, tmp_path):
    """As shells do it: -o /dev/stdout >> all.mvm"""
    with open(tmp_path / "all.mvm", "w+b") as file:
        file.write(b"before")
        file.flush()
        assert run("encode", gray, "-o", f"/dev/fd/{file.fileno()}").exit_code == 0
        file.seek(0)
        assert file.read() == b"before" + coded


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_nothing_from_standard_input_is_one_sentence(run, command):
    arguments = () if command == "info" else ("-o", "-")
    result = run(command, "-", *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("mvmic: -: ") and result.stderr.count("\n") == 1


def test_two_images_do_not_go_into_one_stream(run, gray, deep):
    assert run("encode", gray, deep, "-o", "-").exit_code == 2
