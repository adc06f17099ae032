"""Speed of a training step of both models as they ship, on one thread.

    MVMIC_BENCH_CROP=256 python -m pytest benchmarks/bench_training.py --benchmark-enable

Four crops of photographs (scikit-image) at random rates; without a size, of 64x64, a smoke run.
"""

import os

import numpy as np
import pytest
import torch
from skimage import data

from mvmic_codec.model.identity import COLOUR_MODEL, GRAY_MODEL, find_identity, model_identity
from mvmic_codec.model.trainable import model_of
from mvmic_codec.training.images import CropSource, as_gray
from mvmic_codec.training.loop import Config, Trainer

CROP = int(os.environ.get("MVMIC_BENCH_CROP", "64"))


@pytest.mark.parametrize("gray", [True, False], ids=[GRAY_MODEL, COLOUR_MODEL])
def test_step(benchmark, gray):
    _, weights = find_identity(model_identity(gray)[1])
    model = model_of(weights)
    config = Config(data="none is read", shape=model.shape)
    trainer = Trainer(config, torch.device("cpu"))
    trainer.model.load_state_dict(model.state_dict())
    photographs = [
        np.asarray(each).transpose(2, 0, 1) for each in (data.retina(), data.astronaut())
    ]
    images = [as_gray(each) for each in photographs] if gray else photographs
    source = CropSource({"all": images}, {"all": 1.0}, model.shape.planes, 4, CROP, 0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark(lambda: trainer.train_step(source.make()))
    finally:
        torch.set_num_threads(before)
    assert trainer.facts[0] > 0  # bits for a pixel
