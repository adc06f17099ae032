"""The files in formats/golden decode for ever to the same symbols and the same samples."""

import hashlib
import json
from itertools import product
from pathlib import Path

import decode as reference
import numpy as np
import pytest
import torch
from PIL import Image
from slow import first_is_quick

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder import decode, image, on_device
from mvmic_codec.decoder.stripes import PLANES
from mvmic_codec.model import decoding, intnet, synthnet
from mvmic_codec.model.identity import model_identity

GOLDEN = Path(__file__).parents[2] / "formats/golden"
MODES = {"1", "P", "L", "LA", "RGB", "RGBA", "I", "I;16"}
HASHES = json.loads((GOLDEN / "golden.json").read_text())


@pytest.fixture(scope="module")
def models():
    return reference.load_models(reference.installed_models())


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# In C the fastest first: it is what decodes on this machine. Then in torch.
PATHS = list(dict.fromkeys((*synthnet.usable_paths()[::-1], *intnet.usable_paths()[::-1])))
WAYS = [*first_is_quick(PATHS), *[f"torch-{device}" for device in DEVICES]]


@pytest.fixture(params=WAYS, scope="module")
def way(request):
    """Every way there is to evaluate the networks, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param.startswith("torch-"):
            use_torch(patch, request.param.removeprefix("torch-"))
        else:
            use_path(patch, request.param)
        yield request.param
    decoding.load.cache_clear()


def use_path(patch, path):
    for module in (intnet, synthnet):
        # One of both may not have it, and takes its fastest.
        if path in module.usable_paths():
            patch.setattr(module, "usable_paths", lambda: (path,))
    decoding.load.cache_clear()
    for gray in (True, False):
        model = decoding.load(model_identity(gray)[1])
        assert path in (model.entropy.path, model.synthesis.path)


def use_torch(patch, device):
    """Also on the CPU, where C decodes if a device is not asked for in this way."""

    def by_torch(header, tile_of, emit, **options):
        options["device"] = device
        on_device.decode_parts(header, tile_of, emit, until=PLANES, **options)

    patch.setattr(image, "decode_parts", by_torch)


@pytest.fixture
def symbols(monkeypatch):
    """What the package's decoder takes out of a file, as bytes: one tile after the other."""
    taken = []

    class Recorder(Unpacker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.mine = []

        def next(self, indices, second=0):
            out = super().next(indices, second)
            self.mine.append(out.astype("<i2").tobytes())
            return out

        def finish(self):
            super().finish()
            # Only now: the start of a payload may have been looked at before.
            taken.extend(self.mine)

    monkeypatch.setattr(decode, "Unpacker", Recorder)
    # Several threads would take tiles in any order.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return taken


def test_every_file_has_its_hash_and_samples():
    names = {path.stem for path in GOLDEN.glob("*.mvm")}
    assert names == set(HASHES) == {path.stem for path in GOLDEN.glob("*.npz")}
    assert len(names) >= 15


def samples_of(name):
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return stored["samples"]


@pytest.mark.parametrize("name", sorted(HASHES))
def test_symbols_and_samples(way, symbols, name):
    data = (GOLDEN / f"{name}.mvm").read_bytes()
    decoded = mvmic_codec.decode_array(data, device="cpu")
    assert hashlib.sha256(b"".join(symbols)).hexdigest() == HASHES[name]
    expected = samples_of(name)
    assert decoded.shape == expected.shape and np.array_equal(decoded, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["gray-four-lanes", "flat-blends-colour", "tiles", "tiles-alpha"])
def test_any_number_of_threads_gives_the_same(monkeypatch, name, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    decoded = mvmic_codec.decode(GOLDEN / f"{name}.mvm")
    assert np.array_equal(np.asarray(decoded), samples_of(name))


@pytest.mark.parametrize("name", ["palette", "palette-alpha"])
def test_palettes(models, name):
    data = (GOLDEN / f"{name}.mvm").read_bytes()
    with np.load(GOLDEN / f"{name}.npz") as stored:
        colours, indices = stored["colours"], stored["samples"]
    assert np.array_equal(reference.decode(data, models).colours, colours)
    image = mvmic_codec.decode(data)
    mode = "RGBA" if name == "palette-alpha" else "RGB"
    assert image.mode == "P" and image.has_transparency_data == (mode == "RGBA")
    assert np.array_equal(np.asarray(image.convert(mode)), colours[indices])


@pytest.mark.parametrize("name", sorted(HASHES))
def test_the_reference_decoder_gives_the_same(models, name):
    decoded = reference.decode((GOLDEN / f"{name}.mvm").read_bytes(), models)
    found = b"".join(each.astype("<i2").tobytes() for each in decoded.passes)
    assert hashlib.sha256(found).hexdigest() == HASHES[name]
    expected = samples_of(name)
    assert decoded.samples.dtype == expected.dtype
    assert np.array_equal(decoded.samples, expected)


def test_they_cover_what_the_format_has():
    headers = [mvmic_codec.read_header(GOLDEN / f"{name}.mvm") for name in HASHES]
    assert {h.photometric for h in headers} >= {0, 2, 3}
    assert {h.rate_index for h in headers} >= {0, 63}
    assert {h.bits for h in headers} >= {8, 16} and {h.signed for h in headers} == {False, True}
    assert {h.version for h in headers} == {2, 3} and {h.mode for h in headers} == MODES
    assert {(h.frames > 1, h.tile > 0) for h in headers} == set(product((False, True), repeat=2))
    readers = [container.Reader((GOLDEN / f"{name}.mvm").read_bytes()) for name in HASHES]
    kinds = {kind for reader in readers for kind in (*reader.sizes(), *reader.metadata)}
    assert kinds == {*container.TILE, *container.METADATA}
    tiles = [reader.tile().payload for reader in readers if not reader.header.indexed]
    assert {payload[0] for payload in tiles} == {1, 4}  # lanes
    info = Image.open(GOLDEN / "metadata.mvm").info
    assert set(info) >= {"exif", "icc_profile", "xmp", "dpi", "text"}
