"""The linear path of both transforms: colour rotation, lapped DCT, and a block's rotation by mode.

The lapped transform is a filter across block borders (Tran, Liang and Tu, "Lapped transform via
time-domain pre- and post-filtering", 2003) and a 16x16 DCT. The encoder then chooses for each block
one of a few rotations of the luma coefficients: its mode. Tissue wants long smooth basis functions.
Burned-in text and the edge of an endoscope's black frame want short ones (Sezer, Guleryuz and
Altunbasak, "Approximation and compression with sparse orthonormal transforms", 2015).

All of it comes from the statistics of the training images and stays orthonormal. Trained by
gradients, the large mean of a block would leak into its other coefficients. It is computed in
float32.

Units: images are in 0..255 after a shift by 127.5. Colours are rotated to an orthonormal luma and
two chroma axes, so squared error in the latent is squared error over the three samples of a pixel.
A gray image is its luma alone, sqrt 3 times its samples: the same picture in colour has no chroma.

P is the number of planes: 1 in a model for gray images, 3 in one for colour.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.layers import mix

AREA = BLOCK * BLOCK
# Price of a coefficient in bits, when modes are compared: one that is not zero, and each doubling.
NONZERO_BITS = 5.0
DOUBLING_BITS = 1.5
# A coefficient under this many steps is taken for zero.
ZERO_BELOW = 0.67
# What a block gives up in any mode but 0: linear prediction.
PREDICTION_BITS = 6.0

# Orthonormal colour rotation: luma (R+G+B)/sqrt 3, and two chroma axes.
COLOUR = torch.tensor(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


# A constant is copied to a device once: to copy it each time would make a CUDA device wait, and
# cannot be part of a recorded graph. Training, where it compiles, tells the compiler that the next
# two are constant; to tell it here would import the whole compiler with every decoder.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def on_device(constant: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """COLOUR or, as "dct", the DCT of a block's side."""
    return (COLOUR if constant == "colour" else dct_matrix(BLOCK)).to(device, dtype)


def colour_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """COLOUR, on a device."""
    return on_device("colour", dtype, device)


def block_dct_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The DCT of a block's side, on a device."""
    return on_device("dct", dtype, device)


def rotate_colour(planes: Tensor) -> Tensor:
    """[B,P,H,W] gray or RGB in 0..1 -> luma and any chroma in 255 units, mid-gray at zero."""
    with torch.autocast(planes.device.type, enabled=False):
        centred = (planes - 0.5) * 255.0
        if planes.shape[1] == 1:
            return centred * math.sqrt(3.0)
        return mix(centred, colour_matrix(planes.dtype, planes.device))


def restore_colour(rotated: Tensor) -> Tensor:
    """The inverse of rotate_colour."""
    with torch.autocast(rotated.device.type, enabled=False):
        if rotated.shape[1] == 1:
            return rotated / (math.sqrt(3.0) * 255.0) + 0.5
        matrix = colour_matrix(rotated.dtype, rotated.device)
        return mix(rotated, matrix.t() / 255.0) + 0.5


def filter_borders(planes: Tensor, matrix: Tensor) -> Tensor:
    """Apply a 16x16 matrix to the 16 samples around every inner block border, both ways.

    planes [B,C,H,W], H and W multiples of 16; matrix maps 16 samples, 8 on either side.
    """
    half = BLOCK // 2
    first, inner, last = planes.split((half, planes.shape[3] - BLOCK, half), 3)
    inner = F.linear(inner.unflatten(3, (-1, BLOCK)), matrix).flatten(3)
    planes = torch.cat((first, inner, last), 3)
    first, inner, last = planes.split((half, planes.shape[2] - BLOCK, half), 2)
    inner = torch.matmul(matrix, inner.unflatten(2, (-1, BLOCK))).flatten(2, 3)
    return torch.cat((first, inner, last), 2)


def dct_matrix(size: int) -> Tensor:
    """[size,size] orthonormal DCT-II in float64, one row a basis function."""
    k = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    out: Tensor = rows
    return out


