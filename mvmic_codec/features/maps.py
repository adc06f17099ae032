"""`Features`: maps of decoded images, and what a task needs to know about them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.stripes import STRIDES
from mvmic_codec.errors import InputError, needs_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = npt.NDArray[np.float32]
# What a caller gets who names no maps.
DEFAULT_MAPS = ("s16",)


@dataclass(frozen=True)
class Features:
    """Features of N images of one size, from files of one model.

    arrays        by name, float32 [N,C,ceil(H/stride),ceil(W/stride)] in the order asked for; of
                  numpy, or tensors where a device of torch decoded:
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

    arrays: Mapping[str, Array | Tensor]
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

    # Networks learn from features, whatever mode the caller is in.
    @cached_property
    def maps(self) -> OrderedDict[str, Tensor]:
        """The maps as tensors. Raises MvmError without torch; `arrays` and `numpy` need none."""
        with needs_torch("turning features into tensors"):
            import torch

        with torch.inference_mode(False):
            return OrderedDict(
                (name, torch.from_numpy(each) if isinstance(each, np.ndarray) else each)
                for name, each in self.arrays.items()
            )

    @property
    def strides(self) -> dict[str, int]:
        """Samples of the image for each element of a map, by the name of the map."""
        return {name: STRIDES[name] for name in self.arrays}

    def to(self, device: str | torch.device) -> Features:
        """The same with maps on another device."""
        maps = OrderedDict((name, each.to(device)) for name, each in self.maps.items())
        return Features(maps, self.size, self.rate_indices, self.fingerprint, self.flat)

    def numpy(self) -> dict[str, Array]:
        """The maps as numpy arrays."""
        return {
            name: each if isinstance(each, np.ndarray) else each.cpu().numpy()
            for name, each in self.arrays.items()
        }

    def for_compressai_vision(self) -> dict[str, Any]:
        """The maps in the form that CompressAI-Vision hands to the second part of a network."""
        return {"data": dict(self.maps), "input_size": [self.size] * len(self)}


def check_coded(header: Header) -> None:
    """Raise InputError for an image that no model coded: it has no features."""
    if header.indexed:
        raise InputError(
            "an image of 1 bit or with a palette is coded without a model and has no features; "
            "encode it after image.convert('L') or image.convert('RGB')"
        )


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
        if list(other.arrays) != list(first.arrays):
            raise InputError("features with different maps cannot be in one batch")
    return Features(
        {name: _joined([each.arrays[name] for each in features]) for name in first.arrays},
        first.size,
        tuple(index for each in features for index in each.rate_indices),
        first.fingerprint,
        np.concatenate([each.flat for each in features]),
    )


def _joined(maps: Sequence[Array | Tensor]) -> Array | Tensor:
    if all(isinstance(each, np.ndarray) for each in maps):
        joined: Array = np.concatenate(maps)
        return joined
    import torch

    with torch.inference_mode(False):
        return torch.cat([torch.as_tensor(each) for each in maps])
