import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mvmic_codec.cli import main


@pytest.fixture
def mvmic(fake_codec):
    """Runs a command line with the fake codec; unexpected exceptions are raised."""

    def run(*arguments):
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    def checked(*arguments):
        result = run(*arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return result

    return checked


@pytest.fixture
def gray(tmp_path):
    path = tmp_path / "gray.png"
    Image.fromarray((np.arange(40 * 30) % 251).astype(np.uint8).reshape(30, 40)).save(path)
    return path


@pytest.fixture
def deep(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray((np.arange(40 * 30) * 3).astype(np.uint16).reshape(30, 40)).save(path)
    return path


@pytest.fixture
def study(tmp_path):
    """A folder with a tree of images, and files that are none."""
    folder = tmp_path / "study"
    for name in ("a.png", "series/b.tif", "series/deeper/C.PNG"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (200, 30, 40)).save(path)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"not an image either")
    return folder
