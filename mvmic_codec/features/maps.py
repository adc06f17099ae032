"""`Features`: maps of decoded images, and what a task needs to know about them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.errors import InputError

# What a caller gets who names no maps.
DEFAULT_MAPS = ("s16",)


@dataclass(frozen=True)
class Features:
    """Features of N images of one size, from files of one model.

    maps          by name, float32 [N,C,ceil(H/stride),ceil(W/stride)] in the order asked for:
                  s16           output of the synthesis body at 1/16, 224 channels
                  s8            output of the synthesis body at 1/8, 128 channels
                  coefficients  dequantised DCT coefficients at 1/16, 256 channels for each plane
                  Each channel is normalised by its mean and standard deviation over training
                  images at that rate, and clamped to -8..8.
    size          height and width of the images in samples
    rate_indices  of the N files, each 0 to 63
    fingerprint   the model that wrote the files, 8 bytes. Features of two models have nothing to
                  do with each other, even where they have as many channels.
    flat          bool [N,H,W], True where flat areas are painted over the decoded picture. The
                  maps know little or nothing of what the image shows there.
    """

    maps: OrderedDict[str, Tensor]
    size: tuple[int, int]
    rate_indices: tuple[int, ...]
    fingerprint: bytes
    flat: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rate_indices)

    def __getitem__(self, name: str) -> Tensor:
        """The map of this name. Raises InputError if it was not asked for."""
        if name not in self.maps:
            raise InputError(
                f"these features have no map {name!r}, but {', '.join(self.maps)}: name it when "
                "they are decoded"
            )
        return self.maps[name]

    @property
    def strides(self) -> dict[str, int]:
        """Samples of the image for each element of a map, by the name of the map."""
        return {name: STRIDES[name] for name in self.maps}

    def to(self, device: str | torch.device) -> Features:
        """The same with maps on another device."""
        maps = OrderedDict((name, each.to(device)) for name, each in self.maps.items())
        return Features(maps, self.size, self.rate_indices, self.fingerprint, self.flat)

    def numpy(self) -> dict[str, npt.NDArray[np.float32]]:
        """The maps as numpy arrays."""
        return {name: each.cpu().numpy() for name, each in self.maps.items()}

    def for_compressai_vision(self) -> dict[str, Any]:
        """The maps in the form that CompressAI-Vision hands to the second part of a network."""
        return {"data": dict(self.maps), "input_size": [self.size] * len(self)}


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of maps without repeats, in the order given. Raises InputError for others or none."""
    if isinstance(names, str):
        names = (names,)
    known = ", ".join(STRIDES)
    if not names:
        raise InputError(f"no feature maps are named; give some of {known}")
    for name in names:
        if name not in STRIDES and "," in name:
            raise InputError(
                f"there is no feature map {name!r}: name each by itself, on the command line by "
                f"{' '.join(f'--map {each.strip()}' for each in name.split(','))}"
            )
        if name not in STRIDES:
            raise InputError(f"there is no feature map {name!r}; there are {known}")
    return tuple(dict.fromkeys(names))


# Networks learn from features, whatever mode the caller is in.
@torch.inference_mode(False)
def stacked(features: Sequence[Features]) -> Features:
    """Features of several images as one batch. Raises InputError if they do not go together."""
    if not features:
        raise InputError("there are no features to stack; give at least one file")
    first = features[0]
    for other in features[1:]:
        if other.fingerprint != first.fingerprint:
            raise InputError(
                "features of gray and colour images, or of two models, cannot be in one batch"
            )
        if other.size != first.size:
            raise InputError(
                f"features of images of {first.size[1]}x{first.size[0]} and "
                f"{other.size[1]}x{other.size[0]} cannot be in one batch; batch equal sizes"
            )
        if list(other.maps) != list(first.maps):
            raise InputError("features with different maps cannot be in one batch")
    return Features(
        OrderedDict((name, torch.cat([each[name] for each in features])) for name in first.maps),
        first.size,
        tuple(index for each in features for index in each.rate_indices),
        first.fingerprint,
        np.concatenate([each.flat for each in features]),
    )
