"""The order in which the entropy model codes a latent. Only this module defines it.

A site is a position of the latent y [C,h,w] at 1/16, and a cell is 2x2 sites. A spatial step codes
one of the four sites of every cell. Which one it is rotates with the channel. After four steps each
site of each channel has been coded once.

Every step has two symbol groups: first the low-frequency channels, which linear prediction uses,
then all others. A group sees the hyper-latent z at 1/64, the modes of all blocks, and everything
that earlier groups decoded.

Modes come first, in two halves: the two sites on the diagonal of every cell, then the other two.

The first group is coded on a chessboard of cells. Its anchors come first. The means and tables of
the others depend on the anchors around them, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

SPATIAL_STEPS = 4
# Order in which the sites of a 2x2 cell (row-major) are coded: diagonal first.
SITE_ORDER = (0, 3, 1, 2)
MODE_HALVES = 2


class SymbolGroup(NamedTuple):
    """Symbols that are coded together: some channels at one site of every cell.

    number    its place in the order of coding, 0 to GROUPS - 1
    step      its spatial step, 0 to SPATIAL_STEPS - 1
    low_freq  True for the low-frequency channels, False for all others
    """

    number: int
    step: int
    low_freq: bool


SCHEDULE = tuple(
    SymbolGroup(2 * step + half, step, low_freq)
    for step in range(SPATIAL_STEPS)
    for half, low_freq in enumerate((True, False))
)
GROUPS = len(SCHEDULE)

# What an evaluation computes with: arrays of numpy for one image, or tensors of torch, which have
# an axis B of images in front.
Array = TypeVar("Array")
# Gives the symbols of a group, for (number, table index, mean, predicted, scores). Arrays are
# [n,h,w] at 1/32; `step_sites` says which sites of its channels they are.
#   predicted  the part of the mean that linear prediction gives in an aligned mode
#   scores()   the index before the mode adds base_mode, in sixteenths, neither rounded nor clamped
# The first group is coded in two calls, one for its anchors and one for the others. The index is 0
# at places that a call does not code. All else in the second call holds for all places.
Coder = Callable[[int, Array, Array, Array, Callable[[], Array]], Array]
# Gives the symbols of z for (table index, mean m), all [Z,h,w] at 1/64. It is called for the
# anchors and then for the others. Index and mean are 0 at places that a call is not about.
HyperCoder = Callable[[Array, Array], Array]
# Gives the modes [2,h,w] of one half, the sites `sites_of_half` of every cell, for (half, table
# indices of the nodes [2,NODES,h,w]).
ModeCoder = Callable[[int, Array], Array]
# Gives the symbols int16 [N] of the next pass of a payload, for their table indices uint8 [N] and
# the distance of the second quantiser's tables, 0 where symbols are independent. See
# `bitstream.symbols.Unpacker.next`.
NextSymbols = Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.int16]]


class Evaluation(ABC, Generic[Array]):
    """The state of one evaluation of an entropy model. `run_schedule` calls it in order."""

    @abstractmethod
    def mode_tables(self, half: int) -> Array:
        """Table indices of the nodes [2,NODES,h,w] for the modes of a half."""

    @abstractmethod
    def take_modes(self, half: int, modes: Array) -> None:
        """Merge the modes of a half [2,h,w] into the features."""

    @abstractmethod
    def begin_group(self, group: SymbolGroup) -> None:
        """Run the context networks for a group: its scores and, for low frequencies, its means."""

    @abstractmethod
    def code_group(self, coder: Coder[Array], anchors: bool | None = None) -> Array:
        """The coder's symbols of the group: the anchors', the others', or all if None."""

    @abstractmethod
    def add_neighbours(self, anchors: Array) -> None:
        """Add the influence of the anchors' symbols to the means and scores of the others."""

    @abstractmethod
    def dequantise_group(self, symbols: Array) -> None:
        """Dequantise the symbols of the whole group, for the result and for later groups."""

    @abstractmethod
    def result(self) -> tuple[Array, Array]:
        """The latent, int16 [2h,2w,C] in eighths on the 255 scale, and modes, uint8 [2h,2w]."""


def step_sites(channels: int, rotate: bool = True) -> npt.NDArray[np.int64]:
    """Which plane of pixel_unshuffle(y, 2) a spatial step codes: [SPATIAL_STEPS, channels].

    There are 4 planes for each channel of y, one for each site of a cell. With `rotate` the order
    of sites changes with the channel.
    """
    channel = np.arange(channels)
    turn = channel % 4 if rotate else np.zeros_like(channel)
    order = np.array(SITE_ORDER)
    return np.stack([channel * 4 + order[(step + turn) % 4] for step in range(SPATIAL_STEPS)])


def anchor_places(height: int, width: int) -> npt.NDArray[np.bool_]:
    """The anchors of a chessboard, [h,w]. They are coded first; none has another beside it."""
    out: npt.NDArray[np.bool_] = (np.arange(height)[:, None] + np.arange(width)) % 2 == 0
    return out


def sites_of_half(half: int) -> list[int]:
    """The sites of a cell whose modes are coded in a half."""
    return list(SITE_ORDER[2 * half : 2 * half + 2])


def sites_up_to_half(half: int) -> list[int]:
    """The sites of a cell whose modes are known after a half is coded, in the order of coding."""
    return list(SITE_ORDER[: 2 * half + 2])


def run_schedule(
    evaluation: Evaluation[Array], mode_coder: ModeCoder[Array], coder: Coder[Array]
) -> tuple[Array, Array]:
    """Code all modes and then all groups, in order. Returns `Evaluation.result()`."""
    for half in range(MODE_HALVES):
        evaluation.take_modes(half, mode_coder(half, evaluation.mode_tables(half)))
    for group in SCHEDULE:
        evaluation.begin_group(group)
        if group.number:
            symbols = evaluation.code_group(coder)
        else:
            symbols = evaluation.code_group(coder, anchors=True)
            evaluation.add_neighbours(symbols)
            # Not in place: a coder may have kept the symbols that it gave.
            symbols = symbols + evaluation.code_group(coder, anchors=False)  # type: ignore[operator]
        evaluation.dequantise_group(symbols)
        del symbols
    return evaluation.result()
