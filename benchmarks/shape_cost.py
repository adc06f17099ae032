"""What a model shape costs to decode: multiply-adds and milliseconds for one megapixel.

    python benchmarks/shape_cost.py '{}' '{"width8": 64, "blocks8": 2, "width16": 160}'

Weights are random: the time of the networks does not depend on them. The shapes take turns, and the
median of each is given, so that a busy machine slows them alike.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch

from mvmic_codec.model.complexity import decode_macs, encode_macs
from mvmic_codec.model.integer import IntegerEntropy
from mvmic_codec.model.integerise import integerise
from mvmic_codec.model.model import Model, Shape

SIDE = 1024
ROUNDS = 5


class Decoder:
    """The networks of a decoder, timed apart."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        model = Model(shape).eval().requires_grad_(False)
        self.blocks, self.synthesis = model.blocks, model.synthesis
        arrays = integerise(model.entropy)
        self.entropy = IntegerEntropy(arrays, shape.rotate, torch.device("cpu"))
        self.times: dict[str, list[float]] = {"entropy": [], "synthesis": []}

    @torch.inference_mode()
    def run(self) -> None:
        shape = self.shape
        start = time.perf_counter()
        latent, modes = self.entropy.code(
            torch.zeros(1, shape.hyper, SIDE // 64, SIDE // 64),
            31,
            torch.ones(SIDE // 16, SIDE // 16, dtype=torch.bool),
            lambda half, index: torch.zeros_like(index[:, :, 0], dtype=torch.int64),
            lambda part, index, *_: torch.zeros_like(index),
        )
        middle = time.perf_counter()
        self.synthesis(self.blocks.inverse(latent, modes), modes, torch.tensor([31]))
        self.times["entropy"].append(middle - start)
        self.times["synthesis"].append(time.perf_counter() - middle)


def main(shapes: list[Shape]) -> None:
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
