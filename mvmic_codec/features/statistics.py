"""Means and standard deviations of feature maps over training images, by model, map and rate.

benchmarks/training/feature_statistics.py measures them and writes weights/FINGERPRINT.safetensors.
They are no part of a model: neither files nor pixels depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mvmic_codec.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

Table = npt.NDArray[np.float32]
WEIGHTS = Path(__file__).parent / "weights"
# Normalised features are clamped to this on either side: a few lie tens of deviations away, which
# networks that learn from them do not stand.
LIMIT = 8.0


@dataclass(frozen=True)
class Statistics:
    """Statistics of one model's maps.

    rates      K rate indices at which they were measured, in ascending order, the first 0 and the
               last 63
    mean       float32 [K,C] by the name of a map
    deviation  float32 [K,C] by the name of a map, positive
    unit       float32 by the name of a map: what one integer of the map stands for
    """

    rates: list[int]
    mean: dict[str, Table]
    deviation: dict[str, Table]
    unit: dict[str, np.float32]

    def normalised(self, name: str, integers: Any, rate: int) -> Any:
        """A map of a file at a rate index [h,w,C] -> float32 [1,C,h,w], normalised.

        An array gives an array, a tensor a tensor on its device. Single operations in float32 give
        the same result on every machine.
        """
        tables = [self.at(rate, table[name]) for table in (self.mean, self.deviation)]
        if isinstance(integers, np.ndarray):
            values = integers.astype(np.float32) * self.unit[name]
            values -= tables[0]
            values /= tables[1]
            return np.ascontiguousarray(values.clip(-LIMIT, LIMIT).transpose(2, 0, 1))[None]
        mean, deviation = (integers.new_tensor(table) for table in tables)
        values = (integers.float() * float(self.unit[name]) - mean) / deviation
        return values.clamp_(-LIMIT, LIMIT).permute(2, 0, 1)[None].contiguous()

    def normalise(self, name: str, values: Tensor, rate: int) -> None:
        """Normalise a map of synthesis in floating point [1,C,h,w], in place."""
        mean, deviation = (
            values.new_tensor(self.at(rate, table[name]))[:, None, None]
            for table in (self.mean, self.deviation)
        )
        values.sub_(mean).div_(deviation).clamp_(-LIMIT, LIMIT)

    def at(self, rate: int, table: Table) -> Table:
        """The row [C] of a table [K,C] at a rate index, between rows on a straight line."""
        below = max(k for k, each in enumerate(self.rates[:-1]) if each <= rate)
        above = below + 1
        span = self.rates[above] - self.rates[below]
        share = np.float32((rate - self.rates[below]) / span)
        row: Table = table[below] + share * (table[above] - table[below])
        return row


@lru_cache(maxsize=4)
def load(fingerprint: bytes) -> Statistics:
    """The statistics of a model. Raises ModelError if they are missing or damaged."""
    path = WEIGHTS / f"{fingerprint.hex()}.safetensors"
    if not path.is_file():
        raise ModelError(
            f"this installation has no statistics of features of model {fingerprint.hex()}: "
            "install mvmic_codec again"
        )
    try:
        arrays = load_file(path)
        names = {name.partition(".")[0] for name in arrays} - {"rates"}
        return Statistics(
            arrays["rates"].tolist(),
            {name: arrays[f"{name}.mean"] for name in names},
            {name: arrays[f"{name}.deviation"] for name in names},
            {name: np.float32(arrays[f"{name}.unit"]) for name in names},
        )
    except (OSError, SafetensorError, LookupError, TypeError) as error:
        raise ModelError(
            f"the statistics of features in {path.name} are damaged: install mvmic_codec again"
        ) from error
