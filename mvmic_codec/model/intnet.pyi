"""The integer networks of the entropy model in C, layer by layer. Used by model/native.py alone.

A *map* is uint8 [h+2,w+2,stride_of(channels)], position by position. Its outermost rows and columns
repeat their neighbours. The processor decides which paths are usable; all paths give the same
integers. Calls release the GIL.

Arrays must be contiguous and of the types given. Arrays that do not fit together raise ValueError.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mvmic_codec.model.team import Run

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Reals = npt.NDArray[np.float64]

ZERO: int
"""Inputs that have a sign are stored with this added."""
BLOCK: int
"""Outputs of linear predictors that are computed at once."""

def at_once(layer: Callable[[int, int], None], count: int, unit: int) -> None:
    """Call a layer for all rows at once."""

def usable_paths() -> tuple[str, ...]:
    """The paths that this processor can run, of "portable", "avx2" and "vnni"; the fastest last."""

def stride_of(channels: int) -> int:
    """Bytes of one position of a map."""

class Layer:
    """A convolution with bias and shift.

    weight     int8 [O,I,k,k], k = 1 or 3
    bias       int32 [O]
    shift      uint8 [O], 0 to 14
    with_sign  the inputs that are stored with ZERO added
    path       one of `usable_paths()`

    Raises OverflowError if a sum could exceed 32 bits, and for more than 4096 inputs. Raises
    ValueError for arrays that are no layer.
    """

    inputs: int
    outputs: int

    def __init__(
        self,
        weight: npt.NDArray[np.int8],
        bias: Ints,
        shift: Bytes,
        with_sign: slice,
        path: str,
    ) -> None: ...
    def map(self, maps: Bytes, run: Run = ...) -> Bytes:
        """The results, clamped to 0..255, as a map."""

    def sums(self, maps: Bytes, run: Run = ...) -> Ints:
        """The results, not clamped, [h,w,O]."""

def repeat_edges(maps: Bytes) -> None:
    """Fill the outermost rows and columns of a map, in place."""

def merge(features: Bytes, width: int, q: Ints, compand: Bytes, with_sign: bool) -> Bytes:
    """A map of `width` features, followed by companded q [n,h,w].

    With `with_sign` these are n values with ZERO added and then n magnitudes; else n magnitudes.
    compand is uint8 [256].
    """

def predict(v: Reals, weight: Reals, out: Reals, path: str, run: Run = ...) -> None:
    """Add to out [h,w,O] the 3x3 convolution of v [h+2,w+2,I] with weight [O/BLOCK,9,I,BLOCK].

    Zeros fill up the last block of outputs.
    """

def add_neighbours(
    symbols: npt.NDArray[np.int16],
    weight: npt.NDArray[np.int16],
    shift: npt.NDArray[np.int8],
    compand: Bytes,
    means: Ints,
    sums: Ints,
) -> tuple[Ints, Ints]:
    """Means [n,h,w] and sums [h,w,n] of the first group, plus what its anchors add to the others.

    symbols  [n,h,w] of the anchors, 0 at the others
    weight   [n], of a sum of neighbours in a mean
    shift    [n,16], of a table by class
    compand  [256], at most 127
    """

class GroupArrays:
    """The arrays of the n channels of one symbol group.

    site          uint8 [n], 0 to 3: the site of a cell that each channel is coded at
    base          int32 [n], table index in an empty context, in sixteenths
    base_mode     int16 [8,n], what each mode adds to it
    step          int32 [n], quantiser steps
    gain          int32 [n], reciprocal steps; None for high frequencies
    aligned       uint8 [8,n], whether a mode allows prediction; None for high frequencies
    mode, inside  uint8 [4,h,w] by site: modes, and which sites are coded
    """

    def __init__(
        self,
        site: Bytes,
        base: Ints,
        base_mode: npt.NDArray[np.int16],
        step: Ints,
        gain: Ints | None,
        aligned: Bytes | None,
        mode: Bytes,
        inside: Bytes,
    ) -> None: ...
    def indices(self, sums: Ints) -> Bytes:
        """Table indices uint8 [n,h,w], by the sums [h,w,n] of a `scales` layer."""

    def scores(self, sums: Ints) -> npt.NDArray[np.int16]:
        """Table indices [n,h,w] before the modes add their part, in sixteenths, not rounded."""

    def means(self, linear: Reals, sums: Ints) -> tuple[Ints, Ints]:
        """Means [n,h,w], and the part of them that linear prediction gives in an aligned mode.

        linear [h,w,n] is the prediction, sums [h,w,n] are those of a `means` layer.
        """

    def dequantise(
        self,
        symbols: npt.NDArray[np.int16],
        means: Ints | None,
        latent: npt.NDArray[np.int16],
        first: int,
    ) -> tuple[Ints, Reals | None]:
        """Dequantise the symbols [n,h,w] of a group: q [n,h,w], and v [h+2,w+2,n].

        Fills the group's sites of latent [2h,2w,C] in place, in its channels from `first` on. High
        frequencies have no means and no v. The edges of v are repeated.
        """
