"""Planes -> symbols: the choices of an encoder, of which a decoder knows nothing.

The encoder runs twice. The first run chooses the modes of blocks by estimated costs
(`transforms.mode_costs`), since symbols have no tables before modes are known. It gives every
coefficient a table and a mean. The second run chooses modes again, by the bits that their
coefficients take with these tables and means.

Versions of an image are compared by the linear path alone (`Encoder.estimate_rd_cost`). It takes
a fraction of the time of analysis, and says as well which version costs less.

From rate index TARGET_FROM on the second run moves its target coefficients part of the way towards
the inverse of synthesis. Synthesis also corrects coefficients that were hardly quantised, so coding
the analysis output directly would overcorrect.

`Encoder.weigh` makes errors dearer in some blocks than in others. Three choices follow it: the
estimated costs of modes, their costs in the second run, and the symbols.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.bitstream.grid import ALONE, BLOCK, UNIT, Box, Sides, coded_sites
from mvmic_codec.bitstream.symbols import Pass
from mvmic_codec.encoder import trellis
from mvmic_codec.encoder.decoded import planes_of_coefficients
from mvmic_codec.model.definition import (
    AREA,
    FRACTION,
    MODE_DEPTH,
    MODES,
    SECOND,
    SPACING,
    STEP_BITS,
    TABLES,
)
from mvmic_codec.model.entropy import DEADZONE_MAX, mode_bits, step_to_zero_bits
from mvmic_codec.model.integer import code_mode_tree, to_int16, to_uint8
from mvmic_codec.model.layers import pixel_shuffle, pixel_unshuffle
from mvmic_codec.model.loaded import LoadedModel
from mvmic_codec.model.schedule import MODE_HALVES, SCHEDULE, sites_of_half
from mvmic_codec.model.transforms import (
    block_dct,
    filter_borders,
    rotate_colour,
    rows_of,
)
from mvmic_codec.rate import lambda_of

SYMBOL_MAX = 32767

# Bits of a block that its estimated cost leaves out, such as those of its mean.
SITE_BITS = 2.0
# Bits that a block in any mode but 0 costs its neighbours, which can predict less from it.
NEIGHBOUR_BITS = 8.0
# The second run does not compare modes whose estimated cost is above the least by this share.
SECOND_LOOK = 0.25
# The least rate index with another target. It goes a share of the way to the inverse of synthesis,
# so much per rate index: to go all the way would cost as much as it gains.
TARGET_FROM = 27
TARGET_SHARE = 1 / 96


class GroupResult(NamedTuple):
    """What is known of a symbol group's coefficients, each [1,n,h,w] as cells."""

    scores: Callable[[], Tensor]
    mean: Tensor
    predicted: Tensor
    coded: Tensor


@dataclass
class CodingResult:
    """What one run of the entropy model gave.

    What it knows of each coefficient of y is put in order when asked for: the last run is not.
    """

    passes: list[Pass]
    modes: Tensor  # [1,h,w] at 1/16
    latent: Tensor  # int16 [1,h,w,C], what decoders make of the symbols, in eighths
    target: Tensor  # [1,256P,h,w], the coefficients that were coded
    groups: list[GroupResult]
    order: Tensor  # of y's cells among those of the groups

    @cached_property
    def score(self) -> Tensor:
        """The table of each coefficient before the mode adds its part, in sixteenths [C,h,w]."""
        return self._of_y([group.scores() for group in self.groups])

    @cached_property
    def mean(self) -> Tensor:
        """Of each coefficient, in sixteenths of a step [C,h,w]."""
        return self._of_y([group.mean for group in self.groups])

    @cached_property
    def predicted(self) -> Tensor:
        """What linear prediction gives of the mean in mode 0 [C,h,w]."""
        return self._of_y([group.predicted for group in self.groups])

    @cached_property
    def coded(self) -> Tensor:
        """What the symbol of each coefficient stands for, in sixteenths of a step [C,h,w]."""
        return self._of_y([group.coded for group in self.groups])

    def _of_y(self, parts: list[Tensor]) -> Tensor:
        """Cells by group -> [C,h,w]."""
        return pixel_shuffle(torch.cat(parts, 1)[:, self.order], 2)[0]


