import shutil

import pytest
from small_model import SMALL, lively_neighbours, small_model

from mvmic_codec.nets import identity, release


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for channels, name in ((1, identity.GRAY_MODEL), (3, identity.COLOUR_MODEL)):
        release.export(small_model(channels), folder, name, "for tests")
        fitted = lively_neighbours(SMALL[channels])
        release.replace_arrays(folder / f"{name}.safetensors", fitted)
    return folder


@pytest.fixture
def weights(released_folder, tmp_path, monkeypatch):
    """A copy of the released small models that a test may damage, installed."""
    for path in released_folder.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    identity.default_identity.cache_clear()
    release.load.cache_clear()
    yield tmp_path
    identity.default_identity.cache_clear()
    release.load.cache_clear()


@pytest.fixture
def channels():
    """Of the images that the models of the next two are for; tests give their own."""
    return 3


@pytest.fixture
def released(weights, channels):
    return release.load(identity.model_identity(gray=channels == 1)[1], "cpu")


@pytest.fixture
def weights_path(weights, channels):
    name = identity.GRAY_MODEL if channels == 1 else identity.COLOUR_MODEL
    return weights / f"{name}.safetensors"
