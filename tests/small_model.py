"""A small model whose weights are neither zero nor trained, and pictures to code with it."""

import numpy as np
import torch

from mvmic_codec.model.integerise import neutral_neighbours
from mvmic_codec.model.model import Model
from mvmic_codec.model.shape import Shape
from mvmic_codec.training.start import start_from_statistics

_SIZES = {
    "near_luma": 5,
    "hyper": 5,
    "width8": 8,
    "blocks8": 1,
    "width16": 12,
    "blocks16": 1,
    "width2": 6,
    "context": 10,
}
# By the planes of an image.
SMALL = {
    1: Shape(chroma=0, near_chroma=0, **_SIZES),
    3: Shape(chroma=6, near_chroma=2, **_SIZES),
}


def picture(height, width, channels, seed=0, edge=0.2, grain=0.02):
    """Planes [channels,height,width] in 0..1 with an edge, waves and grain."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = []
    for _ in range(channels):
        a, b, phase = rng.normal(size=3)
        waves = np.sin((a * rows + b * columns) / 19 + 3 * phase)
        blob = np.hypot(rows - height * rng.random(), columns - width * rng.random()) < 40
        planes.append(0.5 + 0.18 * waves + edge * blob + grain * rng.normal(size=rows.shape))
    shared = np.mean(planes, axis=0)
    return np.clip(np.stack([(p + shared) / 2 for p in planes]), 0, 1).astype(np.float32)


def crops(channels, count=6, size=128):
    """Training crops [count,channels,size,size]."""
    planes = [picture(size, size, channels, seed) for seed in range(count)]
    return torch.from_numpy(np.stack(planes))


def lively_neighbours(shape):
    """Arrays by which neighbours count, in made-up ways."""
    rng = np.random.default_rng(7)
    most = {"hyper_near": 4000, "hyper_shift": 4, "near_mean": 5000, "near_shift": 4}
    arrays = neutral_neighbours(shape.hyper, shape.near)
    return {
        name: torch.from_numpy(rng.integers(-most[name], most[name] + 1, array.shape)).to(array)
        for name, array in arrays.items()
    }


def small_model(channels):
    """Every parameter counts: what starts at zero gets random values too."""
    torch.manual_seed(channels)
    model = Model(SMALL[channels]).eval().requires_grad_(False)
    start_from_statistics(model, crops(channels))
    for name, parameter in model.named_parameters():
        if name.endswith(("leave.weight", "leave.bias", "down.weight", "down.bias")):
            # Retouching has a few samples to listen to, not a whole block.
            parameter.normal_(std=0.05 if "retouch" in name else 0.01)
        elif name.startswith("synthesis") and name.endswith("knots"):
            parameter.normal_(std=0.05)
        elif name.startswith("entropy") and name.endswith("bias"):
            parameter.normal_(std=4.0)
        elif "start" in name:
            parameter.add_(torch.randn_like(parameter) * 4)
        elif "base_mode" in name:
            parameter.add_(torch.randn_like(parameter))
        elif "mode_scores" in name:
            parameter.mul_(16)
    return model