@dataclass(frozen=True)
class Place:
    """Where a tile lies in its image.

    sides   on which it borders on other tiles
    around  planes [C,h,w] of the tile and of what lies around it
    box     of the tile among them; its top and left are multiples of UNIT
    """

    sides: Sides
    around: npt.NDArray[np.float32]
    box: Box

    def borders(self) -> npt.NDArray[np.bool_]:
        """Pixels [H,W] of the tile that blocks of other tiles overlap with, half a block wide.

        The analysis of those sees them as they are in the image. So no others can be put there, not
        even where something is painted over them.
        """
        return self.within(BLOCK // 2)

    def within(self, distance: int) -> npt.NDArray[np.bool_]:
        """Pixels [H,W] of the tile that are no further from other tiles."""
        near = np.zeros((self.box.height, self.box.width), np.bool_)
        near[:distance] |= self.sides.top
        near[-distance:] |= self.sides.bottom
        near[:, :distance] |= self.sides.left
        near[:, -distance:] |= self.sides.right
        return near


class Encoder:
    """Planes [C,H,W] in 0..1 at a rate index; hidden [H,W] as for `grid.coded_sites`.

    like   encoder of another version of the same image at the same rate
    place  where the planes lie if they are those of a tile: analysis then sees what is around them
    """

    def __init__(
        self,
        model: LoadedModel,
        planes: npt.NDArray[np.float32],
        rate: int,
        hidden: npt.NDArray[np.bool_] | None = None,
        like: Encoder | None = None,
        place: Place | None = None,
    ) -> None:
        self.model, self.rate, self.like, self.place = model, rate, like, place
        entropy = model.entropy
        self.rates = torch.tensor([rate], device=model.device)
        self.seen = np.ones(planes.shape[1:], np.bool_) if hidden is None else ~hidden
        sites = coded_sites(planes.shape[1:], hidden, ALONE if place is None else place.sides)
        self.inside = torch.from_numpy(sites).to(model.device)
        self.analysed = rotate_colour(padded_planes(planes, place, model.device))
        top, left = (0, 0) if place is None else (place.box.top // BLOCK, place.box.left // BLOCK)
        rows, columns = sites.shape
        # The blocks of the tile among those that are analysed.
        self.mine = slice(top, top + rows), slice(left, left + columns)
        self.rotated = self.analysed[
            :, :, BLOCK * top : BLOCK * (top + rows), BLOCK * left : BLOCK * (left + columns)
        ]
        # What an error in each block counts, and what a unit of squared error is worth in bits.
        self.importance = torch.ones(self.inside.shape, device=model.device)
        self.lambda_error = torch.tensor([lambda_of(rate) / 3.0], device=model.device)
        self.step = entropy.step[rate] / 2**STEP_BITS
        # Bits for a squared error of one step, twice; see the training loss.
        self.lambda_symbol = 2.0 * lambda_of(rate) / 3.0 * self.step**2
        # Bits saved by coding 0 in place of 1, by table.
        tables = torch.arange(TABLES, device=model.device, dtype=torch.float64)
        self.saving = step_to_zero_bits(tables.clamp_min(0.5))
        self.bits = model.bits.cpu().numpy()

    def weigh(self, importance: npt.NDArray[np.float32]) -> None:
        """From here on an error in a block counts so many times as much; to be called once.

        importance is positive, [ceil(H/16),ceil(W/16)]. It does not change `estimate_rd_cost`.
        """
        for known in ("estimated_costs", "first_run"):
            self.__dict__.pop(known, None)
        height, width = importance.shape
        self.importance[:height, :width] = torch.from_numpy(importance).to(self.importance)

    @cached_property
    def linear(self) -> Tensor:
        """The lapped DCT [1,256P,h,w] of the planes."""
        return self.model.analysis.linear_coefficients(self.analysed)[(..., *self.mine)]

    @cached_property
    def coefficients(self) -> Tensor:
        """What analysis makes of the planes [1,256P,h,w]."""
        branch = self.model.analysis_branch(self.analysed, self.rate)[(..., *self.mine)]
        out = self.linear + branch
        # It takes much memory, and is computed again if asked for.
        del self.linear
        return out

    @cached_property
    def shown(self) -> Tensor:
        """[H,W] of the padded planes: 1 where decoded pixels are seen and known, else 0.

        Near another tile they depend on its latent.
        """
        height, width = self.seen.shape
        shown = torch.zeros(self.rotated.shape[2:], device=self.model.device)
        known = self.seen if self.place is None else self.seen & ~self.place.within(BLOCK)
        shown[:height, :width] = torch.from_numpy(known).to(shown)
        return shown

    @cached_property
    def hyper_positions(self) -> Tensor:
        """The hyper-latent [1,Z,h,w] at 1/64 before it is rounded, in steps, in float64."""
        model = self.model
        z = model.hyper_analysis(self.coefficients, model.analysis.spread, self.rates)
        step = model.entropy.hyper_step[self.rate][:, None, None] / 2**STEP_BITS
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
        return self.model.entropy.code_hyper(self.rate, rows, columns, choose), passes

    @property
    def z(self) -> Tensor:
        """The hyper-latent of `hyper`."""
        return self.hyper[0]

    @cached_property
    def estimated_costs(self) -> Tensor:
        """What each block is estimated to cost in each mode [1,K,h,w], in bits."""
        weight = self.lambda_error * self.importance[None]
        return self.model.blocks.costs(self.coefficients, self.steps, weight)

    @cached_property
    def linear_costs(self) -> Tensor:
        """As `estimated_costs`, but of the linear path, and with no importance."""
        costs, weight = self.model.blocks.costs, self.lambda_error
        if self.like is None:
            return costs(self.linear, self.steps, weight)
        # What a block outside of the image costs does not matter.
        differ = (self.linear != self.like.linear).any(1)[0] & self.inside
        out = self.like.linear_costs.clone()
        out[:, :, differ] = costs(self.linear[:, :, None, differ], self.steps, weight)[:, :, 0]
        # Nothing else is taken over, and that encoder takes much memory.
        self.like = None
        return out

    @property
    def steps(self) -> Tensor:
        """The steps of y [1,C,1,1]."""
        out: Tensor = self.step.float()[None, :, None, None]
        return out

    def estimate_rd_cost(self) -> float:
        """The sum of the least of `linear_costs`, and SITE_BITS for each block."""
        least = self.linear_costs.amin(1) + SITE_BITS
        return float(least[:, self.inside].sum())

    @cached_property
    def first_run(self) -> CodingResult:
        """The first of two runs; see the top of this file."""
        return self.run(self.estimated_costs)

    def encode_two_pass(self) -> CodingResult:
        """The second of two runs; see the top of this file."""
        first = self.first_run
        del self.first_run
        target = self.coefficients if self.rate < TARGET_FROM else self.inverse_target(first.modes)
        return self.run(self.costs_after(first, target), target)

    def inverse_target(self, modes: Tensor) -> Tensor:
        """Coefficients [1,256P,h,w] moved towards those of which synthesis makes the picture."""
        model = self.model
        shown = planes_of_coefficients(
            model.decoding.synthesis, self.coefficients, modes, self.rate
        )
        lost = self.rotated - rotate_colour(shown)
        step = block_dct(filter_borders(lost * self.shown, model.analysis.borders))
        target: Tensor = self.coefficients + TARGET_SHARE * self.rate * step
        return target

    def costs_after(self, run: CodingResult, target: Tensor | None = None) -> Tensor:
        """As `estimated_costs`, but by the tables and means of `run`; symbols are whole steps.

        Infinite for modes whose estimated cost is far too high, except those of `run`. target
        [1,256P,h,w] are the coefficients to be coded, those of analysis if None.

        The first channel is left out: all modes share its coefficient, and nearly its bits. How
        tables and means change with the modes of neighbours is not known; NEIGHBOUR_BITS stands
        for it.
        """
        entropy, blocks = self.model.entropy, self.model.blocks
        luma = torch.from_numpy(np.nonzero(self.model.shape.is_luma())[0]).to(self.model.device)
        low_freq = luma[luma < entropy.linear]
        aligned = entropy.aligned[:, low_freq].float()
        mode_scores = entropy.base_mode[:, luma].float() / FRACTION
        step, lambda_symbol = self.step[luma].float(), self.lambda_symbol[luma].float()
        modes = run.modes.flatten()
        rows = rows_of((self.coefficients if target is None else target)[:, :AREA])
        # Only low frequencies have means. Here without what belongs to the mode of that run.
        mean, predicted = (rows_of(x[None, low_freq].float()) for x in (run.mean, run.predicted))
        mean = mean - predicted * aligned[modes]
        # Coefficients that are coded in any mode: few. All others cost their error.
        score = rows_of(run.score[None, luma].float()) / FRACTION
        inside, importance = self.inside.flatten(), self.importance.flatten()
        coded_somewhere = (score + mode_scores.amax(0) >= 0.5) & inside[:, None]
        coded_somewhere[:, 0] = False
        block, channel = torch.nonzero(coded_somewhere).unbind(1)
        score = score[block, channel]
        estimated = self.estimated_costs
        compared = estimated <= (1 + SECOND_LOOK) * estimated.amin(1, keepdim=True)
        compared.scatter_(1, run.modes[:, None], True)
        costs = torch.where(compared[0].flatten(1), 0.0, math.inf)
        # A block outside of the image is not coded.
        for k, mine in enumerate(compared[0].flatten(1) & inside):
            blocks_compared = torch.nonzero(mine)[:, 0]
            position = F.linear(rows[blocks_compared], blocks.luma[k] / step[:, None])
            means = mean[blocks_compared] + predicted[blocks_compared] * aligned[k]
            position[:, : len(low_freq)] -= means / FRACTION
            position[:, 0] = 0.0
            cost = position.square() @ (lambda_symbol / 2) * importance[blocks_compared]
            table = score + mode_scores[k, channel]
            coded = torch.nonzero((table >= 0.5) & mine[block])[:, 0]
            row = (torch.cumsum(mine, 0) - 1)[block[coded]]
            size = position[row, channel[coded]].abs_()
            lambda_coded = lambda_symbol[channel[coded]] * importance[block[coded]]
            rounded = torch.floor(table[coded] + 0.5).clamp(max=TABLES - 1).long()
            level = self.level(size, rounded, lambda_coded)
            bits = self.model.symbol_bits(rounded, level.long())
            saved = size.square() - (size - level).square()
            cost.index_add_(0, row, bits - lambda_coded / 2 * saved)
            costs[k, blocks_compared] = cost
        out = costs.reshape(1, MODES, *run.modes.shape[1:])
        out[:, 1:] += NEIGHBOUR_BITS
        return out

    def level(self, size: Tensor, table: Tensor, lambda_symbol: Tensor) -> Tensor:
        """Round magnitudes, and lower those where the bits saved outweigh the distortion."""
        lift = (self.saving.to(lambda_symbol)[table] / lambda_symbol).clamp(0, DEADZONE_MAX)
        level: Tensor = torch.floor(size + 0.5 - lift) * (size >= 0.5)
        return level

    def quantise(self, position: Tensor, table: Tensor, lambda_symbol: Tensor) -> Tensor:
        """The symbols of least cost for the coded places of a group, in coding order [N]."""
        symbols = trellis.quantise(
            position.double().cpu().numpy(),
            to_uint8(table),
            lambda_symbol.double().cpu().numpy(),
            self.bits,
            SPACING / FRACTION,
            SECOND,
        )
        return torch.from_numpy(symbols).to(position)

    def run(self, costs: Tensor, target: Tensor | None = None) -> CodingResult:
        """Code with the modes of least cost, given [1,K,h,w] without the bits of the modes.

        Symbols minimise bits plus distortion from `target`, as for `costs_after`.
        """
        model, entropy = self.model, self.model.entropy
        # A block outside of the image is never coded: its mode is 0.
        costs = costs.clone()
        costs[:, 1:] += torch.where(self.inside, 0.0, math.inf)
        cost_cells = pixel_unshuffle(costs, 2).unflatten(1, (MODES, 4))
        importance_cells = pixel_unshuffle(self.importance[None, None], 2)[0]
        passes = list(self.hyper[1])
        mode_cells = torch.zeros_like(cost_cells[:, 0], dtype=torch.int64)
        positions = torch.empty(0)  # of y in steps, as cells; known when modes are
        groups: dict[int, GroupResult] = {}

        def code_modes(half: int, index: Tensor) -> Tensor:
            nonlocal positions
            sites = sites_of_half(half)
            bits = mode_bits((index - TABLES).clamp_min(0).transpose(1, 2))
            modes = (bits + cost_cells[:, :, sites]).argmin(1)
            mode_cells[:, sites] = modes
            if half == MODE_HALVES - 1:
                coefficients = self.coefficients if target is None else target
                y = model.blocks(coefficients, pixel_shuffle(mode_cells, 2)[:, 0])
                positions = pixel_unshuffle(y / self.step[:, None, None], 2)

            def code_bit(bit: int, table: Tensor) -> Tensor:
                flags: Tensor = modes >> (MODE_DEPTH - 1 - bit) & 1
                passes.append(Pass(to_int16(flags), to_uint8(table)))
                return flags

            return code_mode_tree(index, code_bit)

        def code_group(
            number: int,
            index: Tensor,
            mean: Tensor,
            predicted: Tensor,
            scores: Callable[[], Tensor],
        ) -> Tensor:
            places = entropy.places(SCHEDULE[number])
            position = positions[:, places] - mean / FRACTION
            coded = torch.nonzero(index.flatten())[:, 0]
            channel = coded // index[0, 0].numel() % len(places)
            symbols = torch.zeros_like(position)
            # A place is a channel of y and one of the four sites in a cell.
            importance = importance_cells[places % 4].flatten()[coded]
            symbols.view(-1)[coded] = self.quantise(
                position.view(-1)[coded],
                index.flatten()[coded],
                self.lambda_symbol[places // 4][channel] * importance,
            )
            passes.append(Pass(to_int16(symbols), to_uint8(index), SECOND))
            # The first group is coded in two calls: first its anchors, then the rest.
            dequantised = symbols * SPACING
            if number in groups:
                dequantised = dequantised + groups[number].coded
            groups[number] = GroupResult(scores, mean, predicted, dequantised)
            return symbols

        latent, modes = entropy.code(self.z, self.rate, self.inside, code_modes, code_group)
        target = self.coefficients if target is None else target
        # Tensors of uint8 are no indices.
        modes = modes.long()
        return CodingResult(passes, modes, latent, target, list(groups.values()), entropy.order)


def padded_planes(
    planes: npt.NDArray[np.float32], place: Place | None, device: torch.device
) -> Tensor:
    """Planes [1,C,h,w] to be analysed: padded, and with what is around a tile."""
    if place is not None:
        around = place.around.copy()
        box = place.box
        around[:, box.top : box.bottom, box.left : box.right] = planes
        planes = around
    return pad_to_unit(torch.from_numpy(np.ascontiguousarray(planes)).to(device))[None]


def pad_to_unit(planes: Tensor) -> Tensor:
    """[C,H,W] -> both sides multiples of 64, by repeating the last row and column."""
    _, height, width = planes.shape
    pad = (0, -width % UNIT, 0, -height % UNIT)
    return F.pad(planes[None], pad, mode="replicate")[0]