def block_dct(planes: Tensor) -> Tensor:
    """[B,C,H,W] -> [B,256C,H/16,W/16]: coefficients of each plane, vertical frequency first."""
    one = block_dct_matrix(planes.dtype, planes.device)
    batch, channels, height, width = planes.shape
    rows, columns = height // BLOCK, width // BLOCK
    x = torch.matmul(one, planes.reshape(-1, rows, BLOCK, width))
    x = F.linear(x.reshape(-1, rows, BLOCK, columns, BLOCK), one)
    return x.permute(0, 2, 4, 1, 3).reshape(batch, AREA * channels, rows, columns)


def inverse_block_dct(coefficients: Tensor) -> Tensor:
    """The inverse of block_dct."""
    one = block_dct_matrix(coefficients.dtype, coefficients.device)
    batch, _, rows, columns = coefficients.shape
    x = coefficients.reshape(-1, BLOCK, BLOCK, rows, columns).permute(0, 3, 1, 4, 2)
    x = torch.matmul(x, one).reshape(-1, rows, BLOCK, BLOCK * columns)
    return torch.matmul(one.t(), x).reshape(batch, -1, BLOCK * rows, BLOCK * columns)


def rows_of(x: Tensor) -> Tensor:
    """[B,C,h,w] -> [B*h*w,C]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def rotate_rows(rows: Tensor, modes: Tensor, matrices: Tensor) -> Tensor:
    """Multiply each row of [N,I] by its mode's matrix: modes [N], matrices [K,O,I] -> [N,O]."""
    if torch.compiler.is_compiling():
        # How many rows a mode has is not known to a compiler: all products, and one is picked.
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
    """DCT coefficients [B,256P,h,w] and modes <-> latent y [B,C,h,w].

    The channels of y are `near_luma` luma, `near_chroma` chroma, the rest of 256 luma, the rest of
    `chroma`, which is 0 for gray. All matrices have orthonormal rows: the way back is their
    transpose.
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
        """Luma and chroma along dimension 1 in the order of the channels of y."""
        a, b = self.near_luma, self.near_chroma
        return torch.cat((luma[:, :a], chroma[:, :b], luma[:, a:], chroma[:, b:]), 1)

    def part(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of arrange."""
        a, b = self.near_luma, self.near_chroma
        near_luma, near_chroma, luma, chroma = y.split(
            (a, b, AREA - a, self.chroma.shape[0] - b), 1
        )
        return torch.cat((near_luma, luma), 1), torch.cat((near_chroma, chroma), 1)

    def costs(self, coefficients: Tensor, steps: Tensor, lambda_error: Tensor) -> Tensor:
        """What each block would cost in each mode [B,K,h,w], without the bits of the mode.

        For steps of y [B,C,1,1] and bits for a unit of squared error [B]; see mode_costs.
        """
        step = self.part(steps)[0].flatten(1)[:, None]
        rows = rows_of(coefficients[:, :AREA]).unflatten(0, (len(coefficients), -1))
        costs = mode_costs(rows, self.luma, step, lambda_error[:, None])
        out: Tensor = costs.transpose(1, 2).unflatten(2, coefficients.shape[2:])
        return out

    def forward(self, coefficients: Tensor, modes: Tensor) -> Tensor:
        """To y [B,C,h,w]; float32."""
        with torch.autocast(coefficients.device.type, enabled=False):
            luma = rotate_rows(rows_of(coefficients[:, :AREA]), modes.flatten(), self.luma)
            luma = luma.unflatten(0, modes.shape).permute(0, 3, 1, 2)
            chroma = mix(coefficients[:, AREA:], self.chroma)
            return self.arrange(luma, chroma)

    def inverse(self, y: Tensor, modes: Tensor) -> Tensor:
        """From y back to [B,256P,h,w]; float32."""
        with torch.autocast(y.device.type, enabled=False):
            luma, chroma = self.part(y)
            luma = rotate_rows(rows_of(luma), modes.flatten(), self.luma.transpose(1, 2))
            luma = luma.unflatten(0, modes.shape).permute(0, 3, 1, 2)
            return torch.cat((luma, mix(chroma, self.chroma.t())), 1)
