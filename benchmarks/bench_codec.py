"""Times of whole images: encoding and decoding beside other codecs at equal PSNR, and a cold start.

    export MVMIC_BENCH_MEGAPIXELS="0.25 1 4"
    python -m pytest benchmarks/bench_codec.py --benchmark-enable \\
        --benchmark-group-by=group --benchmark-columns=median,iqr,rounds

Without sizes it is a smoke run of 0.06 megapixels. The image is a fundus photograph (scikit-image),
quality 3; peers get the setting that comes nearest to its PSNR from above. AVIF is at its default
speed, 6, and at 4, HEIC at its default preset, JPEG XL at its default effort, 7. Peers that are
not installed are skipped. CompressAI's two models, N = 128, have random weights: what their
networks and coders take hardly depends on them.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import AvifImagePlugin, Image, features
from skimage import data

import mvmic_codec
from mvmic_codec.evaluation.metrics import psnr

MEGAPIXELS = [float(x) for x in os.environ.get("MVMIC_BENCH_MEGAPIXELS", "0.0625").split()]
QUALITY = 3
PILLOW = ("mvm", "avif", "avif speed 4", "heic", "jxl")
LEARNED = ("mbt2018-mean", "cheng2020-anchor")
THUMBNAIL = (128, 128)


@cache
def photograph(megapixels: float) -> Image.Image:
    side = round(1024 * megapixels**0.5)
    return Image.fromarray(np.asarray(data.retina())).resize((side, side), Image.Resampling.LANCZOS)


@pytest.fixture(params=[1, 2])
def threads(request, monkeypatch) -> Iterator[int]:
    monkeypatch.setenv("OMP_NUM_THREADS", str(request.param))
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def options_of(codec: str, threads: int) -> tuple[str, dict[str, Any]]:
    """Pillow's format and options of a codec, all but its quality."""
    if codec == "mvm":
        return "MVM", {}
    if codec.startswith("avif"):
        if not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        AvifImagePlugin.DEFAULT_MAX_THREADS = threads  # of decoding
        speed = 4 if codec.endswith("4") else 6
        advanced = {"tune": "psnr"}
        return "AVIF", {
            "subsampling": "4:4:4",
            "speed": speed,
            "advanced": advanced,
            "max_threads": threads,
        }
    if codec == "heic":
        heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        heif.register_heif_opener(decode_threads=threads)
        pools = "none" if threads == 1 else str(threads)
        return "HEIF", {"enc_params": {"chroma": "444", "tune": "psnr", "x265:pools": pools}}
    pytest.importorskip("pillow_jxl", reason="pillow-jxl-plugin is not installed")
    from pillow_jxl import JpegXLImagePlugin

    # 0 is the calling thread alone.
    JpegXLImagePlugin.DECODE_THREADS = 0 if threads == 1 else threads
    return "JXL", {"num_threads": JpegXLImagePlugin.DECODE_THREADS}


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def opened(coded: bytes) -> Image.Image:
    with Image.open(io.BytesIO(coded)) as image:
        image.load()
        return image


@cache
def decibels(codec: str, megapixels: float, quality: int) -> float:
    image = photograph(megapixels)
    form, options = options_of(codec, 1)
    decoded = opened(saved(image, form, quality=quality, **options))
    return psnr(np.asarray(image), np.asarray(decoded))


@cache
def quality_of(codec: str, megapixels: float) -> int:
    """The least quality of a peer at which it has as many decibels as mvm."""
    if codec == "mvm":
        return QUALITY
    aim = decibels("mvm", megapixels, QUALITY)
    low, high = 0, 100
    while low < high:
        middle = (low + high) // 2
        if decibels(codec, megapixels, middle) >= aim:
            high = middle
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize("codec", PILLOW)
@pytest.mark.parametrize("megapixels", MEGAPIXELS)
def test_encode(benchmark, codec, megapixels, threads):
    benchmark.group = f"encode {megapixels:g} Mpx, {threads} thread(s)"
    image, quality = photograph(megapixels), quality_of(codec, megapixels)
    form, options = options_of(codec, threads)
    coded = benchmark(saved, image, form, quality=quality, **options)
    benchmark.extra_info["bytes"] = len(coded)
    benchmark.extra_info["psnr"] = decibels(codec, megapixels, quality)


@pytest.mark.parametrize("codec", PILLOW)
@pytest.mark.parametrize("megapixels", MEGAPIXELS)
def test_decode(benchmark, codec, megapixels, threads):
    benchmark.group = f"decode {megapixels:g} Mpx, {threads} thread(s)"
    image, quality = photograph(megapixels), quality_of(codec, megapixels)
    form, options = options_of(codec, threads)
    coded = saved(image, form, quality=quality, **options)
    assert benchmark(opened, coded).size == image.size


@pytest.mark.parametrize("codec", PILLOW)
def test_thumbnail(benchmark, codec):
    """From a file to a thumbnail; none of these formats decodes at a lower size here."""
    benchmark.group = f"thumbnail of {MEGAPIXELS[-1]:g} Mpx"
    quality = quality_of(codec, MEGAPIXELS[-1])
    form, options = options_of(codec, 1)
    coded = saved(photograph(MEGAPIXELS[-1]), form, quality=quality, **options)

    def thumbnail() -> Image.Image:
        image = Image.open(io.BytesIO(coded))
        image.thumbnail(THUMBNAIL)
        return image

    assert benchmark(thumbnail).size == THUMBNAIL


def compressai() -> ModuleType:
    reason = "compressai is not installed; see benchmarks/README.md"
    return pytest.importorskip("compressai.zoo", reason=reason)


@cache
def learned(name: str) -> Any:
    """One of CompressAI's models, N = 128, ready to code."""
    make: Callable[..., Any] = getattr(compressai(), name.replace("-", "_"))
    model = make(quality=3, pretrained=False).eval()
    model.update()
    return model


def planes_of(megapixels: float) -> torch.Tensor:
    side = photograph(megapixels).width // 64 * 64
    pixels = np.asarray(photograph(megapixels))[:side, :side]
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("megapixels", [m for m in MEGAPIXELS if m <= 1])  # minutes as it is
@torch.inference_mode()
def test_encode_learned(benchmark, name, megapixels, threads):
    benchmark.group = f"encode {megapixels:g} Mpx, {threads} thread(s)"
    model, planes = learned(name), planes_of(megapixels)
    assert benchmark.pedantic(model.compress, (planes,), rounds=1)["strings"]


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("megapixels", [m for m in MEGAPIXELS if m <= 1])  # minutes as it is
@torch.inference_mode()
def test_decode_learned(benchmark, name, megapixels, threads):
    benchmark.group = f"decode {megapixels:g} Mpx, {threads} thread(s)"
    model, planes = learned(name), planes_of(megapixels)
    coded = model.compress(planes)
    decoded = benchmark.pedantic(model.decompress, (coded["strings"], coded["shape"]), rounds=1)
    assert decoded["x_hat"].shape == planes.shape


@pytest.mark.parametrize("what", ["size", "load()"])
def test_cold_start(benchmark, tmp_path, what):
    """A new process that opens a file and asks for its size only, or has its pixels."""
    benchmark.group = "cold start"
    path: Path = tmp_path / "scan.mvm"
    path.write_bytes(mvmic_codec.encode(photograph(MEGAPIXELS[0]), quality=QUALITY))
    program = f"import sys, mvmic_codec, PIL.Image as I; I.open(sys.argv[1]).{what}"
    command = [sys.executable, "-c", program, path]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=3)
