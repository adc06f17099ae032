"""Tables fitted to what an encoder writes."""

import codec
import numpy as np
import pytest
import torch
from small_model import crops, picture, small_model

from mvmic_codec.bitstream.header import MIN_IS_BLACK, RGB, Header
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.model import export, identity, loaded
from mvmic_codec.model.definition import SECOND, TABLES
from mvmic_codec.training import fit


@pytest.fixture(params=[1, 3])
def weights(request, tmp_path, monkeypatch):
    """The small model for images of so many planes, installed."""
    name = identity.GRAY_MODEL if request.param == 1 else identity.COLOUR_MODEL
    export.export(small_model(request.param), tmp_path, name, "for tests", crops(request.param))
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    yield tmp_path / f"{name}.safetensors"
    identity.default_identity.cache_clear()
    loaded.load.cache_clear()


def code(planes, rate, gray):
    identity.default_identity.cache_clear()
    payload = codec.encode_planes(planes, rate, device="cpu")
    _, fingerprint = identity.model_identity(gray)
    header = Header(
        rate_index=rate,
        photometric=MIN_IS_BLACK if gray else RGB,
        signed=False,
        bits=8,
        generation=identity.GENERATION,
        fingerprint=fingerprint,
        width=planes.shape[2],
        height=planes.shape[1],
        lo=0,
        hi=255,
    )
    return payload, codec.decode_planes(payload, header, device="cpu")


@pytest.mark.slow
def test_fitted_tables_take_fewer_bits(weights):
    channels = 1 if identity.GRAY_MODEL in weights.name else 3
    unseen = [
        (picture(150, 170, channels, seed=20 + k), rate) for k, rate in enumerate((10, 40, 60))
    ]
    before = [code(*each, channels == 1) for each in unseen]
    old = identity.read_card(weights.with_suffix(".json"))
    new = fit.fit_release(weights, crops(channels))
    assert new.fingerprint != old.fingerprint and new.notes == old.notes
    after = [code(*each, channels == 1) for each in unseen]
    sizes = [sum(len(payload) for payload, _ in coded) for coded in (before, after)]
    assert sizes[1] < 0.99 * sizes[0]
    # The encoder rounds a little differently, but no worse.
    errors = [
        sum(float(np.square(decoded - planes).mean()) for (planes, _), (_, decoded) in pairs)
        for pairs in (zip(unseen, coded, strict=True) for coded in (before, after))
    ]
    assert errors[1] < 1.02 * errors[0]


@pytest.mark.slow
def test_each_of_the_counts_weighs_alike(weights):
    released = loaded.read(
        identity.read_card(weights.with_suffix(".json")), weights, torch.device("cpu")
    )
    few, many = np.zeros((2, SECOND + TABLES, fit.HALF_MAX + 2))
    few[20, 0], few[20, 3] = 100.0, 20.0
    many[20, 0], many[20, 3] = 1e6, 0.0
    half, cdf = fit.fit_tables(released, [few, many])

    def share(magnitude):
        row = np.diff(cdf[20].astype(int))
        return row[half[20] + magnitude] / 4096

    # By number 3 would come to 1 in 100,000 for both signs; by bits few counts like many.
    assert share(3) > 0.01
    # Without a symbol a table is the logistic that it was trained as.
    again, _ = fit.fit_tables(released, [])
    assert (np.abs(half[30:60].astype(int) - again[30:60]) == 0).all()


def test_what_a_table_counts(weights):
    channels = 1 if identity.GRAY_MODEL in weights.name else 3
    released = loaded.read(
        identity.read_card(weights.with_suffix(".json")), weights, torch.device("cpu")
    )
    planes = picture(64, 128, channels)
    counts = fit.count_symbols(released, planes, 60)
    passes = Encoder(released, planes, 60).encode_two_pass().passes
    resolved = [each.coded() for each in passes]
    flags = range(TABLES, SECOND + 1)
    kept = [(s.astype(int), ~np.isin(t, [0, *flags]), t > SECOND) for s, t in resolved]
    assert counts.sum() == sum(int(own.sum()) for _, own, _ in kept)
    assert counts[SECOND + 1 :].sum() == sum(int(second.sum()) for _, _, second in kept) > 0
    assert counts[0].sum() == counts[TABLES : SECOND + 1].sum() == 0
    largest = max(int(np.abs(s[own]).max(initial=0)) for s, own, _ in kept)
    assert np.nonzero(counts.sum(0))[0].max() == min(largest, fit.HALF_MAX + 1)
