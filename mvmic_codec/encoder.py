"""Planes -> symbols: the choices of an encoder, of which a decoder knows nothing.

The modes of blocks are chosen twice. Symbols have no tables before modes are known, so the first
choice is by a rule of thumb (`transforms.mode_costs`). It gives every coefficient a table and a
mean; the second choice is by what the coefficients of each mode would take there.

Between the two, where symbols are fine, they get another aim than the coefficients that analysis
gives. Synthesis has learned to undo what coding does, and does so to what was hardly coded as well:
the aim lies nearer to what it would make the picture of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from . import trellis
from .analysed import Analysed
from .grid import UNIT, sites_coded, to_int16, to_uint8
from .nets.entropy import (
    FRACTION,
    MODE_DEPTH,
    MODES,
    SECOND,
    SITE_ORDER,
    SPACING,
    TABLES,
    mode_bits,
    step_to_zero_bits,
)
from .nets.integer import STEP_BITS, walk_modes
from .nets.release import BFLOAT16_FROM, Release
from .nets.transforms import (
    AREA,
    block_dct,
    filter_borders,
    restore_colour,
    rotate_colour,
    rows_of,
    shuffle,
    unshuffle,
)
from .rate import lambda_of
from .symbols import Pass

SYMBOL_MAX = 32767
DEADZONE_MAX = 0.6

# What the rule of thumb leaves out of a block: its mean, and the smoothness of what is smooth.
SITE_BITS = 2.0
# What a block in any mode but 0 costs its neighbours, which can then predict less from it.
NEIGHBOUR_BITS = 8.0
# A mode that the rule of thumb says to cost more than the best by this share gets no second look.
SECOND_LOOK = 0.25
# The least rate index with another aim, and how far that goes, by rate index, towards the
# coefficients that synthesis makes the picture of: all the way would cost as much as it gains.
AIM_FROM = 27
AIM_SHARE = 1 / 96
# Blocks whose costs are computed anew at least.
FEW = 64


@dataclass
class Run:
    """What one run of the entropy model gave."""

    passes: list[Pass]
    modes: Tensor  # [1,h,w] at 1/16
    latent: Tensor  # [1,C,h,w], what decoders make of the symbols, on the 255 scale
    aim: Tensor  # [1,256P,h,w], the coefficients that symbols come as near to as pays
    # Of each coefficient of y, [C,h,w]:
    score: Tensor  # its table before the mode adds its part, in sixteenths
    mean: Tensor  # in sixteenths of a step
    predicted: Tensor  # what linear prediction gives of that in mode 0
    coded: Tensor  # what its symbol stands for, in sixteenths of a step


class Encoder:
    """Planes [C,H,W] in 0..1 at a rate index; hidden [H,W] as for `grid.sites_coded`.

    like: of another version of the same image, at the same rate. What is the same there is not
    computed again.
    """

    def __init__(
        self,
        release: Release,
        planes: npt.NDArray[np.float32],
        rate: int,
        hidden: npt.NDArray[np.bool_] | None = None,
        like: Encoder | None = None,
    ) -> None:
        self.release, self.rate, self.like = release, rate, like
        entropy = release.entropy
        padded = pad_to_unit(torch.from_numpy(np.ascontiguousarray(planes)).to(release.device))
        self.rates = torch.tensor([rate], device=release.device)
        self.seen = np.ones(planes.shape[1:], np.bool_) if hidden is None else ~hidden
        self.inside = sites_coded(release, planes.shape[1:], hidden)
        self.rotated = rotate_colour(padded[None])
        with self.branches():
            analysed = Analysed(
                release.analysis, self.rotated, self.rates, like.analysed if like else None
            )
        self.coefficients = analysed.coefficients
        # What lies between takes much memory; versions are compared with the first one only.
        self.analysed = None if like else analysed
        self.step = entropy.step[rate] / 2**STEP_BITS
        # What a symbol's squared error costs in bits, twice; see the training loss.
        self.price = 2.0 * lambda_of(rate) / 3.0 * self.step**2
        # Bits saved by coding 0 in place of 1, by table.
        tables = torch.arange(TABLES, device=release.device, dtype=torch.float64)
        self.saving = step_to_zero_bits(tables.clamp_min(0.5))
        self.bits = release.bits.cpu().numpy()

    def branches(self) -> AbstractContextManager[object]:
        """Around analysis or synthesis, in bfloat16 as `Release.branches` where rates allow it."""
        return nullcontext() if self.rate < BFLOAT16_FROM else self.release.branches()

    @cached_property
    def shown(self) -> Tensor:
        """Of the padded planes [H,W], 1 where somebody will see what is decoded, else 0."""
        height, width = self.seen.shape
        shown = torch.zeros(self.rotated.shape[2:], device=self.release.device)
        shown[:height, :width] = torch.from_numpy(self.seen).to(shown)
        return shown

    @cached_property
    def hyper_positions(self) -> Tensor:
        """The hyper-latent [1,Z,h,w] at 1/64 before it is rounded, in steps, in float64."""
        release = self.release
        z = release.hyper_analysis(self.coefficients, release.analysis.spread, self.rates)
        step = release.entropy.hyper_step[self.rate][:, None, None] / 2**STEP_BITS
        positions: Tensor = z.double() / step
        return positions

    @cached_property
    def hyper(self) -> tuple[Tensor, list[Pass]]:
        """The hyper-latent [1,Z,h,w] in sixteenths of a step, in float64, and its passes."""
        passes: list[Pass] = []

        def choose(index: Tensor, mean: Tensor) -> Tensor:
            nearest = torch.round(self.hyper_positions - mean / FRACTION) * (index > 0)
            symbols = nearest.clamp(-SYMBOL_MAX, SYMBOL_MAX)
            passes.append(Pass(to_int16(symbols), to_uint8(index)))
            return symbols

        rows, columns = self.hyper_positions.shape[2:]
        return self.release.entropy.code_hyper(self.rate, rows, columns, choose), passes

    @property
    def z(self) -> Tensor:
        """The hyper-latent of `hyper`."""
        return self.hyper[0]

    @cached_property
    def rough_costs(self) -> Tensor:
        """What each block costs in each mode [1,K,h,w] by the rule of thumb."""
        weight = torch.tensor([lambda_of(self.rate) / 3.0], device=self.release.device)
        steps = self.step.float()[None, :, None, None]
        costs = self.release.blocks.costs
        if self.like is None:
            return costs(self.coefficients, steps, weight)
        differ = (self.coefficients != self.like.coefficients).any(1)[0]
        # As many as a product of matrices takes as such.
        differ.flatten()[:FEW] = True
        out = self.like.rough_costs.clone()
        out[:, :, differ] = costs(self.coefficients[:, :, None, differ], steps, weight)[:, :, 0]
        return out

    def rough_cost(self) -> float:
        """The sum of the least of these, and a little for each block."""
        least = self.rough_costs.amin(1) + SITE_BITS
        return float(least[:, self.inside].sum())

    def second_run(self) -> Run:
        """What the encoder does unless more effort is asked for."""
        first = self.run(self.rough_costs)
        aim = self.coefficients if self.rate < AIM_FROM else self.inverse_aim(first.modes)
        return self.run(self.costs_after(first, aim), aim)

    def inverse_aim(self, modes: Tensor) -> Tensor:
        """Coefficients [1,256P,h,w] nearer to what synthesis would make the picture of."""
        release = self.release
        with self.branches():
            out = release.synthesis(self.coefficients, modes, self.rates)
        lost = self.rotated - rotate_colour(restore_colour(out).clamp(0, 1))
        step = block_dct(filter_borders(lost * self.shown, release.analysis.borders))
        aim: Tensor = self.coefficients + AIM_SHARE * self.rate * step
        return aim

    def costs_after(self, run: Run, aim: Tensor | None = None) -> Tensor:
        """As `rough_costs`, by the bits of whole steps, if the networks' sums were those of `run`.

        Infinite for modes that are far too dear by the rule of thumb, except those of `run`. aim
        [1,256P,h,w] are the coefficients that symbols should come near to, those of analysis if
        None.

        The first channel is left out: all modes share its coefficient, and nearly its bits. What
        the networks would make of other neighbours is not known; NEIGHBOUR_BITS stands for it.
        """
        entropy, blocks = self.release.entropy, self.release.blocks
        luma = torch.nonzero(self.release.shape.is_luma())[:, 0].to(self.release.device)
        # Only the first channels have means.
        near = luma[luma < entropy.linear]
        aligned = entropy.aligned[:, near].float()
        base = entropy.base_mode[:, luma].float() / FRACTION
        step, price = self.step[luma].float(), self.price[luma].float()
        modes = run.modes.flatten()
        rows = rows_of((self.coefficients if aim is None else aim)[:, :AREA])
        # Without what belongs to the mode of that run.
        score = rows_of(run.score[None, luma].float()) / FRACTION
        # A block outside of the image is not coded.
        score[~self.inside.flatten()] = -TABLES
        mean, predicted = (rows_of(x[None, near].float()) for x in (run.mean, run.predicted))
        mean = mean - predicted * aligned[modes]
        rough = self.rough_costs
        worth = rough <= (1 + SECOND_LOOK) * rough.amin(1, keepdim=True)
        worth.scatter_(1, run.modes[:, None], True)
        costs = torch.full((MODES, len(rows)), math.inf, device=rows.device)
        for k in range(MODES):
            looked = torch.nonzero(worth[0, k].flatten())[:, 0]
            position = F.linear(rows[looked], blocks.luma[k] / step[:, None])
            position[:, : len(near)] -= (mean[looked] + predicted[looked] * aligned[k]) / FRACTION
            position[:, 0] = 0.0
            # As if nothing were coded, which is so for nearly all; then what coding changes.
            cost = position.square() @ (price / 2)
            table = score[looked] + base[k]
            table[:, 0] = 0.0
            coded = torch.nonzero(table.flatten() >= 0.5)[:, 0]
            size, dear = position.flatten()[coded].abs_(), price[coded % AREA]
            of_table = torch.floor(table.flatten()[coded] + 0.5).clamp(max=TABLES - 1).long()
            level = self.level(size, of_table, dear)
            bits = self.release.symbol_bits(of_table, level.long())
            saved = size.square() - (size - level).square()
            costs[k, looked] = cost.index_add_(0, coded // AREA, bits - dear / 2 * saved)
        out = costs.reshape(1, MODES, *run.modes.shape[1:])
        out[:, 1:] += NEIGHBOUR_BITS
        return out

    def level(self, size: Tensor, table: Tensor, price: Tensor) -> Tensor:
        """Round magnitudes, lowering where that saves more bits than its distortion is worth."""
        lift = (self.saving.to(price)[table] / price).clamp(0, DEADZONE_MAX)
        level: Tensor = torch.floor(size + 0.5 - lift) * (size >= 0.5)
        return level

    def quantise(self, position: Tensor, table: Tensor, price: Tensor) -> Tensor:
        """Symbols of the coded places of a part, all flat and in order: those that cost least."""
        symbols = trellis.quantise(
            position.double().cpu().numpy(),
            to_uint8(table),
            price.double().cpu().numpy(),
            self.bits,
            SPACING / FRACTION,
            SECOND,
        )
        return torch.from_numpy(symbols).to(position)

    def run(self, costs: Tensor, aim: Tensor | None = None) -> Run:
        """Code with the modes of least cost [1,K,h,w], their own bits included.

        Symbols come as near as pays to `aim`, as for `costs_after`.
        """
        release, entropy = self.release, self.release.entropy
        # A block outside of the image is never coded: its mode is 0.
        costs = costs.clone()
        costs[:, 1:] += torch.where(self.inside, 0.0, math.inf)
        cost_cells = unshuffle(costs, 2).unflatten(1, (MODES, 4))
        passes = list(self.hyper[1])
        mode_cells = torch.zeros_like(cost_cells[:, 0], dtype=torch.int64)
        positions = torch.empty(0)  # of y in steps, as cells; known when modes are
        asked: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

        def choose_mode(half: int, index: Tensor) -> Tensor:
            nonlocal positions
            sites = list(SITE_ORDER[2 * half : 2 * half + 2])
            bits = mode_bits((index - TABLES).clamp_min(0).transpose(1, 2))
            modes = (bits + cost_cells[:, :, sites]).argmin(1)
            mode_cells[:, sites] = modes
            if half == 1:
                wanted = self.coefficients if aim is None else aim
                y = release.blocks(wanted, shuffle(mode_cells, 2)[:, 0])
                positions = unshuffle(y / self.step[:, None, None], 2)

            def give(bit: int, table: Tensor) -> Tensor:
                flags: Tensor = modes >> (MODE_DEPTH - 1 - bit) & 1
                passes.append(Pass(to_int16(flags), to_uint8(table)))
                return flags

            return walk_modes(index, give)

        def choose(
            part: int,
            index: Tensor,
            mean: Tensor,
            predicted: Tensor,
            scores: Callable[[], Tensor],
        ) -> Tensor:
            places = entropy.places(part)
            position = positions[:, places] - mean / FRACTION
            price = self.price[places // 4][:, None, None].expand_as(position)
            coded = index > 0
            symbols = torch.zeros_like(position)
            symbols[coded] = self.quantise(position[coded], index[coded], price[coded])
            passes.append(Pass(to_int16(symbols), to_uint8(index), SECOND))
            # Of part 0 the second call knows everything but the symbols of the first.
            whole = symbols * SPACING
            whole = whole + asked[part][3] if part in asked else whole
            asked[part] = scores(), mean, predicted, whole
            return symbols

        latent, modes = entropy.code(self.z, self.rate, self.inside, choose_mode, choose)
        of_y = [
            shuffle(torch.cat(parts, 1)[:, entropy.order], 2)[0]
            for parts in zip(*asked.values(), strict=True)
        ]
        return Run(passes, modes, latent, self.coefficients if aim is None else aim, *of_y)


def pad_to_unit(planes: Tensor) -> Tensor:
    """[C,H,W] -> both sides multiples of 64, by repeating the last row and column."""
    _, height, width = planes.shape
    pad = (0, -width % UNIT, 0, -height % UNIT)
    return F.pad(planes[None], pad, mode="replicate")[0]
