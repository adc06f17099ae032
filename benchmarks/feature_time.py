"""CPU time from a file to a segmentation: by features, and by decoded pixels.

    python benchmarks/feature_time.py IMAGE [IMAGE ...] --index 18 --rounds 5

Encodes each image, then takes two ways from the file to a mask in turn, on one thread:

    features   decode to the map s16, and a head on it
    pixels     decode to pixels, and the equal head on them, with a light stem of its own

Heads have random weights, which take the time of trained ones. Prints the median CPU time of each
part and the median of the ratios, pixels to features.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

import mvmic_codec
from mvmic_codec.model.device import full_precision
from mvmic_codec.tasks.pixels import LIGHT, PIXELS, PixelNetwork
from mvmic_codec.tasks.segmentation import HeadConfig, SegmentationHead

CHANNELS = {"s16": 224}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and its CPU time in ms."""
    start = time.process_time()
    out = work()
    return out, 1000 * (time.process_time() - start)


def by_features(data: bytes, head: SegmentationHead) -> tuple[float, float]:
    """CPU ms of decoding to features and of the head."""
    features, decoding = timed(lambda: mvmic_codec.decode_features(data, device="cpu"))
    rates = torch.tensor(features.rate_indices)
    with full_precision(torch.device("cpu")):
        _, looking = timed(lambda: head(features.maps, rates, features.size))
    return decoding, looking


def by_pixels(data: bytes, network: PixelNetwork) -> tuple[float, float]:
    """CPU ms of decoding to pixels and of the network on them."""
    image, decoding = timed(lambda: np.asarray(mvmic_codec.decode(data, device="cpu")))
    rates = torch.tensor([mvmic_codec.read_header(data).rate_index])

    def look() -> torch.Tensor:
        planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        pixels = torch.from_numpy(planes / np.float32(255))[None]
        out: torch.Tensor = network({PIXELS: pixels}, rates, image.shape[:2])
        return out

    with full_precision(torch.device("cpu")):
        _, looking = timed(look)
    return decoding, looking


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--index", default=18, show_default=True, help="Rate index.")
@click.option("--rounds", default=5, show_default=True, help="Pairs of each image.")
def main(images: tuple[Path, ...], index: int, rounds: int) -> None:
    """CPU time from a file to a segmentation, by features and by pixels."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = HeadConfig(CHANNELS)
    head = SegmentationHead(config).eval()
    found = []
    for path in images:
        with Image.open(path) as file:
            image = file if file.mode == "L" else file.convert("RGB")
            data = mvmic_codec.encode(image, rate_index=index, device="cpu")
        header = mvmic_codec.read_header(data)
        network = PixelNetwork(LIGHT, config, 3 if header.mode == "RGB" else 1).eval()
        by_features(data, head), by_pixels(data, network)
        pairs = [(*by_features(data, head), *by_pixels(data, network)) for _ in range(rounds)]
        parts = [statistics.median(part) for part in zip(*pairs, strict=True)]
        ratio = statistics.median((c + d) / (a + b) for a, b, c, d in pairs)
        found.append(ratio)
        click.echo(
            f"{path.name}: {header.width}x{header.height};"
            f" features {parts[0]:.0f} + head {parts[1]:.0f} ms;"
            f" pixels {parts[2]:.0f} + head {parts[3]:.0f} ms; ratio {ratio:.2f}"
        )
    click.echo(f"median ratio of {len(found)} images: {statistics.median(found):.2f}")


if __name__ == "__main__":
    main()
