"""Each file in formats/errors is refused, by the package and by the reference decoder."""

import json
from pathlib import Path

import decode as reference
import pytest
from PIL import Image

import mvmic_codec
from mvmic_codec import errors

FOLDER = Path(__file__).parents[2] / "formats/errors"
ERRORS = json.loads((FOLDER / "errors.json").read_text())


def test_every_file_has_its_error():
    assert {path.stem for path in FOLDER.glob("*.mvm")} == set(ERRORS)
    assert set(ERRORS.values()) == {
        "FormatError",
        "TruncatedError",
        "ChecksumError",
        "VersionError",
        "ModelError",
    }


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_the_package_refuses(name):
    path = FOLDER / f"{name}.mvm"
    kind = getattr(errors, ERRORS[name])
    with pytest.raises(kind) as caught:
        mvmic_codec.decode(path, device="cpu")
        # All frames.
        mvmic_codec.decode_array(path, device="cpu")
    # Kinds of FormatError may stand for it, but nothing else for one of them.
    assert kind is errors.FormatError or type(caught.value) is kind
    message = str(caught.value)
    assert message and "\n" not in message
    with pytest.raises((OSError, Image.DecompressionBombError)), Image.open(path) as image:
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()


def test_a_file_of_generation_1_says_what_reads_it():
    with pytest.raises(errors.ModelError) as caught:
        mvmic_codec.decode(FOLDER / "earlier-generation.mvm")
    assert str(caught.value) == (
        "the file was written with model mvmic-1g of mvmic_codec 0.14.0 to 0.15.0; "
        "`pip install mvmic_codec==0.15.0` reads it"
    )


@pytest.fixture(scope="module")
def models():
    return reference.load_models(reference.installed_models())


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_the_reference_decoder_refuses(models, name):
    kind = getattr(reference, ERRORS[name])
    with pytest.raises(kind) as caught:
        reference.decode((FOLDER / f"{name}.mvm").read_bytes(), models)
    assert kind is reference.FormatError or type(caught.value) is kind
