"""The entropy model in its training form: integer arithmetic simulated in float32.

What is simulated here is defined to the bit in formats/model.md and carried out by
`integer.py`; the names agree. All activations are integers from the start (rounded with a
straight-through gradient), weights are rounded to int8 with a power-of-two scale per output
channel, so that training sees what decoding will do.

The order of coding, by cells, spatial steps and symbol groups, stands in schedule.py.

A mode (one for each site, see transforms.BlockTransform) is three binary symbols, most significant
bit first. Each has a table of its own kind (a flag table) that a network picks for every node of
the tree.

Channels after a mode's rotation mean different things in different modes. Linear prediction is
used where they mean the same: in mode 0, in the first channel and in chroma ("aligned").

Units: a symbol is an integer s; the quantised latent is q = 16 s + m (sixteenths of a step) with m
the predicted mean; v = q * step (sixteenths of the 255-scale unit) feeds the linear predictor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.model.layers import RateTable, mix, one_hot, pixel_shuffle, pixel_unshuffle
from mvmic_codec.model.schedule import (
    MODE_HALVES,
    SCHEDULE,
    SITE_ORDER,
    SPATIAL_STEPS,
    sites_of_half,
)

FRACTION = 16  # q and m are in sixteenths
TABLES = 64  # table 0 is "not coded"
SCALE_MIN = 0.07  # logistic scale of table 1, in steps
SCALE_MAX = 70.0
LOG_RATIO = math.log(SCALE_MAX / SCALE_MIN) / (TABLES - 2)
COMPANDED_MAX = 127
SHIFT_MAX = 14  # of the weights of a layer
WEIGHT_MAX = 127  # of an int8 weight in magnitude, so that every weight has its negative
DEEP_MEAN_MAX = 127  # of what the context networks add to m, in sixteenths
# A symbol may be lowered by one where that saves bits, if it lies at most this much above the
# rounding threshold: so 1.1 steps and more never become 0. Training and encoder do the same.
DEADZONE_MAX = 0.6
MODE_DEPTH = 3  # bits of a mode
MODES = 1 << MODE_DEPTH
NODES = MODES - 1  # of the tree that codes a mode
FLAG_TABLES = 32  # tables of the mode's bits, after the others
FLAG_LOGIT = 0.4  # distance of two flag tables, in nats
SECOND = TABLES + FLAG_TABLES - 1  # from a table to that of the second quantiser
SPACING = 12  # of the levels of y in a file, in sixteenths of a step: two quantisers share them
MODE_INPUT = 32  # what a one stands for where modes enter a network


def table_scale(index: Tensor) -> Tensor:
    """Logistic scale in steps of a (fractional) table index; index 1 is SCALE_MIN."""
    return SCALE_MIN * torch.exp((index - 1.0) * LOG_RATIO)


def step_sites(channels: int, rotate: bool = True) -> Tensor:
    """[SPATIAL_STEPS, channels] index into the 4*channels planes of pixel_unshuffle(y, 2)."""
    channel = torch.arange(channels)
    turn = channel % 4 if rotate else torch.zeros_like(channel)
    order = torch.tensor(SITE_ORDER)
    return torch.stack([channel * 4 + order[(p + turn) % 4] for p in range(SPATIAL_STEPS)])


def flag_logit(index: Tensor) -> Tensor:
    """Log odds of a one by (fractional) flag table index, 0 to FLAG_TABLES - 1."""
    return (index - (FLAG_TABLES - 1) / 2) * FLAG_LOGIT


def mode_path(modes: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes of the tree and bits on the way to each mode, stacked first: [MODE_DEPTH, ...]."""
    nodes = torch.stack([2**d - 1 + (modes >> (MODE_DEPTH - d)) for d in range(MODE_DEPTH)])
    bits = torch.stack([modes >> (MODE_DEPTH - 1 - d) & 1 for d in range(MODE_DEPTH)])
    return nodes, bits


def mode_bits(index: Tensor) -> Tensor:
    """Bits of every mode [B,MODES,...] by the flag tables of the nodes [B,NODES,...]."""
    logits = flag_logit(index)
    nodes, bits = mode_path(torch.arange(MODES, device=index.device))
    picked = logits[:, nodes.t().flatten()].unflatten(1, (MODES, MODE_DEPTH))
    sign = (1.0 - 2.0 * bits.t()).reshape(1, MODES, MODE_DEPTH, *[1] * (index.dim() - 2))
    return F.softplus(picked * sign).sum(2) / math.log(2.0)


def round_through(x: Tensor) -> Tensor:
    """Round half up, gradient of the identity."""
    return x + (torch.floor(x + 0.5) - x).detach()


