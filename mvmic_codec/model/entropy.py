"""The entropy model in its training form: integer arithmetic simulated in float32.

formats/model.md defines the arithmetic to the bit, and `integer.py` carries it out; the names are
the same in all three. Training sees what decoding will do. Every activation is rounded to an
integer, with a straight-through gradient. Weights are rounded to int8 times a power of two for each
output channel.

schedule.py defines the order of coding: cells, spatial steps and symbol groups.

Every site has one mode; see transforms.BlockTransform. A mode is coded as three binary symbols, the
most significant bit first. They have tables of their own, the flag tables: a network picks one for
every node of the tree of bits.

After its mode's rotation, a luma channel means different things in different modes. Linear
prediction is used only where a channel is "aligned", which means the same in all blocks: in mode 0,
in the first channel, and in chroma.

Units. A symbol is an integer s. The dequantised latent is q = 16 s + m in sixteenths of a step,
with m the predicted mean. v = q * step, in sixteenths on the 255 scale, feeds linear prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.model.definition import (
    COMPANDED_MAX,
    DEEP_MEAN_MAX,
    FLAG_TABLES,
    FRACTION,
    MODE_DEPTH,
    MODE_INPUT,
    MODES,
    NODES,
    SHIFT_MAX,
    TABLES,
)
from mvmic_codec.model.layers import RateTable, mix, one_hot, pixel_shuffle, pixel_unshuffle
from mvmic_codec.model.schedule import (
    MODE_HALVES,
    SCHEDULE,
    SITE_ORDER,
    SPATIAL_STEPS,
    sites_of_half,
    step_sites,
)

SCALE_MIN = 0.07  # logistic scale of table 1, in steps
SCALE_MAX = 70.0  # and of the last table of the first quantiser
# Tables lie this far apart in the logarithm of their scale.
LOG_RATIO = math.log(SCALE_MAX / SCALE_MIN) / (TABLES - 2)
WEIGHT_MAX = 127  # largest magnitude of an int8 weight: every weight has its negative
# A symbol may be lowered by one to save bits, if its position lies at most this many steps above
# the rounding threshold. So 1.1 steps and more never become 0. Training and encoder do the same.
DEADZONE_MAX = 0.6
FLAG_LOGIT = 0.4  # neighbouring flag tables differ by so many nats of log odds


def table_scale(index: Tensor) -> Tensor:
    """Logistic scale in steps by (fractional) table index. Table 1 has SCALE_MIN."""
    return SCALE_MIN * torch.exp((index - 1.0) * LOG_RATIO)


def flag_logit(index: Tensor) -> Tensor:
    """Log odds of a one, in nats, by (fractional) flag table index from 0 to FLAG_TABLES - 1."""
    return (index - (FLAG_TABLES - 1) / 2) * FLAG_LOGIT


def mode_path(modes: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes of the tree on the way to each mode, and the bits there.

    modes is int64 of any shape; both results are [MODE_DEPTH, ...].
    """
    nodes = torch.stack([2**d - 1 + (modes >> (MODE_DEPTH - d)) for d in range(MODE_DEPTH)])
    bits = torch.stack([modes >> (MODE_DEPTH - 1 - d) & 1 for d in range(MODE_DEPTH)])
    return nodes, bits


def mode_bits(index: Tensor) -> Tensor:
    """What every mode would cost, in bits [B,MODES,...], by the nodes' tables [B,NODES,...]."""
    logits = flag_logit(index)
    nodes, bits = mode_path(torch.arange(MODES, device=index.device))
    picked = logits[:, nodes.t().flatten()].unflatten(1, (MODES, MODE_DEPTH))
    sign = (1.0 - 2.0 * bits.t()).reshape(1, MODES, MODE_DEPTH, *[1] * (index.dim() - 2))
    return F.softplus(picked * sign).sum(2) / math.log(2.0)


def round_through(x: Tensor) -> Tensor:
    """Round half up, with the gradient of the identity."""
    return x + (torch.floor(x + 0.5) - x).detach()


def compand(q: Tensor, quantise: bool = True) -> Tensor:
    """sign(q) * round(32 log2(1 + |q| / 16)), clamped to +-COMPANDED_MAX.

    Without `quantise` it is not rounded.
    """
    value = 32.0 / math.log(2.0) * torch.log1p(q.abs() / FRACTION)
    value = (torch.sign(q) * value).clamp(-COMPANDED_MAX, COMPANDED_MAX)
    return round_through(value) if quantise else value


