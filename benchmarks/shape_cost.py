"""What a model shape costs to decode: multiply-adds and milliseconds for one megapixel.

    python benchmarks/shape_cost.py '{}' '{"width8": 64, "blocks8": 2, "width16": 160}'

Weights are random: the time of the networks does not depend on them. One thread, by the fastest
path of C; the time of the processor counts. The shapes take turns, and the median of each is given.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import numpy as np
import torch

from mvmic_codec.bitstream.grid import BLOCK, hyper_size
from mvmic_codec.decoder.reconstruct import Levels, reconstruct
from mvmic_codec.model import intnet, synthnet
from mvmic_codec.model.calibrate import ranges_of
from mvmic_codec.model.complexity import decode_macs, encode_macs
from mvmic_codec.model.integerise import integerise
from mvmic_codec.model.integerise_synthesis import integerise_synthesis
from mvmic_codec.model.model import Model
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.model.shape import Shape

SIDE = 1024
RATE = 31
SAMPLES = Levels(0, 255, np.dtype(np.uint8))
ROUNDS = 5


class Decoder:
    """The networks of a decoder, timed apart."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        model = Model(shape).eval().requires_grad_(False)
        self.entropy = NativeEntropy(
            as_numpy(integerise(model.entropy)), shape.rotate, intnet.usable_paths()[-1]
        )
        # Some channels of random networks are empty.
        ranges = ranges_of(model, [torch.rand(shape.planes, 64, 64)])
        ranges = {name: most.clamp_min(1) for name, most in ranges.items()}
        arrays, _ = integerise_synthesis(model.synthesis, model.blocks, ranges)
        self.synthesis = NativeSynthesis(
            as_numpy(arrays), shape.near_luma, shape.near_chroma, synthnet.usable_paths()[-1]
        )
        self.times: dict[str, list[float]] = {"entropy": [], "synthesis": []}

    def run(self) -> None:
        inside = np.ones((SIDE // BLOCK, SIDE // BLOCK), np.bool_)
        start = time.process_time()
        z = self.entropy.decode_hyper(RATE, hyper_size((SIDE, SIDE)), zeros)
        latent, modes = self.entropy.decode(z, RATE, inside, zeros)
        middle = time.process_time()
        reconstruct(self.synthesis, latent, modes, RATE, (SIDE, SIDE), SAMPLES)
        self.times["entropy"].append(middle - start)
        self.times["synthesis"].append(time.process_time() - middle)


def as_numpy(arrays: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in arrays.items()}


def zeros(indices: np.ndarray, second: int = 0) -> np.ndarray:
    """Symbols in place of an unpacker's."""
    return np.zeros(indices.shape, np.int16)


def main(shapes: list[Shape]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    decoders = [Decoder(shape) for shape in shapes]
    for round_number in range(ROUNDS + 1):
        for decoder in decoders:
            decoder.run()
            if round_number == 0:
                decoder.times = {name: [] for name in decoder.times}
    print("| shape | decode kMAC/px | encode kMAC/px | entropy ms/Mpx | synthesis ms/Mpx |")
    print("|---|---:|---:|---:|---:|")
    for decoder in decoders:
        shape = decoder.shape
        name = f"{shape.blocks8}x{shape.width8} at 1/8, {shape.blocks16}x{shape.width16} at 1/16"
        name += f", {shape.width2} at 1/2"
        ms = [1000 * statistics.median(times) for times in decoder.times.values()]
        print(
            f"| {name} | {decode_macs(shape) / 1000:.1f} | {encode_macs(shape) / 1000:.1f} "
            f"| {ms[0]:.0f} | {ms[1]:.0f} |"
        )


if __name__ == "__main__":
    main([Shape(**json.loads(argument)) for argument in sys.argv[1:]])
