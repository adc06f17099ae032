"""Fit how the four anchors around a non-anchor move its mean and its table.

Training does not know of anchors: it codes the hyper-latent and the first symbol group at once. A
release codes them as on a chessboard, anchors before non-anchors. Its arrays say how the mean and
the table of a non-anchor follow its neighbours. Each value is chosen by what the symbols of crops
would have cost with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.bitstream import ans
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.model.definition import CLASSES, COMPAND_ENTRIES, FRACTION, TABLES, WEIGHT_BITS
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.integer import anchors_on, share_around, sum_around
from mvmic_codec.model.layers import pixel_unshuffle
from mvmic_codec.model.loaded import LoadedModel
from mvmic_codec.model.schedule import SCHEDULE
from mvmic_codec.rate import RATES

WEIGHTS = torch.arange(-16, 49, dtype=torch.float64) / 32  # of the mean of the four anchors
SHIFTS = torch.arange(-24, 25)  # of tables
# Bits that a weight of 1 must save, and a shift that differs by 1 from that of the class before.
# Without these, weights and shifts would follow the chance of a few symbols.
WEIGHT_PRIOR = 8.0
SHIFT_PRIOR = 4.0


@dataclass(frozen=True)
class Places:
    """Non-anchor places [n,k] of n channels, of one crop at one rate index."""

    position: Tensor  # in steps, where no neighbour counts
    around: Tensor  # the mean of the four, in steps
    of_class: Tensor  # by their magnitudes
    table: Tensor  # index in tables where no neighbour counts, neither rounded nor clamped
    price: Tensor  # of a squared error of one step in bits, twice; 0 where it has none


@dataclass(frozen=True)
class Sample:
    """The symbols of a crop, as an encoder chose them."""

    rate: int
    bits: float  # of all symbols
    hyper: Places
    near: Places


def take_sample(release: LoadedModel, planes: npt.NDArray[np.float32], rate: int) -> Sample:
    """Non-anchor places of planes [P,H,W], by a release whose neighbours do not count yet."""
    entropy = release.entropy
    with full_precision(release.device):
        encoder = Encoder(release, planes, rate)
        run = encoder.encode_two_pass()
        bits = sum(ans.estimate_bits(*each.coded(), release.tables) for each in run.passes)
        others = ~anchors_on(release.device, *encoder.z.shape[2:])
        z = encoder.z * ~others
        around = share_around(z)[0, :, others] / 2**WEIGHT_BITS
        size = share_around(z.abs())[0, :, others] / 2**WEIGHT_BITS
        hyper = Places(
            encoder.hyper_positions[0, :, others],
            around / FRACTION,
            classes(release, size),
            entropy.hyper_index[rate].double()[:, None].expand_as(around),
            torch.zeros_like(around),
        )
        first = entropy.places(SCHEDULE[0])

        def cells(of_y: Tensor) -> Tensor:
            return pixel_unshuffle(of_y[None].double(), 2)[0, first]

        step = encoder.step[:, None, None]
        y = release.blocks(run.target, run.modes)[0] / step - run.mean / FRACTION
        offset = entropy.base_mode[run.modes[0]].permute(2, 0, 1)
        coded = cells(run.coded)
        others = ~anchors_on(release.device, *coded.shape[1:])
        coded = (coded * ~others)[None]
        around = sum_around(coded)[0, :, others] / FRACTION / 4
        size = sum_around(coded.abs())[0, :, others] / 4
        near = Places(
            cells(y)[:, others],
            around,
            classes(release, size),
            cells(run.score + offset)[:, others] / FRACTION,
            encoder.lambda_symbol[: entropy.linear, None].expand_as(around),
        )
    return Sample(rate, bits, hyper, near)


def classes(release: LoadedModel, size: Tensor) -> Tensor:
    """The classes of mean magnitudes, given in sixteenths."""
    whole = torch.floor(size + 0.5).clamp(max=COMPAND_ENTRIES - 1).long()
    return release.entropy.classes[whole]


def fit_neighbours(release: LoadedModel, samples: Iterable[Sample]) -> dict[str, Tensor]:
    """The arrays of `neutral_neighbours` with the values that suit the samples best."""
    by_rate: dict[int, list[Sample]] = {}
    for each in samples:
        by_rate.setdefault(each.rate, []).append(each)
    rates = sorted(by_rate)
    bits = [sum(sample.bits for sample in by_rate[rate]) for rate in rates]
    # Every rate weighs alike.
    importance = [sum(bits) / len(bits) / each for each in bits]
    hyper = [join([sample.hyper for sample in by_rate[rate]]) for rate in rates]
    near = [join([sample.near for sample in by_rate[rate]]) for rate in rates]
    # z is always coded.
    hyper_weight, hyper_shift = fit_places(release.bits, hyper, importance, least=1)
    # Close to the true cost; the symbols of this group depend on each other.
    near_weight, near_shift = fit_places(release.rough_bits, near, importance, least=0)
    # near_mean is of the sum of four, in sixteenths.
    unit = 2**WEIGHT_BITS
    return {
        "hyper_near": at_all_rates(rates, hyper_weight * unit),
        "hyper_shift": hyper_shift.to(torch.int8),
        "near_mean": at_all_rates(rates, near_weight * unit * FRACTION / 4),
        "near_shift": near_shift.to(torch.int8),
    }


def join(places: list[Places]) -> Places:
    """Join places of the same channels."""
    names = [field.name for field in fields(Places)]
    return Places(*(torch.cat([getattr(each, name) for each in places], 1) for name in names))


def at_all_rates(rates: list[int], values: Tensor) -> Tensor:
    """[len(rates),n] -> int16 [RATES,n]: linear between the rates, constant beyond them."""
    every = np.arange(RATES)
    columns = [np.interp(every, rates, column) for column in values.T.numpy()]
    return torch.from_numpy(np.stack(columns, 1)).round().clamp(-(2**15), 2**15 - 1).short()


def fit_places(
    bits: Tensor, places: list[Places], importance: list[float], least: int
) -> tuple[Tensor, Tensor]:
    """The best weights [rates,n] and shifts [n,CLASSES] for places, given by rate.

    bits   of a symbol, by table and magnitude in whole steps; the last column is for all above
    least  the lowest table index that is allowed
    """
    channels = len(places[0].position)
    weight = torch.zeros(len(places), channels, dtype=torch.float64)
    total = torch.zeros(channels, CLASSES, len(SHIFTS), dtype=torch.float64)
    for k, (each, share) in enumerate(zip(places, importance, strict=True)):
        cost = torch.stack(
            [
                costs(bits, each, each.position - w * each.around, each.table, least).sum(1)
                + WEIGHT_PRIOR * abs(w)
                for w in WEIGHTS.tolist()
            ]
        )
        weight[k] = WEIGHTS[cost.argmin(0)]
        position = each.position - weight[k][:, None] * each.around
        for n, by in enumerate(SHIFTS.tolist()):
            cost = costs(bits, each, position, each.table + by, least)
            total[:, :, n].scatter_add_(1, each.of_class, share * cost)
    return weight, smooth_shifts(total)


def costs(bits: Tensor, places: Places, position: Tensor, table: Tensor, least: int) -> Tensor:
    """The cost of each place in bits, [n,k]: the symbol's bits, and its error times its price.

    Where an error has a price, the symbol may be lowered by one, as an encoder does, if that costs
    less.
    """
    table = torch.floor(table + 0.5).clamp(least, TABLES - 1).long()
    size, price = position.abs(), places.price
    nearest = torch.floor(size + 0.5) * (table > 0)
    lower = (nearest - (price > 0).double()).clamp_min(0)
    cost, other = (
        bits[table, level.long().clamp(max=bits.shape[1] - 1)] + price / 2 * (size - level).square()
        for level in (nearest, lower)
    )
    return torch.minimum(cost, other)


def smooth_shifts(cost: Tensor) -> Tensor:
    """The shifts [n,CLASSES] of least cost, for the costs [n,CLASSES,SHIFTS].

    A change between classes costs SHIFT_PRIOR; the class before the first has no shift.
    """
    change = SHIFT_PRIOR * (SHIFTS[:, None] - SHIFTS).abs().double()
    best = cost[:, 0] + SHIFT_PRIOR * SHIFTS.abs()
    came: list[Tensor] = []
    for k in range(1, CLASSES):
        best, before = (best[:, :, None] + change).min(1)
        best = best + cost[:, k]
        came.append(before)
    at = best.argmin(1, keepdim=True)
    path = [at]
    for before in reversed(came):
        at = before.gather(1, at)
        path.append(at)
    return SHIFTS[torch.cat(path[::-1], 1)]