def compand(q: Tensor, quantise: bool = True) -> Tensor:
    """sign(q) * round(32 log2(1 + |q| / 16)), at most 127 in magnitude."""
    value = 32.0 / math.log(2.0) * torch.log1p(q.abs() / FRACTION)
    value = (torch.sign(q) * value).clamp(-COMPANDED_MAX, COMPANDED_MAX)
    return round_through(value) if quantise else value


def pad_edges(x: Tensor) -> Tensor:
    """[B,C,h,w] -> [B,C,h+2,w+2], the values at the border repeated."""
    if torch.compiler.is_compiling():
        # Compilers know little of the backward of the function for this.
        x = torch.cat((x[:, :, :1], x, x[:, :, -1:]), 2)
        return torch.cat((x[:, :, :, :1], x, x[:, :, :, -1:]), 3)
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


class IntegerConv(nn.Module):
    """A convolution whose weights are int8 times 2^-shift (shift per output channel).

    Inputs and outputs are integers held in float; replicate padding. The output is rounded, not
    clamped. With `narrow` it may run in bfloat16 under autocast, which holds every input and weight
    exactly and every output up to 256.
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
        """The largest shift in 0..14 that keeps each row's weights within int8."""
        peak = self.weight.detach().flatten(1).abs().amax(1).clamp_min(1e-6)
        return torch.floor(torch.log2(WEIGHT_MAX / peak)).clamp(0, SHIFT_MAX)

    def forward(self, x: Tensor, quantise: bool = True) -> Tensor:
        """X [B,I,h,w] -> [B,O,h,w]; without `quantise` the float twin."""
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


def predict_linear(levels: Tensor, weight: Tensor) -> Tensor:
    """3x3 prediction from quantised latents; these need more than bfloat16 can hold."""
    with torch.autocast(levels.device.type, enabled=False):
        return F.conv2d(pad_edges(levels), weight)


def activation(x: Tensor) -> Tensor:
    """ReLU onto the range of uint8."""
    return x.clamp(0, 255)


@dataclass
class Coded:
    """What a pass of the entropy model says of one tensor of symbols (all [B,C,h,w])."""

    latent: Tensor  # quantised latent, 255 scale
    bits: Tensor  # of each symbol, differentiable
    symbols: Tensor
    index: Tensor  # fractional table index before rounding


class LogisticBits(torch.autograd.Function):
    """-log2 P(s) of a discretised logistic.

    Value and gradient by scale are taken at the symbol that will really be coded; the gradient by
    position is taken at the unrounded position plus uniform noise, where it is the expected change
    of bits.
    """

    @staticmethod
    def forward(ctx: Any, symbol: Tensor, position: Tensor, scale: Tensor) -> Tensor:
        """Bits, by position only through the gradient."""
        inverse = 1.0 / scale
        ctx.save_for_backward(symbol, position, inverse)
        low = -(symbol.abs() - 0.5) * inverse
        high = -(symbol.abs() + 0.5) * inverse
        # P = sigmoid(low) - sigmoid(high), by a form that does not cancel in the tail
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
    """Bits of integer `symbol`; `position` is its unrounded twin (for the gradient).

    The gradient by position is taken with uniform noise in training.
    """
    if noise:
        position = position + (torch.rand_like(position) - 0.5)
    # Some versions of torch give `apply` no types.
    apply: Callable[..., Tensor] = LogisticBits.apply
    return apply(symbol, position, scale)


def step_to_zero_bits(index: Tensor) -> Tensor:
    """Bits saved by coding 0 in place of +-1, by table index: log2(P(0) / P(1))."""
    inverse = 1.0 / table_scale(index)
    p0 = torch.tanh(inverse / 4)
    p1 = torch.sigmoid(-0.5 * inverse) - torch.sigmoid(-1.5 * inverse)
    return torch.log2(p0 / p1.clamp_min(2.0**-13))


