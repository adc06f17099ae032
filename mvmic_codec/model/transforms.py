"""The linear path of both transforms: colour rotation, lapped DCT, and a block's rotation by mode.

The lapped transform is a filter across block borders and a 16x16 DCT (Tran, Liang and Tu, "Lapped
transform via time-domain pre- and post-filtering", 2003). The encoder then chooses a mode for each
block: one of a few rotations of its luma coefficients (Sezer, Guleryuz and Altunbasak,
"Approximation and compression with sparse orthonormal transforms", 2015). Long smooth basis
functions suit tissue. Short ones suit burned-in text and the edge of an endoscope's black frame.

All matrices come from the statistics of the training images and stay orthonormal. If gradients
trained them, the large mean of a block would leak into its other coefficients. The linear path runs
in float32.

Units: planes are on the 255 scale, with mid-gray (127.5) at zero. Colours are rotated to luma and
two chroma axes, all orthonormal. So squared error in the latent is squared error over the three
samples of a pixel. A gray image has luma alone, sqrt 3 times its samples: it is the same as that
picture in colour, which has no chroma.

P is the number of planes: 1 in a model for gray images, 3 in one for colour.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.definition import AREA, LATENT_BITS
from mvmic_codec.model.layers import mix

# Rule of thumb for comparing modes: bits of a coefficient that is not zero, and of each doubling.
NONZERO_BITS = 5.0
DOUBLING_BITS = 1.5
# A coefficient below this many steps counts as zero.
ZERO_BELOW = 0.67
# So many blocks are compared at once: what they need stays in the cache of a core.
COST_BLOCKS = 512
# Bits that a block loses in any mode but 0, for want of linear prediction.
PREDICTION_BITS = 6.0

# Orthonormal colour rotation: luma (R+G+B)/sqrt 3, and two chroma axes.
COLOUR = torch.tensor(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


# Each constant is copied to a device once. Copying it every time would make a CUDA device wait, and
# cannot be recorded in a graph. Training tells its compiler that the next two functions are
# constant. Telling it here would import the whole compiler with every decoder.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def on_device(constant: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The constant "colour", which is COLOUR, or "dct", the DCT matrix of a block's side."""
    return (COLOUR if constant == "colour" else dct_matrix(BLOCK)).to(device, dtype)


def colour_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """COLOUR [3,3], on a device."""
    return on_device("colour", dtype, device)


def block_dct_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The DCT matrix of a block's side [16,16], on a device."""
    return on_device("dct", dtype, device)


def rotate_colour(planes: Tensor) -> Tensor:
    """Gray or RGB planes [B,P,H,W] in 0..1 -> luma and chroma on the 255 scale, mid-gray at 0."""
    with torch.autocast(planes.device.type, enabled=False):
        centred = (planes - 0.5) * 255.0
        if planes.shape[1] == 1:
            return centred * math.sqrt(3.0)
        return mix(centred, colour_matrix(planes.dtype, planes.device))


def restore_colour(rotated: Tensor) -> Tensor:
    """The inverse of `rotate_colour`."""
    with torch.autocast(rotated.device.type, enabled=False):
        if rotated.shape[1] == 1:
            return rotated / (math.sqrt(3.0) * 255.0) + 0.5
        matrix = colour_matrix(rotated.dtype, rotated.device)
        return mix(rotated, matrix.t() / 255.0) + 0.5