def pad_edges(x: Tensor) -> Tensor:
    """[B,C,h,w] -> [B,C,h+2,w+2], by repeating the values at the edges."""
    if torch.compiler.is_compiling():
        # Compilers handle the backward pass of F.pad's replicate mode badly.
        x = torch.cat((x[:, :, :1], x, x[:, :, -1:]), 2)
        return torch.cat((x[:, :, :, :1], x, x[:, :, :, -1:]), 3)
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


class IntegerConv(nn.Module):
    """A convolution whose weights are int8 times 2^-shift, with one shift for each output channel.

    Inputs and outputs are integers held in floats. Edges are repeated. The output is rounded but
    not clamped. With `narrow` it may run in bfloat16 under autocast: that holds every input and
    weight exactly, and every output up to 256.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, gain: float = 1.0, narrow: bool = False
    ) -> None:
        super().__init__()
        self.narrow = narrow
        self.pad = size > 1
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=gain * math.sqrt(2.0 / (inputs * size * size)))

    def shifts(self) -> Tensor:
        """For each output [O], the largest shift up to SHIFT_MAX that keeps its weights in int8."""
        peak = self.weight.detach().flatten(1).abs().amax(1).clamp_min(1e-6)
        return torch.floor(torch.log2(WEIGHT_MAX / peak)).clamp(0, SHIFT_MAX)

    def forward(self, x: Tensor, quantise: bool = True) -> Tensor:
        """X [B,I,h,w] -> [B,O,h,w]. Without `quantise` nothing is rounded."""
        weight: Tensor = self.weight
        bias = self.bias
        if quantise:
            unit = torch.exp2(self.shifts())[:, None, None, None]
            weight = (
                round_through((weight * unit).clamp(-WEIGHT_MAX - 0.49, WEIGHT_MAX + 0.49)) / unit
            )
        if self.pad:
            x = pad_edges(x)
        if not (quantise and self.narrow):
            with torch.autocast(x.device.type, enabled=False):
                out = F.conv2d(x, weight, bias)
            return round_through(out) if quantise else out
        return round_through(F.conv2d(x, weight, bias).float())


def predict_linear(v: Tensor, weight: Tensor) -> Tensor:
    """3x3 prediction from v [B,I,h,w], which holds more digits than bfloat16 can."""
    with torch.autocast(v.device.type, enabled=False):
        return F.conv2d(pad_edges(v), weight)


def activation(x: Tensor) -> Tensor:
    """ReLU, clamped to the range of uint8."""
    return x.clamp(0, 255)


@dataclass
class Coded:
    """The coded latent y, and what it costs. All are [B,C,h,w]."""

    latent: Tensor  # dequantised latent on the 255 scale
    bits: Tensor  # bits of each symbol, differentiable
    symbols: Tensor
    index: Tensor  # table index before it is rounded


class LogisticBits(torch.autograd.Function):
    """-log2 P(s) of a discretised logistic.

    The value and the gradient by scale are those of the symbol that is coded. The gradient by
    position is that of the unrounded position plus uniform noise: the expected change of bits.
    """

    @staticmethod
    def forward(ctx: Any, symbol: Tensor, position: Tensor, scale: Tensor) -> Tensor:
        """Bits of each symbol. The position matters for the gradient only."""
        inverse = 1.0 / scale
        ctx.save_for_backward(symbol, position, inverse)
        low = -(symbol.abs() - 0.5) * inverse
        high = -(symbol.abs() + 0.5) * inverse
        # P = sigmoid(low) - sigmoid(high), in a form without cancellation in the tail.
        log_p = F.logsigmoid(low) + F.logsigmoid(-high) + torch.log(-torch.expm1(-inverse))
        return -log_p / math.log(2.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        """Gradients by position and scale."""
        symbol, position, inverse = ctx.saved_tensors
        size = symbol.abs()
        low = (size - 0.5) * inverse
        high = (size + 0.5) * inverse
        # d(-log P)/d(inverse) in nats
        e = torch.exp(-inverse)
        d_inverse = (
            (size - 0.5) * torch.sigmoid(low)
            - (size + 0.5) * (1 - torch.sigmoid(high))
            - e / (1 - e).clamp_min(1e-12)
        )
        d_scale = -d_inverse * inverse * inverse
        p = position
        d_position = inverse * (
            torch.sigmoid((p - 0.5) * inverse) - torch.sigmoid(-(p + 0.5) * inverse)
        )
        norm = grad / math.log(2.0)
        return None, norm * d_position, norm * d_scale


def logistic_bits(symbol: Tensor, position: Tensor, scale: Tensor, noise: bool) -> Tensor:
    """Bits of integer symbols in a logistic of this scale (in steps), all of one shape.

    position is the symbol before rounding; only the gradient depends on it. With `noise`, as in
    training, it gets uniform noise.
    """
    if noise:
        position = position + (torch.rand_like(position) - 0.5)
    # Not all versions of torch declare the types of `apply`.
    apply: Callable[..., Tensor] = LogisticBits.apply
    return apply(symbol, position, scale)


def step_to_zero_bits(index: Tensor) -> Tensor:
    """Bits saved by coding 0 in place of 1 or -1, by table index: log2(P(0) / P(1))."""
    inverse = 1.0 / table_scale(index)
    p0 = torch.tanh(inverse / 4)
    p1 = torch.sigmoid(-0.5 * inverse) - torch.sigmoid(-1.5 * inverse)
    return torch.log2(p0 / p1.clamp_min(2.0**-13))


class EntropyModel(nn.Module):
    """Hyper-synthesis and context networks: from z to the symbols of y."""

    sites: Tensor
    order: Tensor
    aligned: Tensor

    def __init__(
        self, latent: int, hyper: int, width: int, linear: int, near_luma: int, rotate: bool
    ) -> None:
        super().__init__()
        self.latent, self.hyper, self.width, self.linear = latent, hyper, width, linear
        sites = torch.from_numpy(step_sites(latent, rotate))
        self.register_buffer("sites", sites, persistent=False)
        self.register_buffer("order", torch.argsort(sites.flatten()), persistent=False)
        # The log of the quantiser step on the 255 scale, and the table index in an empty context.
        self.log_step = RateTable(latent)
        self.base = RateTable(latent)
        self.base_pass = nn.Parameter(torch.zeros(SPATIAL_STEPS, latent))
        self.hyper_log_step = RateTable(hyper)
        self.hyper_index = RateTable(hyper)
        # From z to features at 1/32, and from z to linear prediction.
        self.hyper_rise = IntegerConv(hyper, 4 * width, 3, gain=0.5)
        self.hyper_linear = nn.Conv2d(hyper, SPATIAL_STEPS * linear * 4, 3, bias=False)
        nn.init.zeros_(self.hyper_linear.weight)
        self.start = RateTable(width, value=8.0)
        # Modes: those of a cell's first two sites, those of the other two given the first, and
        # what all four add to the features.
        self.mode_scores = nn.ModuleList(
            [IntegerConv(width, 2 * NODES, 1, gain=0.05) for _ in range(2)]
        )
        self.mode_base = RateTable(NODES)
        self.mode_merge = nn.ModuleList(
            [IntegerConv(width + 2 * n * MODES, width, 3, narrow=True) for n in (1, 2)]
        )
        self.base_mode = nn.Parameter(torch.zeros(MODES, latent))
        aligned = torch.ones(MODES, linear)
        aligned[1:, 1:near_luma] = 0
        self.register_buffer("aligned", aligned, persistent=False)
        high_freq = latent - linear
        joined = [2 * linear if group.low_freq else high_freq for group in SCHEDULE[:-1]]
        self.merge = nn.ModuleList(
            [IntegerConv(width + more, width, 3, narrow=True) for more in joined]
        )
        self.think = nn.ModuleList([IntegerConv(width, width, 3, narrow=True) for _ in SCHEDULE])
        self.scales = nn.ModuleList(
            [
                IntegerConv(width, linear if group.low_freq else high_freq, 1, gain=0.05)
                for group in SCHEDULE
            ]
        )
        self.means = nn.ModuleList(
            [IntegerConv(width, linear, 1, gain=0.02) for _ in range(SPATIAL_STEPS)]
        )
        self.predict = nn.ModuleList(
            [nn.Conv2d(p * linear, linear, 3, bias=False) for p in range(1, SPATIAL_STEPS)]
        )
        for predictor in self.predict:
            assert isinstance(predictor, nn.Conv2d)
            nn.init.zeros_(predictor.weight)
        # False turns off rounding, to measure what rounding costs.
        self.quantise = True

    def round(self, x: Tensor) -> Tensor:
        """`round_through`, or x itself where `quantise` is False."""
        return round_through(x) if self.quantise else x

    def steps(self, rate: Tensor) -> Tensor:
        """Quantiser steps of y [B,C,1,1] on the 255 scale."""
        return torch.exp(self.log_step(rate))[:, :, None, None]

    def hyper_steps(self, rate: Tensor) -> Tensor:
        """Quantiser steps of z [B,Z,1,1] on the 255 scale."""
        return torch.exp(self.hyper_log_step(rate))[:, :, None, None]

    def spread_modes(self, table: Tensor, modes: Tensor) -> Tensor:
        """The rows of table [MODES,n] that belong to modes [B,2h,2w], by cells: [B,4n,h,w]."""
        with torch.autocast(table.device.type, enabled=False):
            return pixel_unshuffle(mix(one_hot(modes, MODES).to(table.dtype), table.t()), 2)

    def code_hyper(self, z: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """The symbols and bits of z [B,Z,h,w], which is on the 255 scale."""
        position = z / self.hyper_steps(rate)
        symbol = round_through(position)
        index = self.hyper_index(rate)[:, :, None, None].clamp(1, TABLES - 1)
        scale = table_scale(index).expand_as(position)
        bits = logistic_bits(symbol.detach(), position, scale, self.training)
        return symbol, bits

    def first_features(self, z_symbol: Tensor, rate: Tensor) -> Tensor:
        """The features [B,W,h,w] at 1/32 that follow from the hyper-latent."""
        z_shaped = compand(z_symbol * FRACTION, self.quantise)
        features = pixel_shuffle(self.hyper_rise(z_shaped, self.quantise), 2)
        return activation(features + self.round(self.start(rate))[:, :, None, None])

    def code_modes(
        self, features: Tensor, costs: Tensor, rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose and code a mode for each block.

        costs [B,K,2h,2w] are the bits of a block in each mode, without the bits of the mode itself:
        those are added here. Returns the modes [B,2h,2w], the features with the modes merged in
        [B,W,h,w], and the bits of the modes [B].
        """
        base = self.round(self.mode_base(rate) * FRACTION).repeat(1, 2)[:, :, None, None]
        known = features
        bits = torch.zeros(len(costs), device=costs.device)
        cost_cells = pixel_unshuffle(costs, 2).unflatten(1, (MODES, 4))
        chosen: list[Tensor] = []
        hot: list[Tensor] = []
        for half in range(MODE_HALVES):
            score = self.mode_scores[half](known, self.quantise) + base
            index = (score / FRACTION).clamp(0, FLAG_TABLES - 1)
            each = mode_bits(self.round(index).unflatten(1, (2, NODES)).transpose(1, 2))
            sites = [cost_cells[:, :, site] for site in sites_of_half(half)]
            mode = (each.detach() + torch.stack(sites, 2)).argmin(1)
            bits = bits + each.gather(1, mode[:, None]).sum((1, 2, 3, 4))
            chosen += mode.unbind(1)
            hot += [one_hot(one, MODES) * MODE_INPUT for one in mode.unbind(1)]
            merged = torch.cat([features, *hot], 1)
            known = activation(self.mode_merge[half](merged, self.quantise))
        modes = torch.stack([chosen[SITE_ORDER.index(site)] for site in range(4)], 1)
        return pixel_shuffle(modes, 2)[:, 0], known, bits

    @torch.no_grad()
    def choose(
        self, position: Tensor, table: Tensor, lambda_symbol: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Symbols for positions in steps, and the same with 0 where table 0 codes nothing.

        A symbol is lowered by one where that saves more bits than it costs in distortion.
        lambda_symbol is twice what a squared error of one step is worth, in bits.
        """
        lift = step_to_zero_bits(table.clamp_min(0.5)) / lambda_symbol
        size = position.abs()
        symbol = torch.sign(position) * torch.floor(size + 0.5 - lift.clamp(0, DEADZONE_MAX))
        symbol = torch.where(size < 0.5, torch.zeros_like(symbol), symbol)
        return symbol, torch.where(table < 0.5, torch.zeros_like(symbol), symbol)

    def forward(
        self,
        y: Tensor,
        modes: Tensor,
        features: Tensor,
        z_symbol: Tensor,
        rate: Tensor,
        lambda_error: Tensor,
        symbols: Tensor | None = None,
    ) -> Coded:
        """Code y [B,C,h,w] given its modes [B,h,w], features [B,W,h/2,w/2] and the symbols of z.

        lambda_error [B] is what a unit of squared error of the latent is worth in bits: lambda / 3
        on the 255 scale. Float32 whatever autocast does.

        If `symbols` [B,C,h,w] are given, they are coded as they are. Their gradients are then what
        they do to the latent and to the bits of other symbols, not to their own bits.
        """
        batch, channels, height, width_y = y.shape
        cells = pixel_unshuffle(y, 2)
        given = None if symbols is None else pixel_unshuffle(symbols, 2)
        step = self.steps(rate)
        z_dequantised = z_symbol * self.hyper_steps(rate) * FRACTION
        from_z = predict_linear(z_dequantised, self.hyper_linear.weight)
        linear_from_z = pixel_shuffle(from_z, 2).chunk(SPATIAL_STEPS, 1)
        offset = self.spread_modes(self.round(self.base_mode * FRACTION), modes)
        aligned = self.spread_modes(self.aligned, modes)
        base = self.base(rate)
        lambda_symbol = 2.0 * lambda_error[:, None, None, None] * step.detach() ** 2

        known_v: list[Tensor] = []
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        q = y
        for group in SCHEDULE:
            number, p, low_freq = group
            mine = slice(self.linear) if low_freq else slice(self.linear, None)
            sites = self.sites[p, mine]
            if number:
                shaped = compand(q, self.quantise)
                seen = [shaped.abs()] if low_freq else [shaped, shaped.abs()]
                merged = torch.cat([features, *seen], 1)
                features = activation(self.merge[number - 1](merged, self.quantise))
            deep = activation(self.think[number](features, self.quantise))
            empty = (base + self.base_pass[p])[:, mine] * FRACTION
            index = self.scales[number](deep, self.quantise) + offset.index_select(1, sites)
            index = index + self.round(empty)[:, :, None, None]
            index = (index / FRACTION).clamp(0, TABLES - 1)
            mean: Tensor | float = 0.0
            if low_freq:
                linear = linear_from_z[p]
                if p:
                    predictor = self.predict[p - 1]
                    assert isinstance(predictor, nn.Conv2d)
                    linear = linear + predict_linear(torch.cat(known_v, 1), predictor.weight)
                same = aligned.index_select(1, sites)
                mean = self.round(linear / step[:, mine]) * same
                mean = mean + self.means[p](deep, self.quantise).clamp(
                    -DEEP_MEAN_MAX, DEEP_MEAN_MAX
                )

            coded = self.round(index)
            position = cells.index_select(1, sites) / step[:, mine] - mean / FRACTION
            if given is None:
                symbol, kept = self.choose(position, coded, lambda_symbol[:, mine])
                through = position + (kept - position).detach()
            else:
                symbol = given[:, sites].detach()
                kept = through = given[:, sites]
                mean = mean.detach() if isinstance(mean, Tensor) else mean
            scale = table_scale(coded.clamp_min(0.5))
            bits = logistic_bits(symbol, position, scale, self.training)
            if not self.training:
                # Table 0 codes nothing. Training counts its bits all the same, or else a table
                # index that has fallen to 0 would never rise again.
                bits = bits * (coded >= 0.5)
            q = through * FRACTION + mean
            dequantised = q * step[:, mine]
            if low_freq:
                known_v.append(dequantised * same)
            parts.append((dequantised / FRACTION, bits, kept, index))

        def gather(k: int) -> Tensor:
            flat = torch.cat([part[k] for part in parts], 1)
            return pixel_shuffle(flat.index_select(1, self.order), 2)

        return Coded(gather(0), gather(1), gather(2), gather(3))
