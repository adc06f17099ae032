"""What an image's size and kind say of its symbols: encoder and decoder ask alike."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .nets.release import Release
from .nets.transforms import BLOCK

UNIT = 64  # the hyper-latent's grid, in pixels


def live_channels(release: Release, gray: bool) -> Tensor:
    """[C] bool: gray images have no chroma."""
    chroma = release.shape.is_chroma().to(release.device)
    return ~chroma if gray else torch.ones_like(chroma)


def sites_inside(release: Release, height: int, width: int) -> Tensor:
    """[h,w] bool at 1/16 of the padded image: sites that hold at least one pixel."""
    rows = torch.arange(math.ceil(height / UNIT) * UNIT // BLOCK, device=release.device)
    columns = torch.arange(math.ceil(width / UNIT) * UNIT // BLOCK, device=release.device)
    return (rows * BLOCK < height)[:, None] & (columns * BLOCK < width)[None]


def hyper_indices(release: Release, rate: int, sites: int) -> npt.NDArray[np.uint8]:
    """Table indices of z [Z*sites]: one table for each channel and rate."""
    return np.repeat(release.entropy.hyper_index[rate].cpu().numpy(), sites)


def to_int16(symbols: Tensor) -> npt.NDArray[np.int16]:
    """Flat, in the order of the coder."""
    return symbols.to(torch.int16).cpu().numpy().ravel()


def to_uint8(indices: Tensor) -> npt.NDArray[np.uint8]:
    """Flat, in the order of the coder."""
    return indices.to(torch.uint8).cpu().numpy().ravel()
