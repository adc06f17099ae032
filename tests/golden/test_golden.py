"""The files in formats/golden decode for ever to the same symbols and, but for a level, samples."""

import hashlib
import json
from pathlib import Path

import decode as reference
import numpy as np
import pytest
from PIL import Image
from slow import first_is_quick

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder import decode
from mvmic_codec.model import loaded
from mvmic_codec.model.identity import model_identity
from mvmic_codec.model.intnet import usable_paths

GOLDEN = Path(__file__).parents[2] / "formats/golden"
HASHES = json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture(scope="module")
def models():
    return reference.load_models(reference.installed_models())


# The fastest first: it is what decodes on this machine.
@pytest.fixture(params=first_is_quick([*usable_paths()[::-1], "doubles"]), scope="module")
def way(request):
    """Every way there is to evaluate the entropy networks, one after the other."""
    paths = () if request.param == "doubles" else (request.param,)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, "fast_paths", lambda: paths)
        loaded.load.cache_clear()
        for gray in (True, False):
            model = loaded.load(model_identity(gray)[1], "cpu")
            assert getattr(model.entropy, "path", "doubles") == request.param
        yield request.param
    loaded.load.cache_clear()


@pytest.fixture
def symbols(monkeypatch):
    """What the package's decoder takes out of a file, as bytes."""
    taken = []

    class Recorder(Unpacker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            taken.clear()  # the start may have been looked at before

        def next(self, indices, second=0):
            out = super().next(indices, second)
            taken.append(out.astype("<i2").tobytes())
            return out

    monkeypatch.setattr(decode, "Unpacker", Recorder)
    return taken


def test_every_file_has_its_hash_and_samples():
    names = {path.stem for path in GOLDEN.glob("*.mvm")}
    assert names == set(HASHES) == {path.stem for path in GOLDEN.glob("*.npz")}
    assert len(names) >= 15


@pytest.mark.parametrize("name", sorted(HASHES))
def test_symbols_and_samples(way, symbols, name):
    data = (GOLDEN / f"{name}.mvm").read_bytes()
    image = mvmic_codec.decode(data, device="cpu")
    assert hashlib.sha256(b"".join(symbols)).hexdigest() == HASHES[name]
    expected = np.load(GOLDEN / f"{name}.npz")["samples"]
    decoded = np.asarray(image)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(np.int64) - expected.astype(np.int64)).max() <= 1


@pytest.mark.parametrize("name", sorted(HASHES))
def test_the_reference_decoder_gives_the_same_symbols(models, name):
    decoded = reference.decode((GOLDEN / f"{name}.mvm").read_bytes(), models)
    found = b"".join(each.astype("<i2").tobytes() for each in decoded.passes)
    assert hashlib.sha256(found).hexdigest() == HASHES[name]


def test_they_cover_what_the_format_has():
    headers = [mvmic_codec.read_header(GOLDEN / f"{name}.mvm") for name in HASHES]
    assert {h.photometric for h in headers} >= {0, 2, 3}
    assert {h.rate_index for h in headers} >= {0, 63}
    assert {h.bits for h in headers} >= {8, 16} and {h.signed for h in headers} == {False, True}
    files = [container.read((GOLDEN / f"{name}.mvm").read_bytes()) for name in HASHES]
    assert {file.payload[0] for file in files} == {1, 4}  # lanes
    info = Image.open(GOLDEN / "metadata.mvm").info
    assert set(info) >= {"exif", "icc_profile", "xmp", "dpi", "text"}
