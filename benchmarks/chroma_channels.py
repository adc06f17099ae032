"""What a number of chroma channels leaves: a floor under the squared error of colour images.

    python benchmarks/chroma_channels.py ../shared/data/train

Chroma of the validation images in colour, lapped as the shipped model has it, projected on the
first channels of its basis, 16, 48 and so on up to all that it has. Prints the mean squared error
of what is left, over the three samples of a pixel on the scale of 255, and how many dB an image
would have with nothing but that error, mean over images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from mvmic_codec.model.definition import AREA
from mvmic_codec.model.identity import model_identity
from mvmic_codec.model.loaded import load
from mvmic_codec.model.transforms import block_dct, filter_borders, rotate_colour, rows_of
from mvmic_codec.training.images import as_planes, is_gray, load_split
from mvmic_codec.training.validation import centre, psnr

KINDS = ("polyp", "natural")
FIRST, STEP = 16, 32


def left_of(planes: np.ndarray, basis: torch.Tensor, borders: torch.Tensor) -> float:
    """Mean squared error without what `basis` [N,512] holds of planes [3,H,W] in 0..1."""
    rotated = rotate_colour(torch.from_numpy(planes)[None])
    chroma = rows_of(block_dct(filter_borders(rotated, borders))[:, AREA:])
    left = chroma.square().sum() - (chroma @ basis.t()).square().sum()
    return float(left) / (3 * AREA * len(chroma))


def main(folder: Path) -> None:
    release = load(model_identity(gray=False)[1], "cpu")
    basis, borders = release.blocks.chroma, release.analysis.borders
    print("| images | channels | squared error | PSNR, dB |")
    print("|---|---:|---:|---:|")
    for kind, images in load_split(folder, KINDS).validation.items():
        pictures = [as_planes(centre(image), 3) for image in images if not is_gray(image)]
        for count in (*range(FIRST, len(basis), STEP), len(basis)):
            errors = [left_of(planes, basis[:count], borders) for planes in pictures]
            quality = np.mean([psnr(error) for error in errors])
            print(f"| {kind} ({len(errors)}) | {count} | {np.mean(errors):.3f} | {quality:.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
