"""Analysis and synthesis: image planes <-> latent y at 1/16, by convolutions at 1/8 and below.

Each transform is a linear path plus a convolutional branch that starts at zero and learns the rest.
The linear path is a lapped transform: a filter across block borders (Tran, Liang and Tu,
"Lapped transform via time-domain pre- and post-filtering", 2003), a 16x16 DCT, and a rotation of
the luma coefficients that the encoder chooses for each block out of a few: its mode. Tissue wants
long smooth basis functions, burned-in text and the edge of an endoscope's black frame want short
ones (Sezer, Guleryuz and Altunbasak, "Approximation and compression with sparse orthonormal
transforms", 2015). All of it is set from the statistics of the training images and stays
orthonormal: trained by gradients, the large mean of a block leaks into its other coefficients. It
is computed in float32; the branch may run in bfloat16 under autocast.

A last part of synthesis works at 1/2 on what the two paths gave: what a sample should be is told
best by those beside it, wherever they lie in their block.

Units: images are in 0..255 after a shift by 127.5, colours rotated to an orthonormal luma and two
chroma axes, so that squared error in the latent is squared error over the three samples of a
pixel. A gray image is its luma alone, sqrt 3 times its samples: the same picture in colour would
have no chroma.

P is the number of planes: 1 in a model for gray images, 3 in one for colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stripes import Striped

BLOCK = 16
AREA = BLOCK * BLOCK
RATES = 64
# Price of a coefficient in bits, when modes are compared: one that is not zero, and each doubling.
NONZERO_BITS = 5.0
DOUBLING_BITS = 1.5
# A coefficient under this many steps is taken for zero.
ZERO_BELOW = 0.67
# What a block gives up in any mode but 0: linear prediction.
PREDICTION_BITS = 6.0

# Rows that are retouched together: what lies between the layers is ten times the picture, and so
# stays in caches and takes little memory.
STRIPE = 128
# Rows on either side that one depends on: a mean and four convolutions, each 3x3 at 1/2.
REACH = 10

# Orthonormal colour rotation: luma (R+G+B)/sqrt 3, and two chroma axes.
COLOUR = torch.tensor(
    [
        [1 / math.sqrt(3)] * 3,
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


# Constants stay where they are used: to copy one there each time would make a CUDA device wait, and
# cannot be part of a graph. To a compiler they are what they were when it first saw them.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def on_device(constant: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """COLOUR or, as "dct", the DCT of a block's side."""
    return (COLOUR if constant == "colour" else dct_matrix(BLOCK)).to(device, dtype)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def colour_matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    """COLOUR, on a device."""
    return on_device("colour", dtype, device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
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


def mix(planes: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of [B,I,h,w] by a matrix [O,I]: a 1x1 convolution, as a product."""
    out: Tensor = torch.matmul(matrix, planes.flatten(2)).reshape(
        planes.shape[0], -1, *planes.shape[2:]
    )
    return out


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


def unshuffle(x: Tensor, size: int) -> Tensor:
    """As F.pixel_unshuffle, by views and one copy, which on CPUs takes half the time."""
    batch, channels, height, width = x.shape
    view = x.reshape(batch, channels, height // size, size, width // size, size)
    return view.permute(0, 1, 3, 5, 2, 4).reshape(
        batch, channels * size * size, height // size, width // size
    )


def shuffle(x: Tensor, size: int) -> Tensor:
    """The inverse of unshuffle."""
    batch, channels, height, width = x.shape
    view = x.reshape(batch, channels // size**2, size, size, height, width)
    return view.permute(0, 1, 4, 2, 5, 3).reshape(
        batch, channels // size**2, height * size, width * size
    )


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
def mode_costs(luma: Tensor, matrices: Tensor, step: Tensor, weight: Tensor) -> Tensor:
    """What each block would cost in each mode, in bits and in error at its price in bits.

    luma [...,256] DCT coefficients, matrices [K,256,256], step [...,256] of each channel and
    weight [...] bits for a unit of squared error, in sizes that go with luma's. Returns [...,K].
    The first channel is left out: all modes share it. Rates are a rule of thumb: the modes are
    needed before any symbol is known.
    """
    costs = []
    scale = weight[..., None] * step.square()
    for k, matrix in enumerate(matrices):
        size = F.linear(luma, matrix).abs_().div_(step)
        coded = size.clamp_min(1.0).log2_().mul_(DOUBLING_BITS).add_(NONZERO_BITS + 0.08 * scale)
        cost = torch.where(size < ZERO_BELOW, size.square() * scale, coded)
        costs.append(cost[..., 1:].sum(-1) + (PREDICTION_BITS if k else 0.0))
    return torch.stack(costs, -1)


class RateTable(nn.Module):
    """One vector for each of the 64 rate indices, linear between 8 learned knots."""

    def __init__(self, channels: int, knots: int = 8, value: float = 0.0) -> None:
        super().__init__()
        self.knots = nn.Parameter(torch.full((knots, channels), value))

    def forward(self, rate: Tensor) -> Tensor:
        """Rate indices [B] -> vectors [B, channels]."""
        last = self.knots.shape[0] - 1
        position = rate.to(self.knots.dtype) * (last / (RATES - 1))
        low = position.floor().clamp(0, last - 1).long()
        part = (position - low)[:, None]
        return torch.lerp(self.knots[low], self.knots[low + 1], part)


def start_at_zero(conv: nn.Conv2d) -> None:
    """Has a convolution with a bias give 0 until it has learned something."""
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


class SingleConv(nn.Conv2d):
    """A convolution in single precision whatever autocast does.

    In synthesis all but the residual blocks and the last convolution are: they have the picture
    itself to carry, of which bfloat16 keeps 8 bits.
    """

    def forward(self, x: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """X [B,I,h,w], each channel times its scale [I] -> [B,O,h,w], float32."""
        with torch.autocast(x.device.type, enabled=False):
            # Filters are smaller than what they go over.
            scales = scale[:, None, None] if isinstance(scale, Tensor) else scale
            out: Tensor = self._conv_forward(x.float(), self.weight * scales, self.bias)
            return out


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3x3, the second convolution started small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """X [B,width,h,w] -> the same shape."""
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


class RateScale(nn.Module):
    """Per-channel scale and shift by rate index: x * (1 + a[rate]) + b[rate]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = RateTable(2 * width)

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:
        """X [B,width,h,w] and rate indices [B] -> the same shape as x."""
        scale, shift = self.table(rate)[:, :, None, None].to(x.dtype).chunk(2, 1)
        out: Tensor = x * (1 + scale) + shift
        return out


class Analysis(nn.Module):
    """Rotated planes [B,P,H,W] (H, W multiples of 64) -> DCT coefficients [B,256P,H/16,W/16].

    They are those of the lapped picture, changed by the branch.
    """

    borders: Tensor
    spread: Tensor

    def __init__(self, planes: int, width8: int, blocks8: int, width16: int, blocks16: int) -> None:
        super().__init__()
        self.register_buffer("borders", torch.eye(BLOCK))
        self.enter = nn.Conv2d(planes * 64, width8, 1)
        self.rate8 = RateScale(width8)
        self.body8 = nn.Sequential(*[ResidualBlock(width8) for _ in range(blocks8)])
        self.down = nn.Conv2d(4 * width8, width16, 1)
        self.rate16 = RateScale(width16)
        self.body16 = nn.Sequential(*[ResidualBlock(width16) for _ in range(blocks16)])
        self.leave = nn.Conv2d(width16, planes * AREA, 1)
        start_at_zero(self.leave)
        self.register_buffer("spread", torch.ones(planes * AREA))

    def forward(self, rotated: Tensor, rate: Tensor) -> Tensor:
        """Rate [B] holds indices; the coefficients are float32 whatever autocast does."""
        x = rotated
        for layer, _ in self.stages(rate):
            x = layer(x)
        return self.straight(rotated) + x

    def straight(self, rotated: Tensor) -> Tensor:
        """What the linear path makes of rotated planes."""
        with torch.autocast(rotated.device.type, enabled=False):
            return block_dct(filter_borders(rotated, self.borders))

    def stages(self, rate: Tensor) -> list[tuple[Callable[[Tensor], Tensor], int]]:
        """The branch, one layer after the other, and how many blocks away each one looks."""
        return [
            (lambda x: self.rate8(self.enter(unshuffle(x, 8) / 64.0), rate), 0),
            *((block, 1) for block in self.body8),
            (lambda x: self.rate16(self.down(unshuffle(x, 2)), rate), 0),
            *((block, 2) for block in self.body16),
            (lambda x: self.leave(x).float() * self.spread[:, None, None], 0),
        ]


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

    def costs(self, coefficients: Tensor, steps: Tensor, weight: Tensor) -> Tensor:
        """What each block would cost in each mode [B,K,h,w], without the bits of the mode.

        For steps of y [B,C,1,1] and bits for a unit of squared error [B]; see mode_costs.
        """
        step = self.part(steps)[0].flatten(1)[:, None]
        rows = rows_of(coefficients[:, :AREA]).unflatten(0, (len(coefficients), -1))
        costs = mode_costs(rows, self.luma, step, weight[:, None])
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


class Retouch(nn.Module):
    """Corrections to what the rest of synthesis made, by a small network at 1/2.

    It sees each sample less the mean of what is around it.
    """

    def __init__(self, planes: int, width: int) -> None:
        super().__init__()
        self.enter = SingleConv(planes * 4, width, 3, padding=1)
        self.rate = RateScale(width)
        self.body = ResidualBlock(width)
        self.leave = nn.Conv2d(width, planes * 4, 3, padding=1)
        start_at_zero(self.leave)

    def forward(self, planes: Tensor, rate: Tensor) -> Tensor:
        """Rotated planes [B,P,H,W], H and W even, and rate indices [B] -> the same shape."""
        height = planes.shape[2]
        if planes.is_cuda:
            return self.stripe(planes, rate)
        parts = []
        for top in range(0, height, STRIPE):
            start, end = max(0, top - REACH), min(height, top + STRIPE + REACH)
            part = self.stripe(planes[:, :, start:end], rate)
            parts.append(part[:, :, top - start :][:, :, :STRIPE])
        return torch.cat(parts, 2)

    def stripe(self, planes: Tensor, rate: Tensor) -> Tensor:
        """As `forward`, of all rows together."""
        x = self.enter(less_mean(unshuffle(planes, 2)), 1.0 / 16.0)
        x = self.body(F.relu(self.rate(x, rate)))
        return torch.add(planes, shuffle(self.leave(x).float(), 2), alpha=8.0)


class Synthesis(nn.Module):
    """DCT coefficients [B,256P,h,w] and modes [B,h,w] -> rotated planes [B,P,16h,16w]."""

    borders: Tensor
    spread: Tensor

    def __init__(
        self,
        planes: int,
        modes: int,
        width8: int,
        blocks8: int,
        width16: int,
        blocks16: int,
        width2: int,
    ) -> None:
        super().__init__()
        self.modes = modes
        self.register_buffer("borders", torch.eye(BLOCK))
        self.enter = SingleConv(planes * AREA, width16, 1)
        self.mode = SingleConv(modes, width16, 1, bias=False)
        self.rate16 = RateScale(width16)
        self.body16 = nn.Sequential(*[ResidualBlock(width16) for _ in range(blocks16)])
        self.up = SingleConv(width16, 4 * width8, 1)
        self.inject = SingleConv(planes * 64, width8, 1)
        self.rate8 = RateScale(width8)
        self.body8 = nn.Sequential(*[ResidualBlock(width8) for _ in range(blocks8)])
        self.leave = SingleConv(width8, planes * 64, 1)
        start_at_zero(self.leave)
        self.retouch = Retouch(planes, width2)
        self.register_buffer("spread", torch.ones(planes * AREA))

    def forward(self, coefficients: Tensor, modes: Tensor, rate: Tensor) -> Tensor:
        """Rate [B] holds indices; the planes are float32 whatever autocast does."""
        return StripedSynthesis(self, rate)(coefficients, modes, last=True)

    def straight(self, coefficients: Tensor) -> Tensor:
        """What the linear path makes of coefficients."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return filter_borders(inverse_block_dct(coefficients), self.borders)


class StripedSynthesis:
    """Synthesis of images whose rows of blocks come in stripes, one below the other.

    reach  blocks on every side that a sample of the planes depends on. The first stripe has at
           least as many rows, and as many are not complete until others follow.
    """

    def __init__(self, net: Synthesis, rate: Tensor) -> None:
        self.net, self.rate = net, rate
        # Two rows at 1/16 for each block of that body, two at 1/8, and REACH samples.
        self.reach = 2 * len(net.body16) + len(net.body8) + 1
        self.straight = Striped(net.straight, 1, BLOCK)
        self.body16 = [Striped(block, 2) for block in net.body16]
        self.body8 = [Striped(block, 2) for block in net.body8]
        # The linear picture waits, by rows of samples, for what goes through the bodies.
        self.until_up = Striped(nn.Identity(), BLOCK * (2 * len(net.body16) - 1))
        self.until_leave = Striped(nn.Identity(), 8 * 2 * len(net.body8))
        self.retouch = Striped(lambda planes: net.retouch(planes, rate), REACH)

    def __call__(self, coefficients: Tensor, modes: Tensor, *, last: bool) -> Tensor:
        """The next rows, as for `Synthesis` -> the next rows of its planes."""
        net = self.net
        straight = self.until_up(self.straight(coefficients, last=last), last=last)
        x = net.enter(coefficients, 1.0 / net.spread)
        x = net.rate16(x + net.mode(one_hot(modes, net.modes).to(x.dtype)), self.rate)
        for block in self.body16:
            x = block(x, last=last)
        x = shuffle(net.up(x), 2) + net.inject(unshuffle(straight, 8), 1.0 / 64.0)
        x = net.rate8(x, self.rate)
        for block in self.body8:
            x = block(x, last=last)
        straight = self.until_leave(straight, last=last)
        planes = torch.add(straight, shuffle(net.leave(x), 8), alpha=16.0)
        # Retouching takes memory of its own.
        del straight, x
        return self.retouch(planes, last=last)


def less_mean(quads: Tensor) -> Tensor:
    """Take from [B,4P,h,w], squares of four samples of a plane, the mean of 3x3 squares around.

    Beyond the border there are none, and the mean is of the others.
    """
    fours = quads.unflatten(1, (-1, 4))
    mean = F.avg_pool2d(fours.mean(2), 3, 1, 1, count_include_pad=False)
    out: Tensor = (fours - mean[:, :, None]).flatten(1, 2)
    return out


def one_hot(modes: Tensor, count: int) -> Tensor:
    """[B,h,w] int64 -> [B,count,h,w] float32."""
    every = torch.arange(count, device=modes.device)
    return (modes[:, None] == every[:, None, None]).float()
