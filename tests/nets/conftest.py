import shutil

import pytest
from small_model import small_model

from mvmic_codec.nets import identity, release


@pytest.fixture(scope="session")
def model():
    return small_model()


@pytest.fixture(scope="session")
def released_folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    release.export(model, folder, identity.GRAY_MODEL, "for tests")
    release.export(small_model(seed=1), folder, identity.COLOUR_MODEL, "for tests")
    return folder


@pytest.fixture
def weights(released_folder, tmp_path, monkeypatch):
    """A copy of the released small model that a test may damage, installed for gray images."""
    for path in released_folder.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    identity.default_identity.cache_clear()
    release.load.cache_clear()
    yield tmp_path
    identity.default_identity.cache_clear()
    release.load.cache_clear()


@pytest.fixture
def released(weights):
    return release.load(identity.model_identity(gray=True)[1], "cpu")


@pytest.fixture
def weights_path(weights):
    return weights / f"{identity.GRAY_MODEL}.safetensors"
