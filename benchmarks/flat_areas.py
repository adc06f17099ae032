"""What flat areas save: BD-rate of files that may have them against files that may not.

    python benchmarks/flat_areas.py TRAINING_IMAGES

Validation images, whole, at three rate indices; gray of more than 8 bits in its rendering to 8.
Percent at equal PSNR, whole files; below zero is fewer bits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.evaluation.curves import bd_rate
from mvmic_codec.evaluation.images import to_8_bits
from mvmic_codec.evaluation.metrics import Pixels, psnr
from mvmic_codec.training.images import load_split

KINDS = ("polyp", "cxr", "gray16", "natural")
RATES = (9, 27, 45)

Curve = list[tuple[float, float]]


def curve(pixels: Pixels) -> tuple[Curve, int]:
    """Bits per pixel and PSNR at each rate, and how many of the files have flat areas."""
    points, flat = [], 0
    for rate in RATES:
        data = mvmic_codec.encode(Image.fromarray(pixels), rate_index=rate)
        decoded = np.asarray(mvmic_codec.decode(data))
        points.append((8 * len(data) / (pixels.shape[0] * pixels.shape[1]), psnr(pixels, decoded)))
        flat += container.Reader(data).tile().flat is not None
    return points, flat


def main(folder: Path) -> None:
    validation = load_split(folder, KINDS).validation
    print("| images | with flat areas | BD-rate, mean | least | greatest |")
    print("|---|---:|---:|---:|---:|")
    for kind in KINDS:
        rates, files = [], 0
        for planes in validation[kind]:
            pixels = planes.transpose(1, 2, 0).squeeze()
            pixels = to_8_bits(pixels) if pixels.dtype == np.uint16 else pixels
            ours, flat = curve(pixels)
            files += flat
            if not flat:
                rates.append(0.0)
                continue
            with mock.patch("mvmic_codec.encoder.flat_search.find", return_value=[]):
                without, _ = curve(pixels)
            rates.append(bd_rate(without, ours) or 0.0)
        count = len(RATES) * len(rates)
        print(
            f"| {kind} ({len(rates)}) | {files} of {count} files | {np.mean(rates):+.1f}% | "
            f"{min(rates):+.1f}% | {max(rates):+.1f}% |",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