class EntropyModel(nn.Module):
    """Hyper-synthesis and context passes: from z to the symbols of y."""

    sites: Tensor
    order: Tensor
    aligned: Tensor

    def __init__(
        self, latent: int, hyper: int, width: int, linear: int, near_luma: int, rotate: bool
    ) -> None:
        super().__init__()
        self.latent, self.hyper, self.width, self.linear = latent, hyper, width, linear
        sites = step_sites(latent, rotate)
        self.register_buffer("sites", sites, persistent=False)
        self.register_buffer("order", torch.argsort(sites.flatten()), persistent=False)
        # log of the quantiser step on the 255 scale, and the table index of an empty context
        self.log_step = RateTable(latent)
        self.base = RateTable(latent)
        self.base_pass = nn.Parameter(torch.zeros(SPATIAL_STEPS, latent))
        self.hyper_log_step = RateTable(hyper)
        self.hyper_index = RateTable(hyper)
        # z -> features at 1/32 and z -> linear prediction
        self.hyper_rise = IntegerConv(hyper, 4 * width, 3, gain=0.5)
        self.hyper_linear = nn.Conv2d(hyper, SPATIAL_STEPS * linear * 4, 3, bias=False)
        nn.init.zeros_(self.hyper_linear.weight)
        self.start = RateTable(width, value=8.0)
        # Modes: of the first two sites of a cell, of the other two given these, and what all
        # of them say of the latent.
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
        # False gives the float twin: the same network without rounding, to measure what that costs
        self.quantise = True

    def round(self, x: Tensor) -> Tensor:
        """`round_through`, or nothing in the float twin."""
        return round_through(x) if self.quantise else x

    def steps(self, rate: Tensor) -> Tensor:
        """Quantiser steps of y [B,C,1,1] on the 255 scale."""
        return torch.exp(self.log_step(rate))[:, :, None, None]

    def hyper_steps(self, rate: Tensor) -> Tensor:
        """Quantiser steps of z [B,Z,1,1] on the 255 scale."""
        return torch.exp(self.hyper_log_step(rate))[:, :, None, None]

    def spread_modes(self, table: Tensor, modes: Tensor) -> Tensor:
        """Rows of table [MODES,n] for modes [B,2h,2w], as cells [B,4n,h,w]."""
        with torch.autocast(table.device.type, enabled=False):
            return pixel_unshuffle(mix(one_hot(modes, MODES).to(table.dtype), table.t()), 2)

    def code_hyper(self, z: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols and bits of z [B,Z,h,w] (255 scale)."""
        position = z / self.hyper_steps(rate)
        symbol = round_through(position)
        index = self.hyper_index(rate)[:, :, None, None].clamp(1, TABLES - 1)
        scale = table_scale(index).expand_as(position)
        bits = logistic_bits(symbol.detach(), position, scale, self.training)
        return symbol, bits

    def first_features(self, z_symbol: Tensor, rate: Tensor) -> Tensor:
        """What the hyper-latent says [B,W,h,w], at 1/32."""
        z_shaped = compand(z_symbol * FRACTION, self.quantise)
        features = pixel_shuffle(self.hyper_rise(z_shaped, self.quantise), 2)
        return activation(features + self.round(self.start(rate))[:, :, None, None])

    def code_modes(
        self, features: Tensor, costs: Tensor, rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose and code a mode for each block.

        costs [B,K,2h,2w] of each mode without its own bits, which are added here. Returns modes
        [B,2h,2w], features that know them, and their bits [B].
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
        """Symbols for positions in steps, and those of them that are coded: table 0 codes none.

        A symbol is lowered when that saves more bits than it costs in distortion; price is what its
        squared error in steps costs in bits, twice.
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
        """Code y given its modes [B,h,w], the features that know them and the symbols of z.

        Float32 whatever autocast does.

        weight [B]: lambda * 255^2 / 3 in units where the squared error of a latent is one.

        With `symbols` [B,C,h,w] these are coded, and gradients by them are what they do to the
        latent and to the bits of others, not to their own.
        """
        batch, channels, height, width_y = y.shape
        cells = pixel_unshuffle(y, 2)
        given = None if symbols is None else pixel_unshuffle(symbols, 2)
        step = self.steps(rate)
        z_level = z_symbol * self.hyper_steps(rate) * FRACTION
        from_z = predict_linear(z_level, self.hyper_linear.weight)
        linear_from_z = pixel_shuffle(from_z, 2).chunk(SPATIAL_STEPS, 1)
        offset = self.spread_modes(self.round(self.base_mode * FRACTION), modes)
        aligned = self.spread_modes(self.aligned, modes)
        base = self.base(rate)
        lambda_symbol = 2.0 * lambda_error[:, None, None, None] * step.detach() ** 2

        levels: list[Tensor] = []
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
                    linear = linear + predict_linear(torch.cat(levels, 1), predictor.weight)
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
                # Nothing is coded at table 0. In training its bits are charged all the same:
                # else a table that has fallen to 0 would never rise again.
                bits = bits * (coded >= 0.5)
            q = through * FRACTION + mean
            level = q * step[:, mine]
            if low_freq:
                levels.append(level * same)
            parts.append((level / FRACTION, bits, kept, index))

        def gather(k: int) -> Tensor:
            flat = torch.cat([part[k] for part in parts], 1)
            return pixel_shuffle(flat.index_select(1, self.order), 2)

        return Coded(gather(0), gather(1), gather(2), gather(3))
