"""What the choice of a block's transform is worth, by a rule of thumb and without training.

    python benchmarks/block_transforms.py ../shared/data/train

Luma of the validation images, lapped at the block borders; bits by the prices that choose modes
(transforms.NONZERO_BITS and so on), no context, no prediction. Prints BD-rates against one KLT for
all blocks. The rotations are learned from training images, as many of each kind as the model for
such images is trained with.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from mvmic_codec.evaluation.curves import bd_rate
from mvmic_codec.model import transforms
from mvmic_codec.model.definition import AREA
from mvmic_codec.model.transforms import block_dct, filter_borders, mode_costs, rows_of
from mvmic_codec.rate import lambda_of
from mvmic_codec.training import start
from mvmic_codec.training.images import COLOUR_MIX, GRAY_MIX, CropSource, as_planes, load_split
from mvmic_codec.training.validation import centre, psnr

RATES = (0, 13, 26, 39, 52)
CROPS = 96
MODE_BITS = 2.0  # charged for every mode but the first
MIXES = {"polyp": COLOUR_MIX, "cxr": GRAY_MIX}


def luma_blocks(planes: Tensor, borders: Tensor) -> Tensor:
    """Planes [N,3,H,W] in 0..1 -> DCT coefficients of luma [blocks,256]."""
    luma = transforms.rotate_colour(planes)[:, :1]
    return rows_of(block_dct(filter_borders(luma, borders)))


def curve(blocks: Tensor, rotations: Tensor) -> list[tuple[float, float]]:
    """Bits for each pixel and PSNR of luma alone, by rate."""
    points = []
    for rate in RATES:
        step = start.theory_step(rate)
        weight = torch.full((len(blocks),), lambda_of(rate) / 3)
        costs = mode_costs(blocks, rotations, torch.full_like(blocks, step), weight)
        modes = costs.argmin(1)
        size = transforms.rotate_rows(blocks, modes, rotations).abs() / step
        level = torch.floor(size + 1 - transforms.ZERO_BELOW)
        bits = transforms.NONZERO_BITS + transforms.DOUBLING_BITS * level.clamp_min(1).log2()
        total = float((bits * (level > 0)).sum()) + MODE_BITS * float((modes > 0).sum())
        error = float((size - level).square().mean()) * step**2
        points.append((total / blocks.numel(), psnr(error / 3)))
    return points


def main(folder: Path) -> None:
    for kind, mix in MIXES.items():
        split = load_split(folder, mix)
        crops = CropSource(split.train, mix, 3, CROPS, 512, 0).make()
        luma = transforms.rotate_colour(crops)[:, :1]
        borders = start.best_borders(start.line_covariance(luma)).float()
        blocks = luma_blocks(crops, borders)
        draw = torch.Generator().manual_seed(0)
        some = blocks[torch.randperm(len(blocks), generator=draw)[:60_000]]
        klt = torch.eye(AREA, dtype=torch.float64)
        inner = some[:, 1:].double()
        klt[1:, 1:] = start.leading(inner.t() @ inner, AREA - 1)
        first = start.first_rotations(klt)
        learned = start.learn_rotations(some, klt)
        choices = {
            "DCT for all": first[3:4],
            "KLT, 16x16, 8x8, 4x4": first[:4],
            "8 to start from": first,
            "8, learned": learned,
        }
        pictures = [torch.from_numpy(as_planes(centre(p), 3))[None] for p in split.validation[kind]]
        unseen = torch.cat([luma_blocks(picture, borders) for picture in pictures])
        reference = curve(unseen, first[:1])
        for name, rotations in choices.items():
            gain = bd_rate(reference, curve(unseen, rotations)) or math.nan
            print(f"{kind:6} {name:22} {gain:+.1f}%")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
