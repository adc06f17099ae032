"""The order in which the entropy model codes a latent. It stands here and nowhere else.

The latent y [C,h,w] at 1/16 is taken in cells of 2x2 sites. A spatial step codes one of the four
sites of every cell; which one rotates with the channel, so that after four steps each site of each
channel has been coded once. Every step has two groups of symbols: first the low-frequency channels,
which take part in linear prediction, then all others. A group sees everything that groups before it
decoded, the hyper-latent z at 1/64 and the modes of all blocks.

Modes come first, in two halves: the two sites on the diagonal of every cell, then the other two.

The first group is coded on a chessboard of cells: its anchors, then the others, whose means and
tables also follow from the anchors around them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

SPATIAL_STEPS = 4
# Order in which the sites of a 2x2 cell (row-major) are coded: diagonal first.
SITE_ORDER = (0, 3, 1, 2)
MODE_HALVES = 2


class SymbolGroup(NamedTuple):
    """What is coded together: some channels at one site of every cell.

    number    its place in the order of coding, from 0
    step      the spatial step, 0 to SPATIAL_STEPS - 1
    low_freq  the low-frequency channels; else all others
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

# Called for every group with (number, table index, mean m, what linear prediction gives of m in a
# mode that is aligned, scores), each [B,n,h,w] at 1/32, for the symbols; EntropyArrays.places says
# which channels and sites these are. scores() gives what an index is made of before its mode adds
# base_mode, in sixteenths, neither rounded nor clamped to tables. The first group is asked for
# twice, for its anchors and for the others: the index is 0 at those that are not meant. What else
# the second call says holds for all places.
Coder = Callable[[int, Tensor, Tensor, Tensor, Callable[[], Tensor]], Tensor]
# Called for both halves of the modes with (half, table indices of the nodes [B,2,NODES,h,w]) for
# the modes [B,2,h,w] of the two sites `sites_of_half` of every cell.
ModeCoder = Callable[[int, Tensor], Tensor]

Symbols = TypeVar("Symbols")


class Evaluation(ABC, Generic[Symbols]):
    """One evaluation of an entropy model, as far as it has come.

    Symbols are what it keeps of a group, as an array that can be added to another.
    """

    @abstractmethod
    def mode_tables(self, half: int) -> Tensor:
        """Table indices of the nodes of a half's modes, for a ModeCoder."""

    @abstractmethod
    def take_modes(self, half: int, modes: Tensor) -> None:
        """Go on with the modes of a half [B,2,h,w]."""

    @abstractmethod
    def begin_group(self, group: SymbolGroup) -> None:
        """Run the context networks for a group: its scores and, of low frequencies, its means."""

    @abstractmethod
    def code_group(self, coder: Coder, anchors: bool | None = None) -> Symbols:
        """Ask a coder for the group's symbols: of anchors, of all others, or of all if None."""

    @abstractmethod
    def add_neighbours(self, anchors: Symbols) -> None:
        """Add to the group's means and scores what the symbols of its anchors say of the others."""

    @abstractmethod
    def dequantise_group(self, symbols: Symbols) -> None:
        """Go on with the symbols of the whole group."""

    @abstractmethod
    def result(self) -> tuple[Tensor, Tensor]:
        """The quantised latent [B,C,2h,2w] on the 255 scale (float32), the modes [B,2h,2w]."""


def sites_of_half(half: int) -> list[int]:
    """The sites of a cell whose modes are coded in a half."""
    return list(SITE_ORDER[2 * half : 2 * half + 2])


def sites_up_to_half(half: int) -> list[int]:
    """The sites of a cell whose modes are known after a half, in the order of coding."""
    return list(SITE_ORDER[: 2 * half + 2])


def run_schedule(
    evaluation: Evaluation[Symbols], mode_coder: ModeCoder, coder: Coder
) -> tuple[Tensor, Tensor]:
    """Code all modes and groups in order. Returns what `Evaluation.result` does."""
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