def filter_borders(planes: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix to the 16 samples around every border between blocks, in rows and columns.

    planes is [B,C,H,W], H and W multiples of 16. matrix is [16,16]; 8 samples lie on either side of
    the border.
    """
    half = BLOCK // 2
    first, inner, last = planes.split((half, planes.shape[3] - BLOCK, half), 3)
    inner = F.linear(inner.unflatten(3, (-1, BLOCK)), matrix).flatten(3)
    planes = torch.cat((first, inner, last), 3)
    first, inner, last = planes.split((half, planes.shape[2] - BLOCK, half), 2)
    inner = torch.matmul(matrix, inner.unflatten(2, (-1, BLOCK))).flatten(2, 3)
    return torch.cat((first, inner, last), 2)


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II [size,size] in float64. Each row is a basis function."""
    k = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    out: Tensor = rows
    return out


def block_dct(planes: Tensor) -> Tensor:
    """[B,C,H,W] -> [B,256C,H/16,W/16]. Index in a plane: 16 * vertical + horizontal frequency."""
    one = block_dct_matrix(planes.dtype, planes.device)
    batch, channels, height, width = planes.shape
    rows, columns = height // BLOCK, width // BLOCK
    x = torch.matmul(one, planes.reshape(-1, rows, BLOCK, width))
    x = F.linear(x.reshape(-1, rows, BLOCK, columns, BLOCK), one)
    return x.permute(0, 2, 4, 1, 3).reshape(batch, AREA * channels, rows, columns)


def inverse_block_dct(coefficients: Tensor) -> Tensor:
    """The inverse of `block_dct`."""
    one = block_dct_matrix(coefficients.dtype, coefficients.device)
    batch, _, rows, columns = coefficients.shape
    x = coefficients.reshape(-1, BLOCK, BLOCK, rows, columns).permute(0, 3, 1, 4, 2)
    x = torch.matmul(x, one).reshape(-1, rows, BLOCK, BLOCK * columns)
    return torch.matmul(one.t(), x).reshape(batch, -1, BLOCK * rows, BLOCK * columns)


def dequantised(latent: Tensor) -> Tensor:
    """The latent int16 [B,h,w,C], as the entropy model gives it -> y [B,C,h,w], float32."""
    return latent.permute(0, 3, 1, 2).float().contiguous() / (1 << LATENT_BITS)


def rows_of(x: Tensor) -> Tensor:
    """[B,C,h,w] -> one row of channels for each position, [B*h*w,C]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def rotate_rows(rows: Tensor, modes: Tensor, matrices: Tensor) -> Tensor:
    """Multiply each row [N,I] by the matrix of its mode: modes [N], matrices [K,O,I] -> [N,O]."""
    if torch.compiler.is_compiling():
        # A compiler cannot know how many rows a mode has. Compute all products, and pick one.
        every = F.linear(rows, matrices.flatten(0, 1)).unflatten(1, matrices.shape[:2])
        picked = modes[:, None, None].expand(-1, 1, matrices.shape[1])
        alone: Tensor = every.gather(1, picked)[:, 0]
        return alone
    rows = rows.contiguous()
    out = rows.new_empty(len(rows), matrices.shape[1])
    for k, matrix in enumerate(matrices):
        group = torch.nonzero(modes == k)[:, 0]
        out.index_copy_(0, group, F.linear(rows[group], matrix))
    return out


@torch.no_grad()
def mode_costs(luma: Tensor, matrices: Tensor, step: Tensor, lambda_error: Tensor) -> Tensor:
    """The rate-distortion cost of each block in each mode [...,K], in bits.

    luma          [...,256] DCT coefficients
    matrices      [K,256,256], the rotations of the modes
    step          [...,256] quantiser steps of the rotated channels
    lambda_error  [...] bits that a unit of squared error is worth

    Leading dimensions broadcast. The first channel is left out, since all modes share it. Rates are
    a rule of thumb, because the modes are needed before any symbol is known.
    """
    costs = []
    scale = lambda_error[..., None] * step.square()
    for k, matrix in enumerate(matrices):
        size = F.linear(luma, matrix).abs_().div_(step)
        coded = size.clamp_min(1.0).log2_().mul_(DOUBLING_BITS).add_(NONZERO_BITS + 0.08 * scale)
        cost = torch.where(size < ZERO_BELOW, size.square() * scale, coded)
        costs.append(cost[..., 1:].sum(-1) + (PREDICTION_BITS if k else 0.0))
    return torch.stack(costs, -1)


class BlockTransform(nn.Module):
    """DCT coefficients [B,256P,h,w] and modes [B,h,w] <-> latent y [B,C,h,w].

    `mvmic_codec.model.shape.Shape` gives the order of the channels of y. All matrices have
    orthonormal rows, so the inverse is the transpose.
    """

    luma: Tensor
    chroma: Tensor

    def __init__(
        self, planes: int, modes: int, chroma: int, near_luma: int, near_chroma: int
    ) -> None:
        super().__init__()
        self.near_luma, self.near_chroma = near_luma, near_chroma
        self.register_buffer("luma", torch.eye(AREA).repeat(modes, 1, 1))
        self.register_buffer("chroma", torch.eye((planes - 1) * AREA)[:chroma].clone())

    def arrange(self, luma: Tensor, chroma: Tensor) -> Tensor:
        """Join luma and chroma along dimension 1, in the order of the channels of y."""
        a, b = self.near_luma, self.near_chroma
        return torch.cat((luma[:, :a], chroma[:, :b], luma[:, a:], chroma[:, b:]), 1)

    def part(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `arrange`: luma and chroma of y."""
        a, b = self.near_luma, self.near_chroma
        near_luma, near_chroma, luma, chroma = y.split(
            (a, b, AREA - a, self.chroma.shape[0] - b), 1
        )
        return torch.cat((near_luma, luma), 1), torch.cat((near_chroma, chroma), 1)

    def costs(self, coefficients: Tensor, steps: Tensor, lambda_error: Tensor) -> Tensor:
        """The cost of each block in each mode, in bits [B,K,h,w], without the bits of the mode.

        steps [B,C,1,1] are those of y. lambda_error [B], or [B,h,w], is what a unit of squared
        error is worth in bits. See `mode_costs`.
        """
        step = self.part(steps)[0].flatten(1)[:, None]
        rows = rows_of(coefficients[:, :AREA]).unflatten(0, (len(coefficients), -1))
        weights = lambda_error.reshape(len(rows), -1).expand(rows.shape[:2])
        parts = zip(rows.split(COST_BLOCKS, 1), weights.split(COST_BLOCKS, 1), strict=True)
        costs = torch.cat([mode_costs(some, self.luma, step, w) for some, w in parts], 1)
        out: Tensor = costs.transpose(1, 2).unflatten(2, coefficients.shape[2:])
        return out

    def forward(self, coefficients: Tensor, modes: Tensor) -> Tensor:
        """Coefficients [B,256P,h,w] and modes [B,h,w] -> y [B,C,h,w], in float32."""
        with torch.autocast(coefficients.device.type, enabled=False):
            luma = rotate_rows(rows_of(coefficients[:, :AREA]), modes.flatten(), self.luma)
            luma = luma.unflatten(0, modes.shape).permute(0, 3, 1, 2)
            chroma = mix(coefficients[:, AREA:], self.chroma)
            return self.arrange(luma, chroma)

    def inverse(self, y: Tensor, modes: Tensor) -> Tensor:
        """Y [B,C,h,w] and modes [B,h,w] -> coefficients [B,256P,h,w], in float32."""
        with torch.autocast(y.device.type, enabled=False):
            luma, chroma = self.part(y)
            luma = rotate_rows(rows_of(luma), modes.flatten(), self.luma.transpose(1, 2))
            luma = luma.unflatten(0, modes.shape).permute(0, 3, 1, 2)
            return torch.cat((luma, mix(chroma, self.chroma.t())), 1)
