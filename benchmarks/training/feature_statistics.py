"""Means and standard deviations of feature maps, which `mvmic_codec.Features` are normalised by.

    python benchmarks/training/feature_statistics.py --data ../shared/data/train --crops 160

Encodes crops of training images at some rate indices, takes the integer maps of what was encoded,
and writes mvmic_codec/features/weights/FINGERPRINT.safetensors for the gray and the colour model.
What an integer stands for comes from the encoder's file of the model. Validation images are left
out, as in training.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click
import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from mvmic_codec import api
from mvmic_codec.bitstream import container
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.decoder.tiles import only_tile
from mvmic_codec.features.extract import raw_maps
from mvmic_codec.features.statistics import WEIGHTS
from mvmic_codec.model import encoder_file
from mvmic_codec.model.definition import COEFFICIENT_BITS
from mvmic_codec.model.identity import find_identity
from mvmic_codec.training.images import CropSource, as_gray, load_split, mix_of

# Statistics move smoothly with the rate; between these they are drawn straight.
RATES = (0, 9, 18, 27, 36, 45, 54, 63)
# The least deviation of a channel, as a share of the largest of its map. Coefficients of the
# highest frequencies are nearly always 0.
LEAST_SHARE = 1e-3


class Moments:
    """Sums of a map's channels, and of their squares, at one rate."""

    def __init__(self) -> None:
        self.count = 0
        self.total: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Add a map [h,w,C]."""
        wide = values.astype(np.float64)
        self.count += wide.shape[0] * wide.shape[1]
        self.total = self.total + wide.sum((0, 1))
        self.squares = self.squares + np.square(wide).sum((0, 1))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [C]."""
        mean = np.asarray(self.total / self.count)
        deviation = np.sqrt(np.maximum(self.squares / self.count - np.square(mean), 0))
        return mean, np.maximum(deviation, LEAST_SHARE * deviation.max())


def units_of(fingerprint: bytes) -> dict[str, float]:
    """What an integer of each map stands for."""
    _, weights = find_identity(fingerprint)
    of_encoder = encoder_file.read(weights, fingerprint.hex())
    units = {name: float(of_encoder[f"{encoder_file.UNITS}{name}"]) for name in ("s16", "s8")}
    return {"coefficients": 2.0**-COEFFICIENT_BITS} | units


def measure(crops: list[np.ndarray]) -> tuple[bytes, dict[str, np.ndarray]]:
    """Fingerprint of the model of uint8 crops, and its statistics as they are stored."""
    moments = {(rate, name): Moments() for rate in RATES for name in STRIDES}
    fingerprint = b""
    for crop in tqdm(crops, unit="crop", disable=None):
        for rate in RATES:
            file = container.Reader(api.encode(crop, rate_index=rate))
            fingerprint = file.header.fingerprint
            maps = raw_maps(file.header, only_tile(file.tile()), list(STRIDES), "cpu")
            for name, values in maps.items():
                moments[rate, name].add(values)
    arrays = {"rates": np.array(RATES, np.int64)}
    for name, unit in units_of(fingerprint).items():
        means, deviations = zip(*(moments[rate, name].result() for rate in RATES), strict=True)
        arrays[f"{name}.mean"] = (unit * np.stack(means)).astype(np.float32)
        arrays[f"{name}.deviation"] = (unit * np.stack(deviations)).astype(np.float32)
        arrays[f"{name}.unit"] = np.array(unit, np.float32)
    return fingerprint, arrays


def crops_of(data: Path, *, gray: bool, count: int, side: int, seed: int) -> list[np.ndarray]:
    """uint8 crops [side,side] or [side,side,3] of training images, in the mix of training."""
    images = load_split(data, mix_of(gray)).train
    if gray:
        images = {kind: [as_gray(each) for each in pool] for kind, pool in images.items()}
    source = CropSource(images, mix_of(gray), 1 if gray else 3, 1, side, seed)
    found = []
    for planes in islice(source, count):
        samples = np.rint(planes[0].numpy() * 255).astype(np.uint8)
        # The colour model never sees equal channels: such images go to the gray model.
        if not gray and (samples == samples[:1]).all():
            continue
        found.append(samples[0] if gray else samples.transpose(1, 2, 0))
    return found


@click.command()
@click.option("--data", default="../shared/data/train", type=click.Path(path_type=Path))
@click.option("--crops", default=160, show_default=True, help="Of each kind of model.")
@click.option("--side", default=384, show_default=True, help="Of a crop, in samples.")
@click.option("--seed", default=0, show_default=True)
def main(data: Path, crops: int, side: int, seed: int) -> None:
    """Measure the statistics of both models and write them into the package."""
    for gray in (True, False):
        fingerprint, arrays = measure(crops_of(data, gray=gray, count=crops, side=side, seed=seed))
        WEIGHTS.mkdir(exist_ok=True)
        path = WEIGHTS / f"{fingerprint.hex()}.safetensors"
        save_file(arrays, path)
        click.echo(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
