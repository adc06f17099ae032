"""Synthesis in exact integers, in torch, on any device: formats/model.md, section 9.

It has the stages of `mvmic_codec.model.synthesis.Synthesis`, which are explained there. Their
numbers are integers in tensors of float64, so that sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.definition import (
    AREA,
    COEFFICIENT_BITS,
    COLOUR_MATRIX,
    GRAY_MATRIX,
    INPUT_MAX,
    MATRIX_BITS,
    PLANE_BITS,
    PLANE_MAX,
    QUAD_BITS,
    RANGE_BITS,
    ROW_BITS,
    SAMPLE_BITS,
    STREAM_MAX,
)
from mvmic_codec.model.layers import pixel_shuffle, pixel_unshuffle

# What the products of means of quads are shifted by.
MEAN_BITS = 26


class IntegerBlock:
    """A residual block: stream [1,C,h,w] -> stream. See `block` in formats/model.md."""

    def __init__(self, arrays: Mapping[str, Tensor], shift: int) -> None:
        self.arrays, self.shift = arrays, shift

    def __call__(self, x: Tensor) -> Tensor:
        """The next stream."""
        a = self.arrays
        y = rounded(x, self.shift).clamp(max=STREAM_MAX >> self.shift)
        y = requantised(conv(y, a["first.weight"], a["first.bias"]), a["first.multiplier"])
        y = conv(y.clamp(0, INPUT_MAX), a["second.weight"], a["second.bias"])
        return int16(x + requantised(y, a["second.multiplier"]))


class IntegerSynthesis:
    """The arrays of `arrays.synthesis_arrays`, as tensors, ready to compute."""

    def __init__(self, arrays: Mapping[str, Tensor], device: torch.device) -> None:
        a = self.arrays = {name: array.to(device, torch.float64) for name, array in arrays.items()}

        def block(prefix: str, shift: int) -> IntegerBlock:
            return IntegerBlock(
                {k[len(prefix) :]: v for k, v in a.items() if k.startswith(prefix)}, shift
            )

        def blocks(name: str) -> list[IntegerBlock]:
            count = sum(k.startswith(name) and k.endswith("first.bias") for k in a)
            return [block(f"{name}.{k}.", 3) for k in range(count)]

        self.planes = len(a["leave.bias"]) // 64
        self.body16, self.body8 = blocks("body16"), blocks("body8")
        self.retouch_body = block("retouch.", 2)

    def coefficients(self, y: Tensor, modes: Tensor) -> Tensor:
        """Luma and chroma y [1,h,w,C], each in their order, and modes [1,h,w] -> [1,256J,h,w]."""
        rows, at = y.flatten(0, 2).double(), modes.flatten()
        luma = rows.new_empty(len(rows), AREA)
        for k, matrix in enumerate(self.arrays["luma"]):
            luma[at == k] = rows[at == k, :AREA] @ matrix
        chroma = rows[:, AREA:] @ self.arrays["chroma"]
        x = int16(rounded(torch.cat((luma, chroma), 1), MATRIX_BITS))
        return x.T.reshape(1, -1, *modes.shape[1:])

    def linear_planes(self, coefficients: Tensor) -> Tensor:
        """Coefficients [1,256J,h,w] -> the linear picture [1,J,16h,16w]."""
        _, _, rows, columns = coefficients.shape
        dct, borders = self.arrays["dct"], self.arrays["borders"]
        x = coefficients.reshape(-1, BLOCK, BLOCK, rows, columns).permute(0, 3, 1, 4, 2)
        x = int16(rounded(x @ dct, MATRIX_BITS + COEFFICIENT_BITS - ROW_BITS))
        x = dct.T @ x.reshape(-1, rows, BLOCK, BLOCK * columns)
        x = int16(rounded(x, MATRIX_BITS + ROW_BITS - SAMPLE_BITS))
        x = x.reshape(1, -1, BLOCK * rows, BLOCK * columns)
        half = BLOCK // 2
        first, inner, last = x.split((half, x.shape[3] - BLOCK, half), 3)
        inner = int16(rounded(inner.unflatten(3, (-1, BLOCK)) @ borders.T, MATRIX_BITS))
        x = torch.cat((first, inner.flatten(3), last), 3)
        first, inner, last = x.split((half, x.shape[2] - BLOCK, half), 2)
        more = PLANE_BITS - SAMPLE_BITS
        inner = rounded(borders @ inner.unflatten(2, (-1, BLOCK)), MATRIX_BITS - more)
        return torch.cat((first * 2**more, inner.flatten(2, 3), last * 2**more), 2)

    def enter16(self, coefficients: Tensor, modes: Tensor, rate: int) -> Tensor:
        """Coefficients and modes [1,h,w] -> stream [1,a,h,w] for `body16`."""
        a = self.arrays
        e = rounded(coefficients * by_channel(a["enter.scale"]), 16).clamp(-INPUT_MAX, INPUT_MAX)
        y = conv(e, a["enter.weight"]) + a["enter.bias"][modes].permute(0, 3, 1, 2)
        y = requantised(y, a["enter.multiplier"][rate]) + by_channel(a["enter.offset"][rate])
        return int16(y)

    def enter8(self, stream: Tensor, linear: Tensor, rate: int) -> Tensor:
        """Output of `body16` and the linear picture -> stream [1,b,2h,2w] for `body8`."""
        a = self.arrays
        u = requantised(conv(narrowed(stream), a["up.weight"]), a["up.multiplier"][rate])
        u = pixel_shuffle(u + by_channel(a["up.offset"][rate]), 2)
        i = rounded(pixel_unshuffle(linear, 8), PLANE_BITS - COEFFICIENT_BITS)
        i = conv(i.clamp(-INPUT_MAX, INPUT_MAX), a["inject.weight"])
        return int16(u + requantised(i, a["inject.multiplier"][rate]))

    def leave8(self, stream: Tensor, linear: Tensor) -> Tensor:
        """The output of `body8`, added to the linear picture [1,J,16h,16w]."""
        a = self.arrays
        more = conv(narrowed(stream), a["leave.weight"], a["leave.bias"])
        more = pixel_shuffle(requantised(more, a["leave.multiplier"]), 8)
        return (linear + more).clamp(-PLANE_MAX, PLANE_MAX)

    def retouch(self, planes: Tensor, rate: int) -> Tensor:
        """Planes [1,J,H,W] -> corrected planes."""
        a = self.arrays
        g = conv(quads(planes), a["retouch.enter.weight"])
        g = requantised(g, a["retouch.enter.multiplier"][rate])
        g = (g + by_channel(a["retouch.enter.offset"][rate])).clamp(0, STREAM_MAX)
        g = narrowed(self.retouch_body(g))
        r = conv(g, a["retouch.leave.weight"], a["retouch.leave.bias"])
        return planes + pixel_shuffle(requantised(r, a["retouch.leave.multiplier"]), 2)


def rounded(x: Tensor, bits: int) -> Tensor:
    """The nearest integer of x / 2^bits, halves up. x below 2^52."""
    return torch.floor(x * 2.0**-bits + 0.5)


def int16(x: Tensor) -> Tensor:
    """The nearest number of 16 bits."""
    return x.clamp(-STREAM_MAX - 1, STREAM_MAX)


def narrowed(stream: Tensor) -> Tensor:
    """A stream as the input of a layer without a residual block."""
    return rounded(stream, 2).clamp(max=INPUT_MAX)


def by_channel(x: Tensor) -> Tensor:
    """[C] -> [C,1,1]."""
    return x[:, None, None]


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The sums of a layer, with zeros outside of x. Rounded: an algorithm may leave a trace."""
    return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2).round()


