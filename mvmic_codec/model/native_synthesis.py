"""Synthesis in C, on the CPU: the layers of csrc/common/synthesis.h with a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.model.definition import COLOUR_MATRIX, GRAY_MATRIX
from mvmic_codec.model.synthnet import Conv, Enter8, Enter16, Leave8, Linear, Rotation

Array = npt.NDArray[Any]
# Bits that streams are shifted by before a residual block of a body, and of the post-filter.
BODY_SHIFT, POST_SHIFT = 3, 2


@dataclass(frozen=True)
class Block:
    """The two layers of a residual block."""

    first: Conv
    second: Conv


@dataclass(frozen=True)
class RateLayers:
    """The layers that depend on the rate."""

    enter16: Enter16
    enter8: Enter8
    retouch_enter: Conv


class NativeSynthesis:
    """The arrays of `arrays.synthesis_arrays`, ready to compute.

    near_luma, near_chroma  as in `shape.Shape`
    path                    one of `synthnet.usable_paths()`

    Raises OverflowError for weights whose sums might not fit, ValueError for others that are wrong,
    and KeyError for one that is missing.
    """

    def __init__(
        self, arrays: Mapping[str, Array], near_luma: int, near_chroma: int, path: str
    ) -> None:
        self.path = path
        self._arrays = a = arrays
        self.planes = len(a["leave.bias"]) // 64
        self.channels16, self.channels8 = len(a["enter.weight"]), len(a["inject.weight"])
        self.channels2 = len(a["retouch.enter.weight"])
        self.rotation = Rotation(a["luma"], a["chroma"], near_luma, near_chroma, path)
        self.dct, self.borders = a["dct"], a["borders"]
        self.linear = Linear(self.dct, self.borders, path)
        self.body16, self.body8 = self._blocks("body16"), self._blocks("body8")
        self.leave8 = Leave8(
            pointwise(a["leave.weight"]), a["leave.bias"], a["leave.multiplier"], path
        )
        self.retouch = self._block("retouch", POST_SHIFT)
        self.retouch_leave = self._conv("retouch.leave", POST_SHIFT)
        matrix = COLOUR_MATRIX if self.planes == 3 else GRAY_MATRIX
        self.matrix: Array = np.array(matrix, np.int32)
        self.at_rate = lru_cache(maxsize=4)(self._at_rate)

    def _blocks(self, name: str) -> list[Block]:
        count = sum(k.startswith(name) and k.endswith("first.bias") for k in self._arrays)
        return [self._block(f"{name}.{k}", BODY_SHIFT) for k in range(count)]

    def _block(self, name: str, shift: int) -> Block:
        return Block(self._conv(f"{name}.first", shift), self._conv(f"{name}.second", 0))

    def _conv(self, name: str, shift: int) -> Conv:
        a = self._arrays
        bias, multiplier = a[f"{name}.bias"], a[f"{name}.multiplier"]
        weight = a[f"{name}.weight"]
        return Conv(weight, bias, multiplier, np.zeros_like(bias), shift, self.path)

    def _at_rate(self, rate: int) -> RateLayers:
        a, path = self._arrays, self.path
        enter16 = Enter16(
            pointwise(a["enter.weight"]),
            a["enter.bias"],
            a["enter.multiplier"][rate],
            a["enter.offset"][rate],
            a["enter.scale"],
            path,
        )
        enter8 = Enter8(
            pointwise(a["up.weight"]),
            pointwise(a["inject.weight"]),
            a["up.multiplier"][rate],
            a["inject.multiplier"][rate],
            a["up.offset"][rate],
            path,
        )
        offset = a["retouch.enter.offset"][rate]
        retouch_enter = Conv(
            a["retouch.enter.weight"],
            np.zeros_like(offset),
            a["retouch.enter.multiplier"][rate],
            offset,
            0,
            path,
        )
        return RateLayers(enter16, enter8, retouch_enter)


def pointwise(weight: Array) -> Array:
    """[O,I,1,1] -> [O,I]."""
    return weight[:, :, 0, 0]
