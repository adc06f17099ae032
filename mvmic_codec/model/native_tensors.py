"""`NativeEntropy` for encoders, which compute with tensors: the face of `IntegerEntropy`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.model.integer import EntropyArrays
from mvmic_codec.model.native import Array, NativeEntropy
from mvmic_codec.model.schedule import Coder, ModeCoder, NextSymbols


class NativeTensors(EntropyArrays):
    """The entropy model evaluated by C, for one image on the CPU, in and out by tensors."""

    def __init__(self, native: NativeEntropy) -> None:
        super().__init__(native.arrays, native.rotate, torch.device("cpu"))
        self.native = native

    def code(
        self,
        z: Tensor,
        rate: int,
        inside: Tensor,
        mode_coder: ModeCoder[Tensor],
        coder: Coder[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """As `IntegerEntropy.code`, but for a batch of one; ValueError for another.

        The coder gets table indices as uint8 and means as int32.
        """
        if len(z) != 1:
            raise ValueError(f"C takes images one by one, not {len(z)}")

        def code_modes(half: int, index: Array) -> Array:
            # Tensors of uint8 are no indices.
            modes: Array = mode_coder(half, torch.from_numpy(index).long()[None])[0].numpy()
            return modes

        def code_group(
            number: int, index: Array, mean: Array, predicted: Array, scores: Callable[[], Array]
        ) -> Array:
            symbols = coder(
                number,
                torch.from_numpy(index)[None],
                torch.from_numpy(mean)[None],
                torch.from_numpy(predicted)[None],
                lambda: torch.from_numpy(scores())[None],
            )
            out: Array = symbols[0].to(torch.int16).contiguous().numpy()
            return out

        z_whole = z[0].to(torch.int32).numpy()
        return as_batch(self.native.code(z_whole, rate, inside.numpy(), code_modes, code_group))

    def decode_hyper(self, rate: int, size: tuple[int, int], next_symbols: NextSymbols) -> Tensor:
        """As `IntegerEntropy.decode_hyper`."""
        return torch.from_numpy(self.native.decode_hyper(rate, size, next_symbols))[None]

    def decode(
        self, z: Tensor, rate: int, inside: npt.NDArray[np.bool_], next_symbols: NextSymbols
    ) -> tuple[Tensor, Tensor]:
        """As `IntegerEntropy.decode`."""
        return as_batch(self.native.decode(z[0].numpy(), rate, inside, next_symbols))


def as_batch(arrays: tuple[Array, Array]) -> tuple[Tensor, Tensor]:
    """Arrays of an image as tensors of a batch of one."""
    first, second = (torch.from_numpy(each)[None] for each in arrays)
    return first, second
