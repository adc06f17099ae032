"""The table of released models: a name for each, and what the error says of one that is gone."""

from collections import Counter
from dataclasses import replace

import numpy as np
import one_tile
import pytest

import mvmic_codec
from mvmic_codec.errors import ModelError
from mvmic_codec.model import identity
from mvmic_codec.model.identity import WEIGHTS, find_identity, read_card, released_models

# Names that several models shared, up to version 0.14.1: how many. No name may join them.
SHARED = {"mvmic-1": 4, "mvmic-1g": 8, "mvmic-1c": 8}


def test_installed_models_are_released_by_this_version():
    for card in sorted(WEIGHTS.glob("*.json")):
        model = read_card(card)
        (row,) = [row for row in released_models() if row.fingerprint == model.fingerprint]
        assert row.name == model.name
        assert row.versions[-1] == mvmic_codec.__version__


def test_a_model_has_a_name_of_its_own():
    counts = Counter(row.name for row in released_models())
    assert {name: count for name, count in counts.items() if count > 1} == SHARED


def test_a_fingerprint_stands_once():
    prints = [bytes.fromhex(row.fingerprint) for row in released_models()]
    assert {len(each) for each in prints} == {8}
    assert len(set(prints)) == len(prints)


def test_every_older_model_is_said_to_be_read_by_its_last_version():
    older = [row for row in released_models() if mvmic_codec.__version__ not in row.versions]
    assert len(older) >= 18
    for row in older:
        with pytest.raises(ModelError) as caught:
            find_identity(bytes.fromhex(row.fingerprint))
        assert f"model {row.name} of mvmic_codec {row.versions[0]}" in str(caught.value)
        assert f"`pip install mvmic_codec=={row.versions[-1]}` reads it" in str(caught.value)


def with_fingerprint(fingerprint):
    whole = one_tile.read(mvmic_codec.encode(np.full((2, 3), 90, np.uint8)))
    return one_tile.write(replace(whole.header, fingerprint=fingerprint), whole.payload, {})


@pytest.mark.parametrize(
    ("fingerprint", "sentence"),
    [
        (
            "989ba981a594fa29",
            "the file was written with model mvmic-1g of mvmic_codec 0.12.0; "
            "`pip install mvmic_codec==0.12.0` reads it",
        ),
        (
            "5e0b44a3985a59ba",
            "the file was written with model mvmic-1g of mvmic_codec 0.11.0 to 0.11.1; "
            "`pip install mvmic_codec==0.11.1` reads it",
        ),
        (
            "0102030405060708",
            "the file was written with a model of fingerprint 0102030405060708, which mvmic_codec "
            f"{mvmic_codec.__version__} does not know: update mvmic_codec, or ask whoever wrote "
            "the file for its model",
        ),
    ],
)
def test_a_file_of_a_model_that_is_not_installed(fingerprint, sentence):
    with pytest.raises(ModelError) as caught:
        mvmic_codec.decode(with_fingerprint(bytes.fromhex(fingerprint)))
    assert str(caught.value) == sentence


def test_a_model_that_should_be_here(monkeypatch, tmp_path):
    _, fingerprint = identity.model_identity(gray=True)
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"model mvmic-2g, which is missing here: install"):
        find_identity(fingerprint)


@pytest.mark.parametrize("text", [None, "", '{"a": 1}', '[{"name": "mvmic-1"}]', "[1]"])
def test_a_table_that_is_lost(monkeypatch, tmp_path, text):
    monkeypatch.setattr(identity, "RELEASED", tmp_path / "released.json")
    if text is not None:
        identity.RELEASED.write_text(text)
    with pytest.raises(ModelError, match="install mvmic_codec again"):
        find_identity(bytes(8))