def requantised(x: Tensor, multiplier: Tensor) -> Tensor:
    """rnd(x multiplier, 32), by channel. Products need up to 62 bits."""
    product = x.long() * by_channel(multiplier.long())
    return ((product + 2**31) >> 32).double()


def quads(planes: Tensor) -> Tensor:
    """Planes [1,J,H,W] -> their quads less the mean around them [1,4J,H/2,W/2], in 2^-4."""
    fours = pixel_unshuffle(planes, 2).unflatten(1, (-1, 4))
    total = fours.sum(2)
    around = total.new_ones(total.shape[1], 1, 3, 3)
    number = conv(torch.ones_like(total[:, :1]), around[:1])
    sums = F.conv2d(total, around, padding=1, groups=len(around)).round()
    mean = rounded(sums * torch.floor(2**MEAN_BITS / (4 * number) + 0.5), MEAN_BITS)
    d = rounded(fours - mean[:, :, None], PLANE_BITS - QUAD_BITS)
    return d.clamp(-INPUT_MAX, INPUT_MAX).flatten(1, 2)


def samples_of(planes: Tensor, lo: int, hi: int) -> Tensor:
    """Planes [1,J,H,W] -> samples [J,H,W] from lo to hi, int64."""
    matrix = torch.tensor(COLOUR_MATRIX if planes.shape[1] == 3 else GRAY_MATRIX)
    half = 2 ** (RANGE_BITS - 1)
    z = torch.einsum("kc,chw->khw", matrix.to(planes), planes[0]).long() + half
    samples: Tensor = lo + ((z.clamp(0, 2**RANGE_BITS) * (hi - lo) + half) >> RANGE_BITS)
    return samples
