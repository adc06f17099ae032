"""What integer arithmetic costs in rate: the entropy model against its float twin.

    python benchmarks/integer_cost.py CHECKPOINT IMAGE [IMAGE ...]

Both code the same latents with the same quantiser steps; the twin rounds neither weights nor
activations nor table indices. CHECKPOINT is a training checkpoint, which holds the float weights;
give images of the kind, gray or colour, that it is trained for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from mvmic_codec.encoder.encode import pad_to_unit
from mvmic_codec.model.model import Model
from mvmic_codec.model.shape import Shape
from mvmic_codec.training.images import as_planes, load_planes

RATES = (0, 18, 36, 54, 63)


@torch.inference_mode()
def bits(model: Model, path: Path) -> np.ndarray:
    """Bits of an image at RATES."""
    pixels = as_planes(load_planes(path), model.shape.planes)
    planes = pad_to_unit(torch.from_numpy(pixels))[None]
    out = []
    for rate in RATES:
        result = model(planes, torch.tensor([rate]))
        out.append(float(result.bits))
    return np.array(out)


def main(checkpoint: Path, paths: list[Path]) -> None:
    state = torch.load(checkpoint, weights_only=True)
    model = Model(Shape(**state["config"]["shape"])).eval()
    model.load_state_dict(state["ema"])
    ratios = []
    for path in paths:
        integer = bits(model, path)
        model.entropy.quantise = False
        ratios.append(integer / bits(model, path))
        model.entropy.quantise = True
    mean = (np.mean(ratios, 0) - 1) * 100
    for rate, percent in zip(RATES, mean, strict=True):
        print(f"rate index {rate:2}: {percent:+.3f}% bits against the float twin")
    print(f"mean over {len(paths)} images and {len(RATES)} rates: {mean.mean():+.3f}%")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
