"""Where the time of decoding goes: ANS, entropy networks, the rest; by C and by doubles.

    python benchmarks/decode_profile.py

skimage's fundus photograph at 1024x1024, one thread, the median of several rounds in which the ways
take turns. The entropy path is everything between the payload and the latent; what is left is
synthesis, colour and rounding.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder import decode
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.identity import find_identity, model_identity
from mvmic_codec.model.integer import IntegerEntropy
from mvmic_codec.model.loaded import ENTROPY, LoadedModel, load

SIDE = 1024
ROUNDS = 7
QUALITIES = (1, 3, 5, 8)


class Stopwatch(Unpacker):
    """An unpacker that knows how long it took."""

    seconds = 0.0

    def next(self, indices: np.ndarray, second: int = 0) -> np.ndarray:
        start = time.perf_counter()
        symbols = super().next(indices, second)
        Stopwatch.seconds += time.perf_counter() - start
        return symbols


def in_doubles(release: LoadedModel) -> LoadedModel:
    _, weights = find_identity(model_identity(gray=False)[1])
    arrays = {
        name[len(ENTROPY) :]: array
        for name, array in load_file(weights).items()
        if name.startswith(ENTROPY)
    }
    return replace(release, entropy=IntegerEntropy(arrays, release.shape.rotate, release.device))


def parts(release: LoadedModel, payload: bytes, rate: int) -> tuple[float, float, float]:
    """Seconds of ANS, of the entropy networks and of the rest."""
    size = (SIDE, SIDE)
    Stopwatch.seconds = 0.0
    with full_precision(release.device):
        start = time.perf_counter()
        latent, modes = decode.decode_symbols(release, payload, rate, size)
        middle = time.perf_counter()
        decode.reconstruct(release, latent, modes, rate, size, exact=False)
        end = time.perf_counter()
    return Stopwatch.seconds, middle - start - Stopwatch.seconds, end - middle


def main() -> None:
    torch.set_num_threads(1)
    decode.Unpacker = Stopwatch  # type: ignore[misc]
    release = load(model_identity(gray=False)[1], "cpu")
    native = f"C, {getattr(release.entropy, 'path', 'not used here')}"
    ways = {"doubles by torch": in_doubles(release), native: release}
    picture = Image.fromarray(np.asarray(data.retina())).resize((SIDE, SIDE))
    print("| q | bpp | entropy networks by | ANS ms | networks ms | rest ms | entropy path |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for quality in QUALITIES:
        coded = mvmic_codec.encode(picture, quality=quality, device="cpu")
        whole = container.read(coded)
        times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, each in ways.items():
                times[name].append(parts(each, whole.payload, whole.header.rate_index))
        for name, rows in times.items():
            ans, nets, rest = (
                1000 * statistics.median(column) for column in zip(*rows, strict=True)
            )
            share = (ans + nets) / (ans + nets + rest)
            print(
                f"| {quality} | {8 * len(coded) / SIDE**2:.3f} | {name} | {ans:.1f} | {nets:.0f} "
                f"| {rest:.0f} | {share:.0%} |"
            )


if __name__ == "__main__":
    main()
