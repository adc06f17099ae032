"""Where the time of decoding goes: ANS, entropy networks, synthesis; by the paths of C.

    python benchmarks/decode_profile.py

skimage's fundus photograph at 1024x1024 in colour and in gray, one thread, the median of several
rounds in which the ways take turns. The time of the processor counts, not that of the clock. The
entropy path is everything between the payload and the latent; what is left is synthesis, colour and
rounding.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace
from unittest import mock

import numpy as np
from PIL import Image
from skimage import data

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder import decode
from mvmic_codec.decoder.reconstruct import Levels, reconstruct
from mvmic_codec.model import intnet, synthnet
from mvmic_codec.model.arrays import entropy_arrays, read_arrays, synthesis_arrays
from mvmic_codec.model.decoding import DecodingModel
from mvmic_codec.model.identity import find_identity, model_identity
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.native_synthesis import NativeSynthesis

SIDE = 1024
ROUNDS = 7
QUALITIES = (1, 3, 5, 8)


SAMPLES = Levels(0, 255, np.dtype(np.uint8))


class Stopwatch(Unpacker):
    """An unpacker that knows how long it took."""

    seconds = 0.0

    def next(self, indices: np.ndarray, second: int = 0) -> np.ndarray:
        start = time.process_time()
        symbols = super().next(indices, second)
        Stopwatch.seconds += time.process_time() - start
        return symbols


def ways(gray: bool) -> dict[str, DecodingModel]:
    """The released model by each path of synthesis but the portable one, which takes ten times as
    long; the entropy model by the same path if it has it.
    """
    _, fingerprint = model_identity(gray)
    released = decode.load(fingerprint)
    arrays = read_arrays(*find_identity(fingerprint))
    entropy, synthesis, shape = entropy_arrays(arrays), synthesis_arrays(arrays), released.shape
    out = {}
    for path in synthnet.usable_paths()[1:] or synthnet.usable_paths():
        usable = intnet.usable_paths()
        for_entropy = path if path in usable else usable[-1]
        out[path] = replace(
            released,
            entropy=NativeEntropy(entropy, shape.rotate, for_entropy),
            synthesis=NativeSynthesis(synthesis, shape.near_luma, shape.near_chroma, path),
        )
    return out


def parts(model: DecodingModel, payload: bytes, rate: int) -> tuple[float, float, float]:
    """Seconds of ANS, of the entropy networks and of the rest."""
    size = (SIDE, SIDE)
    Stopwatch.seconds = 0.0
    start = time.process_time()
    latent, modes = decode.decode_symbols(model, payload, rate, size)
    middle = time.process_time()
    reconstruct(model.synthesis, latent, modes, rate, size, SAMPLES)
    end = time.process_time()
    return Stopwatch.seconds, middle - start - Stopwatch.seconds, end - middle


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    decode.Unpacker = Stopwatch  # type: ignore[misc]
    picture = Image.fromarray(np.asarray(data.retina())).resize((SIDE, SIDE))
    print(
        "| image | q | bpp | path | ANS ms | networks ms | synthesis ms | all ms | entropy path |"
    )
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|")
    for kind, mode in (("colour", "RGB"), ("gray", "L")):
        models = ways(gray=mode == "L")
        for quality in QUALITIES:
            # Flat areas would leave less to decode.
            with mock.patch("mvmic_codec.encoder.flat_search.find", return_value=[]):
                coded = mvmic_codec.encode(picture.convert(mode), quality=quality, device="cpu")
            whole = container.Reader(coded)
            times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
            for _ in range(ROUNDS):
                for name, each in models.items():
                    times[name].append(parts(each, whole.tile().payload, whole.header.rate_index))
            for name, rows in times.items():
                ans, nets, rest = (
                    1000 * statistics.median(column) for column in zip(*rows, strict=True)
                )
                total = ans + nets + rest
                print(
                    f"| {kind} | {quality} | {8 * len(coded) / SIDE**2:.3f} | {name} | {ans:.1f} "
                    f"| {nets:.0f} | {rest:.0f} | {total:.0f} | {(ans + nets) / total:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
