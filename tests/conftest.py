import os
import shutil
import types
import zlib

import numpy as np
import pytest

from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder import tiles
from mvmic_codec.decoder.paint import paint
from mvmic_codec.errors import ModelError
from mvmic_codec.image.samples import array_type

# Beside other workers one thread is faster. torch reads this when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

EFFORTS = {1: 6, 2: 9, 3: 1}  # levels of zlib, which show in its files
ROUNDS = {1: 0, 2: 2, 3: 12}  # as of refine.py
# Generation and fingerprint.
FAKE_MODEL = (9, b"\x01\x02\x03\x04\x05\x06\x07\x08")


class _Candidate:
    def __init__(
        self,
        planes,
        rate_index,
        *,
        flat=None,
        flat_payload=None,
        hidden=None,
        place=None,
        like=None,
        model=None,
        device=None,
    ):
        assert planes.dtype == np.float32 and planes.ndim == 3
        assert planes.min() >= 0 and planes.max() <= 1
        self.planes, self.rate = planes, rate_index
        self.flat, self.flat_payload = flat, flat_payload

    def estimate_rd_cost(self):
        return 8 * len(self.encode().payload)

    def excess_error(self, planes, where):
        return 0.0

    def encode(self, *, effort=1, on_round=None):
        for _ in range(ROUNDS[effort]):
            if on_round is not None:
                on_round()
        values = np.rint(self.planes * (_levels(self.rate) - 1)).astype("<u2")
        return _Coded(self, zlib.compress(values.tobytes(), EFFORTS[effort]))


class _Coded:
    def __init__(self, candidate, payload):
        self.candidate, self.payload, self.rate = candidate, payload, candidate.rate

    def decoded_planes(self, lo, hi):
        planes = _planes_of(self.payload, self.candidate.planes.shape, self.rate)
        samples = _samples_of(planes, lo, hi)
        if self.candidate.flat is not None:
            paint(samples, self.candidate.flat)
        return ((samples - lo) / np.float32(max(hi - lo, 1))).transpose(2, 0, 1).astype(np.float32)


def _samples_of(planes, lo, hi):
    # Numbers of levels that are no integers make planes of a little more than 1.
    share = planes.transpose(1, 2, 0).clip(0, 1)
    return np.rint(share * (hi - lo)).astype(np.int32) + lo


def _levels(rate_index):
    return 2 ** (2 + 14 * rate_index / 63)


def _planes_of(payload, shape, rate_index):
    values = np.frombuffer(zlib.decompress(payload), "<u2").astype(np.float32)
    return (values / np.float32(_levels(rate_index) - 1)).reshape(shape)


def _decode_planes(payload, header, *, hidden=None, device=None):
    if header.fingerprint != FAKE_MODEL[1]:
        raise ModelError(f"model {header.model} ({header.fingerprint.hex()}) is not installed")
    shape = (3 if header.photometric == 2 else 1, header.height, header.width)
    return _planes_of(payload, shape, header.rate_index)


@pytest.fixture
def fake_codec(monkeypatch):
    """A codec without a model, for tests of what surrounds it: quantised planes under zlib."""
    codec = types.SimpleNamespace(EncodeCandidate=_Candidate, decode_planes=_decode_planes)

    def candidate(*arguments, **options):
        return codec.EncodeCandidate(*arguments, **options)

    def decode_parts(header, tile_of, emit, *, window, emit_overlays, device=None, emit_map=None):
        tile = tile_of(0, 0)
        laid = tiles.overlays_of(tile, header)
        emit_overlays(window, laid)
        hidden = laid.hidden
        planes = codec.decode_planes(tile.payload, header, hidden=hidden, device=device)
        samples = _samples_of(planes, header.lo, header.hi)
        samples = samples.astype(array_type(header.bits, header.signed))
        for top, bottom in ((0, 1), (1, None)):
            emit(top, 0, samples[top:bottom, :2].copy())
            emit(top, 2, samples[top:bottom, 2:].copy())

    encoder, decoder = "mvmic_codec.encoder", "mvmic_codec.decoder"
    monkeypatch.setattr(f"{encoder}.flat_choice.EncodeCandidate", candidate)
    monkeypatch.setattr(f"{encoder}.tile_encoder.EncodeCandidate", candidate)
    monkeypatch.setattr(f"{encoder}.image_encoder.GENERATION", FAKE_MODEL[0])
    for module in (f"{encoder}.image_encoder", "mvmic_codec.model.identity"):
        monkeypatch.setattr(f"{module}.model_identity", lambda gray: ("fake", FAKE_MODEL[1]))
    monkeypatch.setattr(f"{decoder}.image.decode_parts", decode_parts)
    monkeypatch.setattr(f"{decoder}.tiles.check_start", lambda payload, header: None)
    return codec


@pytest.fixture
def header():
    """A sound header, to be varied with dataclasses.replace."""
    return Header(
        rate_index=18,
        photometric=0,
        signed=False,
        bits=8,
        generation=FAKE_MODEL[0],
        fingerprint=FAKE_MODEL[1],
        width=5,
        height=3,
        lo=0,
        hi=255,
    )


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory):
    """Small models as released ones are, one for gray and one for colour."""
    from small_model import SMALL, crops, lively_neighbours, small_model

    from mvmic_codec.model import export, identity

    folder = tmp_path_factory.mktemp("weights")
    for channels, name in ((1, identity.GRAY_MODEL), (3, identity.COLOUR_MODEL)):
        export.export(small_model(channels), folder, name, "for tests", crops(channels))
        fitted = lively_neighbours(SMALL[channels])
        export.replace_arrays(folder / f"{name}.safetensors", fitted)
    return folder


@pytest.fixture
def weights(released_folder, tmp_path, monkeypatch):
    """A copy of the released small models that a test may damage, installed."""
    from mvmic_codec.model import decoding, identity, loaded

    for path in released_folder.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    identity.default_identity.cache_clear()
    loaded.load.cache_clear()
    decoding.load.cache_clear()
    yield tmp_path
    identity.default_identity.cache_clear()
    loaded.load.cache_clear()
    decoding.load.cache_clear()


@pytest.fixture
def channels():
    """Of the images that the models of the next two are for; tests give their own."""
    return 3


@pytest.fixture
def released(weights, channels):
    from mvmic_codec.model import identity, loaded

    return loaded.load(identity.model_identity(gray=channels == 1)[1], "cpu")


@pytest.fixture
def weights_path(weights, channels):
    from mvmic_codec.model import identity

    name = identity.GRAY_MODEL if channels == 1 else identity.COLOUR_MODEL
    return weights / f"{name}.safetensors"
