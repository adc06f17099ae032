"""What decoders will make of an image, from what its encoder holds: nothing is parsed for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.bitstream.grid import BLOCK, Box
from mvmic_codec.decoder.reconstruct import Levels, Slab, put, reconstruct, synthesise_parts
from mvmic_codec.model.definition import COEFFICIENT_BITS, STREAM_MAX
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.model.team import Team

# Samples that are finer than those of any image.
FINE = Levels(0, 2**16 - 1, np.dtype(np.uint16))


def planes_of_latent(net: NativeSynthesis, latent: Tensor, modes: Tensor, rate: int) -> Tensor:
    """Planes [1,P,16h,16w] in 0..1, before samples are rounded, on the device of the latent.

    latent is int16 [1,h,w,C] in eighths, modes are [1,h,w].
    """
    y, mode = latent[0].cpu().numpy(), as_modes(modes)
    size = BLOCK * mode.shape[0], BLOCK * mode.shape[1]
    return as_planes(reconstruct(net, y, mode, rate, size, FINE)).to(latent.device)


def planes_of_coefficients(
    net: NativeSynthesis, coefficients: Tensor, modes: Tensor, rate: int
) -> Tensor:
    """As `planes_of_latent`, from coefficients [1,256P,h,w] as analysis gives them."""
    eighths = torch.floor(coefficients[0] * 2**COEFFICIENT_BITS + 0.5)
    limited = eighths.clamp(-STREAM_MAX - 1, STREAM_MAX).to(torch.int16)
    x, mode = limited.permute(1, 2, 0).cpu().numpy(), as_modes(modes)
    size = BLOCK * mode.shape[0], BLOCK * mode.shape[1]
    whole = np.empty((*size, net.planes), FINE.type)
    with Team() as team:
        synthesise_parts(
            net,
            team,
            [Slab(mode, lambda rows, columns: np.ascontiguousarray(x[rows, columns]))],
            Box(0, 0, *mode.shape),
            rate,
            Box(0, 0, *size),
            FINE,
            partial(put, whole),
        )
    return as_planes(whole).to(coefficients.device)


def as_modes(modes: Tensor) -> npt.NDArray[np.uint8]:
    """Modes [1,h,w] of any type -> [h,w]."""
    out: npt.NDArray[np.uint8] = modes[0].to(torch.uint8).cpu().numpy()
    return out


def as_planes(samples: npt.NDArray[Any]) -> Tensor:
    """Samples [H,W,P] of FINE -> planes [1,P,H,W] in 0..1."""
    planes = samples.transpose(2, 0, 1).astype(np.float32, order="C") / np.float32(FINE.hi)
    return torch.from_numpy(planes)[None]
