"""Distortion between two images of integers: PSNR, of luma too, MS-SSIM, largest error.

Images are uint8 or uint16 arrays, [H, W] for gray and [H, W, 3] for RGB; colour counts all
three channels alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mvmic_codec.errors import InputError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Weights of R, G and B in the luma of BT.601.
_LUMA = np.array([0.299, 0.587, 0.114])

# Four halvings must leave a side that the 11 pixel window fits into.
_MS_SSIM_SIDE = 11 * 2**4


def peak_of(reference: Pixels) -> int:
    """Peak value for PSNR and MS-SSIM: 255 at 8 bits, the image's own range (at least 1) above.

    A 12-bit scan in 16-bit samples would gain 24 dB from a peak of 65535 and say nothing.
    """
    if reference.dtype == np.uint8:
        return 255
    return max(int(reference.max()) - int(reference.min()), 1)


def psnr(reference: Pixels, decoded: Pixels) -> float:
    """10 log10(peak^2 / mean squared error) in dB; infinite if the images are equal."""
    _check(reference, decoded)
    return _psnr(reference, reference.astype(np.float64) - decoded)


def luma_psnr(reference: Pixels, decoded: Pixels) -> float:
    """PSNR of luma by BT.601, which is not rounded; for gray images the same as `psnr`."""
    _check(reference, decoded)
    difference = reference.astype(np.float64) - decoded
    return _psnr(reference, difference if reference.ndim == 2 else difference @ _LUMA)


def _psnr(reference: Pixels, difference: npt.NDArray[np.float64]) -> float:
    error = float(np.mean(difference * difference))
    return math.inf if error == 0 else 10 * math.log10(peak_of(reference) ** 2 / error)


def max_error(reference: Pixels, decoded: Pixels) -> int:
    """Largest absolute difference of a sample."""
    _check(reference, decoded)
    return int(np.abs(reference.astype(np.int32) - decoded.astype(np.int32)).max())


def ms_ssim(reference: Pixels, decoded: Pixels) -> float:
    """MS-SSIM (Wang, Simoncelli, Bovik 2003) with its five scales, from torchmetrics.

    Colour is the mean over the channels. An image with a side under 176 pixels is first continued
    by its mirror image, both images alike, to 176 pixels on that side: five scales need as many.
    """
    _check(reference, decoded)
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as measure,
    )

    peak = peak_of(reference)
    lo = int(reference.min()) if reference.dtype == np.uint16 else 0
    return float(
        measure(_tensor(decoded, lo, peak), _tensor(reference, lo, peak), data_range=1.0).item()
    )


def _tensor(pixels: Pixels, lo: int, peak: int) -> Any:
    import torch

    planes = pixels if pixels.ndim == 3 else pixels[:, :, None]
    missing = [max(_MS_SSIM_SIDE - side, 0) for side in planes.shape[:2]]
    scaled = (planes.astype(np.float32) - lo) / peak
    scaled = np.pad(scaled, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    # A view with the channels last in memory, where torch's convolutions are twice as fast.
    return torch.from_numpy(scaled).permute(2, 0, 1)[None]


def _check(reference: Pixels, decoded: Pixels) -> None:
    if reference.shape != decoded.shape or reference.dtype != decoded.dtype:
        raise InputError(
            f"images of {reference.shape} {reference.dtype} and {decoded.shape} {decoded.dtype} "
            "cannot be compared"
        )
