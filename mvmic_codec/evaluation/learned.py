"""Learned peers: three models of the CompressAI package, with weights from a folder.

bmshj2018-hyperprior is the scale hyperprior of Ballé et al. (2018), MBT2018-Mean the mean and scale
hyperprior of Minnen, Ballé and Toderici (2018), Cheng2020-Anchor the model of Cheng et al. (2020)
without attention; all with 128 channels. `benchmarks/training/learned_peer.py` trains them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation import require
from mvmic_codec.evaluation.codec import Codec, Setting

CHANNELS = 128
# Of the latent of the two hyperpriors, as CompressAI has it for 128 channels.
_LATENT = 192
# All reduce an image 64 times, down to the hyper-latent.
_REDUCTION = 64
# Number of the model, width, height, length of the first of two strings: the least a file needs.
_HEADER = struct.Struct("<BHHI")


def make(name: str) -> Any:
    """A fresh model, one of LEARNED. MvmError without CompressAI."""
    require("compressai", extra="learned")
    from compressai.models import Cheng2020Anchor, MeanScaleHyperprior, ScaleHyperprior

    if name == "bmshj2018-hyperprior":
        return ScaleHyperprior(CHANNELS, _LATENT)
    if name == "mbt2018-mean":
        return MeanScaleHyperprior(CHANNELS, _LATENT)
    return Cheng2020Anchor(CHANNELS)


def weights_path(folder: Path, name: str, price: float) -> Path:
    """The file with the weights of a model that was trained at this price of an error (lambda)."""
    return folder / f"{name}-{price:.4f}.pt"


def learned(name: str, folder: Path | None) -> Codec:
    """One of LEARNED at every price that the folder has weights for; the setting is the price.

    Gray images are coded as colour with three equal channels. Raises InputError if there are no
    weights or such as do not fit, MvmError without CompressAI.
    """
    if folder is None:
        raise InputError(f"{name} needs a folder of weights: give one by --learned")
    paths = sorted(folder.glob(f"{name}-*.pt"))
    if not paths:
        raise InputError(f"{folder} holds no weights of {name}, such as {name}-0.0130.pt")
    prices = [path.stem.removeprefix(f"{name}-") for path in paths]
    models = [_load(name, path) for path in paths]
    settings = [
        Setting(price, partial(_encode, models, number)) for number, price in enumerate(prices)
    ]
    return Codec(name, deep=False, curves=lambda gray: [settings], decode=partial(_decode, models))


def _load(name: str, path: Path) -> Any:
    model = make(name)
    try:
        model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["model"])
    except Exception as error:
        raise InputError(f"{path} holds no weights of {name}: {error}") from None
    model.eval().update(force=True)
    return model


@torch.inference_mode()
def _encode(models: Sequence[Any], number: int, image: Image.Image) -> bytes:
    pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    planes = torch.from_numpy(pixels.astype(np.float32) / 255)[None]
    below, right = (-side % _REDUCTION for side in planes.shape[2:])
    planes = F.pad(planes, (0, right, 0, below), mode="replicate")
    strings: list[list[bytes]] = models[number].compress(planes)["strings"]
    (first,), (second,) = strings
    return _HEADER.pack(number, image.width, image.height, len(first)) + first + second


@torch.inference_mode()
def _decode(models: Sequence[Any], data: bytes) -> Image.Image:
    number, width, height, length = _HEADER.unpack_from(data)
    strings = data[_HEADER.size :]
    shape = (-(-height // _REDUCTION), -(-width // _REDUCTION))
    both = [[strings[:length]], [strings[length:]]]
    planes = models[number].decompress(both, shape)["x_hat"][0]
    pixels = (planes[:, :height, :width].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
