"""What tiles cost: bits and PSNR of images in tiles, against the same images in one tile.

    python benchmarks/tile_cost.py TEST_FOLDER... [--limit N] [--tile SIDE]... [--grid N]

Each image is encoded at quality 1, 3, 5 and 8. The table gives means over images: the change of
bits and of PSNR at each quality, and the BD-rate of the four. Below zero is fewer bits. `--grid`
puts N x N images of a folder together to one, since most images are no larger than a tile.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import mvmic_codec
from mvmic_codec.evaluation.curves import bd_rate
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.evaluation.metrics import psnr

QUALITIES = (1, 3, 5, 8)
Pixels = npt.NDArray[np.uint8]


def images_of(folder: Path, limit: int, grid: int) -> list[Pixels]:
    """The first images of a folder by name, or as many pictures of grid x grid of them."""
    files = files_of(folder, limit * grid**2)
    pixels = [load(path) for path in files]
    if grid == 1:
        return pixels
    height = min(each.shape[0] for each in pixels)
    width = min(each.shape[1] for each in pixels)
    cut = [each[:height, :width] for each in pixels]
    return [
        np.concatenate(
            [np.concatenate(cut[k + grid * i : k + grid * (i + 1)], 1) for i in range(grid)]
        )
        for k in range(0, len(cut) - grid**2 + 1, grid**2)
    ]


def measured(image: Pixels, tile: int) -> list[tuple[float, float]]:
    """Bits per pixel and PSNR at each quality."""
    out = []
    for quality in QUALITIES:
        data = mvmic_codec.encode(image, quality, tile=tile)
        decoded = np.asarray(mvmic_codec.decode(data))
        out.append((8 * len(data) / (image.shape[0] * image.shape[1]), psnr(image, decoded)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--tile", type=int, action="append")
    parser.add_argument("--grid", type=int, default=1)
    options = parser.parse_args()
    heads = " | ".join(f"-q {quality}" for quality in QUALITIES)
    print(f"| set | images | size | tile | {heads} | BD-rate |")
    print("|---|---:|---|---:|" + "---:|" * (len(QUALITIES) + 1))
    for folder in options.folders:
        images = images_of(folder, options.limit, options.grid)
        sides = options.tile or [1024, 512]
        points: dict[int, list[list[tuple[float, float]]]] = {}
        for image in tqdm(images, desc=folder.name, disable=None):
            for tile in (0, *sides):
                points.setdefault(tile, []).append(measured(image, tile))
        size = f"{images[0].shape[1]}x{images[0].shape[0]}"
        for tile in sides:
            cells = []
            for k in range(len(QUALITIES)):
                both = [
                    (one[k], other[k]) for one, other in zip(points[0], points[tile], strict=True)
                ]
                bits = mean(100 * (other[0] / one[0] - 1) for one, other in both)
                decibels = mean(other[1] - one[1] for one, other in both)
                cells.append(f"{bits:+.1f}%, {decibels:+.2f} dB")
            rates = [
                bd_rate(one, other) for one, other in zip(points[0], points[tile], strict=True)
            ]
            known = [rate for rate in rates if rate is not None]
            print(
                f"| {folder.name} | {len(images)} | {size} | {tile} | {' | '.join(cells)} | "
                f"{mean(known):+.1f}% |",
                flush=True,
            )


if __name__ == "__main__":
    main()
