"""Speed of the kernels of synthesis: GMAC/s of its layers, milliseconds of the rest, by path.

    python benchmarks/synthesis_kernels.py [--torch]

One thread, CPU time, the best of several runs, on random integers. The shapes are those of the
model for colour on 1024x1024 pixels. 3x3 layers count the MACs of a direct sum. --torch adds
torch's float32 convolutions of the same shapes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mvmic_codec.model.synthnet import (
    Conv,
    Enter8,
    Enter16,
    Leave8,
    Linear,
    Rotation,
    quads,
    samples,
    stride_of,
    usable_paths,
)

REPEATS = 7
RNG = np.random.default_rng(0)
SIDE = 64  # positions at 1/16
CHANNELS = 320  # of y
CONVS = ((224, 224, 64), (128, 128, 128), (12, 32, 512), (32, 32, 512), (32, 12, 512))


def best(run: Callable[..., object], *arguments: object, **others: object) -> float:
    """CPU seconds of this thread, the least of REPEATS, after one that is not counted."""
    run(*arguments, **others)
    times = []
    for _ in range(REPEATS):
        start = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
        run(*arguments, **others)
        times.append(time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - start)
    return min(times)


def draw(kind: type, most: int, *shape: int) -> npt.NDArray[np.generic]:
    return RNG.integers(-most, most + 1, shape).astype(kind)


def map_of(channels: int, side: int, most: int = 8191) -> npt.NDArray[np.generic]:
    out = np.zeros((side + 2, side + 2, stride_of(channels)), np.int16)
    out[1:-1, 1:-1, :channels] = draw(np.int16, most, side, side, channels)
    return out


def scales(*shape: int) -> npt.NDArray[np.generic]:
    return draw(np.int32, 2**18, *shape)


def report(path: str, what: str, seconds: float, macs: float = 0) -> None:
    speed = f"{macs / seconds / 1e9:8.1f} GMAC/s" if macs else ""
    print(f"{path:9}{what:28}{seconds * 1e3:9.2f} ms{speed}", flush=True)


def convolutions(path: str) -> None:
    for inputs, outputs, side in CONVS:
        none = np.zeros(outputs, np.int32)
        weight = draw(np.int8, 20, outputs, inputs, 3, 3)
        macs = 9 * inputs * outputs * side**2
        shape = f"{inputs}->{outputs} at {side}x{side}"
        maps = map_of(inputs, side, 4095)
        if outputs == 12:
            leave = Conv(weight, none, scales(outputs), none, 2, path)
            planes = draw(np.int32, 2**20, 3, 2 * side, 2 * side)
            report(path, f"leave {shape}", best(leave.leave, maps, planes, 0, side), macs)
            continue
        out = map_of(outputs, side)
        for shift in (0, 2):
            conv = Conv(weight, none, scales(outputs), none, shift, path)
            seconds = best(conv.relu, maps, 8191, out, 0, side)
            report(path, f"relu, shift {shift} {shape}", seconds, macs)
        add = Conv(weight, none, scales(outputs), none, 0, path)
        report(path, f"add {shape}", best(add.add, maps, out, 0, side), macs)


def dense_layers(path: str) -> None:
    n, none = SIDE**2, np.zeros(512, np.int32)
    modes = RNG.integers(0, 8, (SIDE, SIDE)).astype(np.uint8)
    x = draw(np.int16, 2000, SIDE, SIDE, 768)
    a, b = map_of(224, SIDE), map_of(128, 2 * SIDE)
    planes = draw(np.int32, 2**20, 3, 16 * SIDE, 16 * SIDE)
    enter = Enter16(
        draw(np.int16, 300, 224, 768), scales(8, 224), scales(224), none[:224], scales(768), path
    )
    seconds = best(enter.run, x, modes, a, 0, SIDE)
    report(path, "enter 768->224", seconds, n * 768 * 224)
    enter8 = Enter8(
        draw(np.int16, 300, 512, 224),
        draw(np.int16, 300, 128, 192),
        scales(512),
        scales(128),
        none,
        path,
    )
    seconds = best(enter8.run, a, planes, b, 0, SIDE)
    report(path, "up 224->512, inject 192->128", seconds, n * (224 * 512 + 4 * 192 * 128))
    leave = Leave8(draw(np.int16, 300, 192, 128), none[:192], scales(192), path)
    seconds = best(leave.run, b, planes, 0, 2 * SIDE)
    report(path, "leave 128->192", seconds, 4 * n * 128 * 192)


def rest(path: str) -> None:
    rotation = Rotation(
        draw(np.int16, 4000, 8, 256, 256), draw(np.int16, 4000, CHANNELS - 256, 512), 48, 16, path
    )
    modes = RNG.integers(0, 8, (SIDE, SIDE)).astype(np.uint8)
    x = np.zeros((SIDE, SIDE, 768), np.int16)
    for name, share in (("a tenth", 0.1), ("all", 1.0)):
        y = draw(np.int16, 200, SIDE, SIDE, CHANNELS) * (RNG.random(CHANNELS) < share)
        y = y.astype(np.int16)
        seconds = best(rotation.rotate, y, modes, x, 0, SIDE)
        macs = SIDE**2 * share * (256 * 256 + 64 * 512)
        report(path, f"rotate, {name} of y", seconds, macs)
    linear = Linear(draw(np.int16, 4000, 16, 16), draw(np.int16, 4000, 16, 16), path)
    rows = np.zeros((3, 16 * SIDE, 16 * SIDE), np.int16)
    planes = np.zeros((3, 16 * SIDE, 16 * SIDE), np.int32)
    report(path, "linear rows", best(linear.rows, x, rows, 0, SIDE))
    report(path, "linear columns", best(linear.columns, rows, planes, 0, SIDE + 1))
    out = map_of(12, 8 * SIDE)
    report(path, "quads", best(quads, planes, out, 0, 8 * SIDE, path))
    matrix = draw(np.int32, 2**21, 3, 3)
    for kind, levels in ((np.uint8, 255), (np.uint16, 65535)):
        image = np.zeros((16 * SIDE, 16 * SIDE, 3), kind)
        seconds = best(samples, planes, matrix, 0, levels, image, 0, 16 * SIDE, path)
        report(path, f"samples, {kind.__name__}", seconds)


def torch_convolutions() -> None:
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        for inputs, outputs, side in CONVS:
            x = torch.randn(1, inputs, side, side).contiguous(memory_format=torch.channels_last)
            weight, bias = torch.randn(outputs, inputs, 3, 3), torch.randn(outputs)
            weight = weight.contiguous(memory_format=torch.channels_last)
            seconds = best(torch.nn.functional.conv2d, x, weight, bias, padding=1)
            macs = 9 * inputs * outputs * side**2
            report("torch", f"{inputs}->{outputs} at {side}x{side}", seconds, macs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="torch's float32 convolutions too")
    if parser.parse_args().torch:
        torch_convolutions()
    for path in usable_paths():
        convolutions(path)
        dense_layers(path)
        rest(path)


if __name__ == "__main__":
    main()
