"""What the encoder's choices save: rate plus lambda times distortion.

    python benchmarks/encoder_choices.py TRAINING_IMAGES

Validation images, the middle 448x512 of each, at three rate indices. Percent of R + lambda D, mean
over images: negative is better, and the bits saved at equal quality are more than that, since D
is a part of the sum. The first table is against the encoder's first run, the second
against effort 1, which is all of these choices.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mvmic_codec.bitstream import ans
from mvmic_codec.decoder.reconstruct import Levels, reconstruct
from mvmic_codec.encoder.decoded import as_modes
from mvmic_codec.encoder.encode import CodingResult, Encoder
from mvmic_codec.encoder.refine import ROUNDS, Refiner, refine
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.identity import model_identity
from mvmic_codec.model.loaded import load
from mvmic_codec.rate import lambda_of
from mvmic_codec.training.images import load_split

KINDS = ("polyp", "cxr")
RATES = (10, 26, 42)
HEIGHT, WIDTH = 448, 512
SAMPLES = Levels(0, 255, np.dtype(np.uint8))


def middle(image: np.ndarray) -> np.ndarray:
    """uint8 [C,H,W] -> its middle, float32 in 0..1."""
    top = max((image.shape[1] - HEIGHT) // 2, 0)
    left = max((image.shape[2] - WIDTH) // 2, 0)
    cut = image[:, top : top + HEIGHT, left : left + WIDTH]
    return np.ascontiguousarray(cut).astype(np.float32) / 255


def cost(encoder: Encoder, run: CodingResult, planes: np.ndarray) -> float:
    """Bits a pixel plus lambda times the mean squared error of what is decoded."""
    model, rate = encoder.model, encoder.rate
    bits = sum(ans.estimate_bits(*each.coded(), model.tables) for each in run.passes)
    size, latent = planes.shape[1:], run.latent[0].numpy()
    samples = reconstruct(
        model.decoding.synthesis, latent, as_modes(run.modes), rate, size, SAMPLES
    )
    error = float(np.square(samples.transpose(2, 0, 1) - planes * 255).mean())
    return bits / (size[0] * size[1]) + lambda_of(rate) * error


def chosen(encoder: Encoder) -> list[CodingResult]:
    """The first run, and one with modes chosen again."""
    first = encoder.run(encoder.estimated_costs)
    return [first, encoder.run(encoder.costs_after(first))]


def refined(encoder: Encoder) -> list[CodingResult]:
    """The run of each effort."""
    refiner, run = Refiner(encoder), encoder.encode_two_pass()
    return [refine(refiner, run, rounds) for rounds in ROUNDS.values()]


def table(
    validation: dict[str, list[np.ndarray]],
    names: tuple[str, ...],
    runs: Callable[[Encoder], list[CodingResult]],
) -> None:
    """Print what the other runs of each image save against its first."""
    print(f"| images | rate index | {' | '.join(names)} |")
    print("|---|---:|" + "---:|" * len(names))
    for kind in KINDS:
        gray = len(validation[kind][0]) == 1
        release = load(model_identity(gray)[1], "cpu")
        for rate in RATES:
            gains = []
            for image in validation[kind]:
                planes = middle(image)
                with full_precision(release.device):
                    encoder = Encoder(release, planes, rate)
                    before, *after = (cost(encoder, run, planes) for run in runs(encoder))
                gains.append([100 * math.log(each / before) for each in after])
            means = " | ".join(f"{each:+.2f}%" for each in np.mean(gains, 0))
            print(f"| {kind} ({len(gains)}) | {rate} | {means} |", flush=True)


def main(folder: Path) -> None:
    validation = load_split(folder, KINDS).validation
    table(validation, ("modes chosen again",), chosen)
    print()
    table(validation, ("effort 2", "effort 3"), refined)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
