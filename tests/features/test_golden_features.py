"""Features are those that were released with the model, as docs/features.md promises."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mvmic_codec
from mvmic_codec.model.loaded import load

GOLDEN = Path(__file__).parents[2] / "formats/golden"
FILES = sorted(path.stem for path in (GOLDEN / "features").glob("*.npz"))
# The largest difference of an element, and the mean; half precision of the goldens included.
PROMISED = {"coefficients": (0.005, 0.001), "s16": (0.25, 0.02), "s8": (0.25, 0.02)}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def check(name, device):
    with np.load(GOLDEN / f"features/{name}.npz") as golden:
        features = mvmic_codec.decode_features(
            GOLDEN / f"{name}.mvm", list(PROMISED), device=device
        )
        assert sorted(golden) == sorted(PROMISED)
        for each, (most, mean) in PROMISED.items():
            difference = np.abs(golden[each].astype(np.float32) - features.numpy()[each])
            assert difference.max() < most and difference.mean() < mean, (name, each)


def test_there_are_goldens_of_both_kinds():
    assert FILES == ["colour", "gray"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FILES)
def test_features_are_those_of_the_release(name, device):
    check(name, device)


@pytest.mark.parametrize("name", FILES)
def test_in_either_precision(monkeypatch, name):
    """As on processors that multiply in bfloat16, and on those that do not."""
    header = mvmic_codec.read_header(GOLDEN / f"{name}.mvm")
    for bfloat16 in (False, True):
        monkeypatch.setattr(load(header.fingerprint, "cpu"), "bfloat16", bfloat16)
        check(name, "cpu")
