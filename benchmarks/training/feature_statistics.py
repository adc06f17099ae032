"""Means and standard deviations of feature maps, which `mvmic_codec.Features` are normalised by.

    python benchmarks/training/feature_statistics.py --data ../shared/data/train --crops 160

Encodes crops of training images at some rate indices, takes the raw maps of what was encoded, and
writes mvmic_codec/features/weights/FINGERPRINT.safetensors for the gray and the colour model.
Validation images are left out, as in training.
"""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from mvmic_codec import api
from mvmic_codec.bitstream import container
from mvmic_codec.decoder.image import flat_areas
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.features.extract import raw_maps
from mvmic_codec.features.statistics import WEIGHTS
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
        self.total: torch.Tensor | float = 0.0
        self.squares: torch.Tensor | float = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Add a map [1,C,h,w]."""
        wide = values.double()
        self.count += wide.shape[2] * wide.shape[3]
        self.total = self.total + wide.sum((0, 2, 3))
        self.squares = self.squares + wide.square().sum((0, 2, 3))

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation [C]."""
        assert isinstance(self.total, torch.Tensor) and isinstance(self.squares, torch.Tensor)
        mean = self.total / self.count
        deviation = (self.squares / self.count - mean.square()).clamp_min(0).sqrt()
        return mean.float(), deviation.clamp_min(LEAST_SHARE * deviation.max()).float()


def measure(crops: list[np.ndarray]) -> tuple[bytes, dict[str, torch.Tensor]]:
    """Fingerprint of the model of uint8 crops, and its statistics as they are stored."""
    moments = {(rate, name): Moments() for rate in RATES for name in STRIDES}
    fingerprint = b""
    for crop in tqdm(crops, unit="crop", disable=None):
        for rate in RATES:
            data = api.encode(crop, rate_index=rate)
            file = container.read(io.BytesIO(data))
            fingerprint = file.header.fingerprint
            for name, values in raw_maps(file, flat_areas(file, None), list(STRIDES), None).items():
                moments[rate, name].add(values)
    arrays = {"rates": torch.tensor(RATES, dtype=torch.int64)}
    for name in STRIDES:
        rows = [moments[rate, name].result() for rate in RATES]
        arrays[f"{name}.mean"] = torch.stack([mean for mean, _ in rows])
        arrays[f"{name}.deviation"] = torch.stack([deviation for _, deviation in rows])
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
