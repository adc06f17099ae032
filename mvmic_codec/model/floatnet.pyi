"""3x3 convolutions of floats in C, by 16-bit products: for encoders, which may do as they like.

A map is that of `synthnet`. *Floats* are float32 [h,w,stride_of(channels)]. Every call computes the
rows `first` to `first` + `count` - 1 of its result, and releases the GIL. Arrays that do not fit
together, or ranges that are not there, raise ValueError.
"""

import numpy as np
import numpy.typing as npt

Shorts = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]

INPUT_MAX: int  # of what a layer takes

def narrow(
    floats: Floats, scale: float, relu: bool, maps: Shorts, first: int, count: int, path: str
) -> None:
    """A map of floats times `scale`, rounded and clamped to +-INPUT_MAX; no less than 0 if relu."""

class FloatConv:
    """A 3x3 layer.

    weight  int16 [O,I,3,3]; OverflowError for weights whose sums might exceed 32 bits
    unit    float32 [O], what 1 of the weights of an output stands for
    bias    float32 [O]
    path    one of `synthnet.usable_paths()`
    """

    def __init__(self, weight: Shorts, unit: Floats, bias: Floats, path: str) -> None: ...
    def run(
        self, maps: Shorts, scale: float, add: bool, floats: Floats, first: int, count: int
    ) -> None:
        """The layer's results for a map that `narrow` made with `scale`; added if `add`.

        `count` and the number of columns are even.
        """
