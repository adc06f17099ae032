"""Validation: rate and quality on held-out images, and BD-rate against JPEG 2000 on the same."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mvmic_codec.evaluation.curves import bd_rate
from mvmic_codec.model.model import Model
from mvmic_codec.rate import lambda_of
from mvmic_codec.training.images import as_planes, is_gray

# Whole images where they fit. On small crops JPEG 2000 is weak, and we would look too good.
VALIDATION_SIZE = 1024
VALIDATION_RATES = (0, 13, 26, 39, 52, 63)
JPEG2000_RATIOS = (400, 200, 100, 50, 25, 12, 6)


@dataclass
class Sample:
    """The centre [C,h,w] of a validation image in 0..1, and its JPEG 2000 curve (bpp, PSNR)."""

    kind: str
    planes: Tensor
    jpeg2000: list[tuple[float, float]]


def centre(image: np.ndarray, size: int = VALIDATION_SIZE) -> np.ndarray:
    """The centre of an image [C,H,W]: `size` on a side, or the largest multiple of 64 that fits."""
    _, height, width = image.shape
    h, w = (min(size, side // 64 * 64) for side in (height, width))
    top, left = (height - h) // 2, (width - w) // 2
    return image[:, top : top + h, left : left + w]


def jpeg2000_curve(planes: np.ndarray) -> list[tuple[float, float]]:
    """JPEG 2000 points (bpp, PSNR) of planes [C,h,w] in 0..1, rounded to 8 bits."""
    gray = is_gray(planes)
    pixels = np.round(planes.transpose(1, 2, 0) * 255).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    curve = []
    for ratio in JPEG2000_RATIOS:
        buffer = io.BytesIO()
        ratio = ratio // 3 if gray else ratio
        image.save(
            buffer,
            "JPEG2000",
            irreversible=True,
            quality_layers=[ratio],
            mct=int(not gray),
            no_jp2=True,
        )
        decoded = np.asarray(Image.open(buffer)).astype(np.float64)
        mse = np.mean((decoded - np.asarray(image)) ** 2)
        curve.append((len(buffer.getvalue()) * 8 / planes[0].size, psnr(float(mse))))
    return curve


def psnr(mse255: float) -> float:
    """PSNR in dB of a mean squared error on the scale of 255."""
    return 10 * float(np.log10(255.0**2 / max(mse255, 1e-6)))


def make_samples(images: dict[str, list[np.ndarray]]) -> list[Sample]:
    """Samples of all validation images, given by kind."""
    samples = []
    for kind, pool in images.items():
        for image in pool:
            crop = centre(image)
            planes = as_planes(crop, len(crop))
            samples.append(Sample(kind, torch.from_numpy(planes), jpeg2000_curve(planes)))
    return samples


@torch.no_grad()
def validate(model: Model, samples: list[Sample]) -> dict[str, float]:
    """Means over samples.

    log_loss                    logarithm of bpp plus lambda times error, mean over rates as well
    hyper_share, mode_share     of the bits, that the hyper-latent and the modes take
    bd_jpeg2000_KIND            BD-rate against JPEG 2000 in percent, by kind of image
    KIND_bpp_R, KIND_psnr_R     by kind and rate index
    """
    rates = torch.tensor(VALIDATION_RATES)
    count = len(rates)
    lambdas = np.array([lambda_of(int(r)) for r in rates])
    logs: list[float] = []
    share: list[float] = []
    modes: list[float] = []
    gains: dict[str, list[float]] = {}
    curves: dict[str, list[np.ndarray]] = {}
    for sample in samples:
        planes = sample.planes[None].expand(count, -1, -1, -1)
        device = next(model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16):
            out = model(planes.to(device), rates.to(device))
        pixels = planes[0, 0].numel()
        error = out.error.cpu().numpy()
        bpp = (out.bits.cpu() / pixels).numpy()
        share.append(float((out.z_bits / out.bits).mean()))
        modes.append(float((out.mode_bits / out.bits).mean()))
        logs.append(float(np.log(bpp + lambdas * error).mean()))
        quality = [psnr(float(e)) for e in error]
        curves.setdefault(sample.kind, []).append(np.array([bpp, quality]))
        gain = bd_rate(sample.jpeg2000, list(zip(bpp.tolist(), quality, strict=True)))
        if gain is None:
            continue
        gains.setdefault(sample.kind, []).append(gain)
    result = {
        "log_loss": float(np.mean(logs)),
        "hyper_share": float(np.mean(share)),
        "mode_share": float(np.mean(modes)),
    }
    for kind, values in gains.items():
        result[f"bd_jpeg2000_{kind}"] = float(np.mean(values))
    for kind, pairs in curves.items():
        mean = np.mean(pairs, 0)
        for r, b, q in zip(VALIDATION_RATES, mean[0], mean[1], strict=True):
            result[f"{kind}_bpp_{r}"], result[f"{kind}_psnr_{r}"] = float(b), float(q)
    return result
