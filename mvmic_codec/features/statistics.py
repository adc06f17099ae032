"""Means and standard deviations of feature maps over training images, by model, map and rate.

benchmarks/training/feature_statistics.py measures them and writes weights/FINGERPRINT.safetensors.
They are no part of a model: neither files nor pixels depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mvmic_codec.errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"
# Normalised features are clamped to this on either side: a few lie tens of deviations away, which
# networks that learn from them do not stand.
LIMIT = 8.0


@dataclass(frozen=True)
class Statistics:
    """Statistics of one model's maps.

    rates      K rate indices at which they were measured, in ascending order, the first 0 and the
               last 63
    mean       [K,C] by the name of a map
    deviation  [K,C] by the name of a map, positive
    """

    rates: list[int]
    mean: dict[str, Tensor]
    deviation: dict[str, Tensor]

    def normalise(self, name: str, values: Tensor, rate: int) -> None:
        """Normalise a map [1,C,h,w] of a file at a rate index, in place."""
        mean, deviation = (
            self.at(rate, table[name]).to(values.device)[:, None, None]
            for table in (self.mean, self.deviation)
        )
        values.sub_(mean).div_(deviation).clamp_(-LIMIT, LIMIT)

    def at(self, rate: int, table: Tensor) -> Tensor:
        """The row [C] of a table [K,C] at a rate index, between rows on a straight line."""
        above = next(k for k, each in enumerate(self.rates) if each >= rate)
        below = max(0, above - 1)
        span = self.rates[above] - self.rates[below]
        share = (rate - self.rates[below]) / span if span else 0.0
        return torch.lerp(table[below], table[above], share)


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
        )
    except (OSError, SafetensorError, LookupError) as error:
        raise ModelError(
            f"the statistics of features in {path.name} are damaged: install mvmic_codec again"
        ) from error
