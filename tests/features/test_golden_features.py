"""Features are exactly those that were released with the model, as docs/features.md promises."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mvmic_codec

GOLDEN = Path(__file__).parents[2] / "formats/golden"
FILES = sorted(path.stem for path in (GOLDEN / "features").glob("*.npz"))
MAPS = ["coefficients", "s16", "s8"]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def test_there_are_goldens_of_both_kinds():
    assert FILES == ["colour", "gray"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FILES)
def test_features_are_those_of_the_release(name, device):
    found = mvmic_codec.decode_features(GOLDEN / f"{name}.mvm", MAPS, device=device).numpy()
    with np.load(GOLDEN / f"features/{name}.npz") as golden:
        assert sorted(golden) == MAPS
        for each in MAPS:
            assert found[each].dtype == np.float32
            assert np.array_equal(golden[each], found[each]), each
