"""The integer networks of the entropy model in C, layer by layer. For model/native.py alone.

A *map* is uint8 [h+2,w+2,stride_of(channels)], position by position, its outermost rows and columns
repeating their neighbours. Which paths there are depends on the processor; all give the same
integers. The GIL is released. Arrays must be contiguous and of the types given; ValueError if they
do not fit together.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Reals = npt.NDArray[np.float64]

ZERO: int
"""What is added to inputs that have a sign."""

def usable_paths() -> tuple[str, ...]:
    """Names of what this processor can do: "portable", "avx2", "vnni"; the fastest last."""

def fast_paths() -> tuple[str, ...]:
    """Those of them that are faster than doubles through torch; portable C is not."""

def stride_of(channels: int) -> int:
    """Bytes of one position of a map."""

class Layer:
    """A convolution with bias and shift: weight int8 [O,I,k,k], bias int32 [O], shift uint8 [O].

    `with_sign` picks the inputs that are stored with ZERO added. Raises OverflowError if a sum
    could leave 32 bits or for more than 4096 inputs, ValueError for anything else that is no layer.
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
    def map(self, maps: Bytes) -> Bytes:
        """Results clamped to 0..255, as a map."""

    def sums(self, maps: Bytes) -> Ints:
        """Results as they are, [h,w,O]."""

def repeat_edges(maps: Bytes) -> None:
    """Fill in the outermost rows and columns of a map."""

def merge(features: Bytes, width: int, q: Ints, compand: Bytes, with_sign: bool) -> Bytes:
    """A map of `width` features and of companded q [n,h,w].

    These are, with_sign, n values with ZERO added and n magnitudes, else n magnitudes.
    """

def predict(levels: Reals, weight: Reals, out: Reals, path: str) -> None:
    """Add to out [h,w,O] what weight [9,I,O] makes of levels [h+2,w+2,I]."""

class Part:
    """What belongs to the n channels of a part.

    site uint8 [n]; base, step, gain int32 [n]; base_mode int16 [8,n]; aligned uint8 [8,n];
    mode and inside uint8 [4,h,w]. Far parts have no gain and no aligned.
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
        """Table indices [n,h,w] from the sums [h,w,n] of a `scales` layer."""

    def scores(self, sums: Ints) -> npt.NDArray[np.int16]:
        """What `indices` are made of before modes add their part, in sixteenths, [n,h,w]."""

    def means(self, linear: Reals, sums: Ints) -> tuple[Ints, Ints]:
        """Means [n,h,w] from a linear prediction and the sums of a `means` layer, [h,w,n].

        And what the prediction gives of them in a mode that is aligned, [n,h,w].
        """

    def dequantise(
        self,
        symbols: npt.NDArray[np.int16],
        means: Ints | None,
        latent: npt.NDArray[np.float32],
    ) -> tuple[Ints, Reals | None]:
        """Q [n,h,w] and, of near parts (which have means), V [h+2,w+2,n] with its edges repeated.

        Fills in this pass's sites of latent [n,2h,2w].
        """
