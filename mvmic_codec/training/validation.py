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

# Whole images, as far as they go: small crops flatter us, since JPEG 2000 needs a long run-up.
VALIDATION_SIZE = 1024
VALIDATION_RATES = (0, 13, 26, 39, 52, 63)
JPEG2000_RATIOS = (400, 200, 100, 50, 25, 12, 6)


@dataclass
class Sample:
    """A validation image [C,h,w] in 0..1, cut at its centre; its JPEG 2000 curve (bpp, PSNR)."""

    kind: str
    planes: Tensor
    jpeg2000: list[tuple[float, float]]


def centre(image: np.ndarray, size: int = VALIDATION_SIZE) -> np.ndarray:
    """[C,size,size], or the largest multiple of 64 that fits."""
    _, height, width = image.shape
    h, w = (min(size, side // 64 * 64) for side in (height, width))
    top, left = (height - h) // 2, (width - w) // 2
    return image[:, top : top + h, left : left + w]


def jpeg2000_curve(planes: np.ndarray) -> list[tuple[float, float]]:
    """JPEG 2000 points of planes [C,h,w] in 0..1, taken as 8 bit."""
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
    """Decibels of a mean squared error on the 0 to 255 scale."""
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
    """Means over samples: log loss, hyper share, bpp and PSNR by rate, BD-rate by kind (%)."""
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
