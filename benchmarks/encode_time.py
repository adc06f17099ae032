"""CPU time of encoding by two versions of mvmic_codec, in turn, and whether their files are equal.

    python benchmarks/encode_time.py BEFORE/bin/python IMAGE [IMAGE ...] --rounds 3 --side 1024

BEFORE is a virtual environment with the version to compare this one with. Each version has a
process of its own that encodes one image at a time, while the other one waits: before, after,
before, after. One thread each. A small image is encoded first, so that no time is spent on imports
or on reading a model. --side resizes images to a square first. Prints the ratio of CPU seconds,
after to before, of each pair and the median. Unless --differ allows it, the exit status is 1 if any
two files differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# Runs in either version, so it knows nothing of this one but `encode`.
CHILD = """
import hashlib, sys, time
import torch
torch.set_num_threads(1)
from PIL import Image
import mvmic_codec
print(mvmic_codec.__file__, flush=True)
index, mode, side = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for line in sys.stdin:
    path, small = line.rstrip("\\n").split("\\t")
    with Image.open(path) as file:
        image = file.convert(mode)
    if small == "small":
        image = image.resize((128, 128))
    elif side:
        image = image.resize((side, side))
    start = time.process_time()
    data = mvmic_codec.encode(image, rate_index=index)
    print(time.process_time() - start, hashlib.sha256(data).hexdigest(), flush=True)
"""


class Encoded(NamedTuple):
    """CPU seconds that a file took, and its hash."""

    seconds: float
    digest: str


class Encoder:
    """A process of an interpreter that encodes images when asked to."""

    def __init__(self, interpreter: str, index: int, mode: str, side: int) -> None:
        # Not resolved: a link within a virtual environment says which one it is.
        executable = Path(interpreter).absolute()
        command = [str(executable), "-c", CHILD, str(index), mode, str(side)]
        # Python imports from the current folder first, which here is this version's.
        self.process = subprocess.Popen(
            command,
            cwd=executable.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.package = self.process.stdout.readline().strip()

    def encode(self, path: Path, *, small: bool = False) -> Encoded:
        """Encode an image, or 128x128 pixels of it. Raises RuntimeError if the process fails."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(
            path.resolve(),
            "small" if small else "whole",
            sep="\t",
            file=self.process.stdin,
            flush=True,
        )
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            raise RuntimeError(f"{self.process.args} could not encode {path}")
        return Encoded(float(answer[0]), answer[1])

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def compare(before: Encoder, after: Encoder, path: Path, rounds: int) -> tuple[float, bool]:
    """Print a line about an image; the median of its ratios, and whether all files are equal."""
    pairs = [(before.encode(path), after.encode(path)) for _ in range(rounds)]
    ratios = [new.seconds / old.seconds for old, new in pairs]
    median = statistics.median(ratios)
    equal = len({each.digest for pair in pairs for each in pair}) == 1
    seconds = [
        statistics.median(each)
        for each in zip(*[(a.seconds, b.seconds) for a, b in pairs], strict=True)
    ]
    print(
        f"{path.name}: {seconds[0]:.2f} s before, {seconds[1]:.2f} s after;"
        f" ratios {' '.join(f'{ratio:.3f}' for ratio in ratios)}; median {median:.3f};"
        f" {'equal files' if equal else 'FILES DIFFER'}",
        flush=True,
    )
    return median, equal


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("before", help="the other version's interpreter")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--index", type=int, default=18, help="rate index (default: 18)")
    parser.add_argument("--mode", default="L", choices=("L", "RGB"), help="mode (default: L)")
    parser.add_argument("--side", type=int, default=0, help="pixels (default: as the image is)")
    parser.add_argument("--differ", action="store_true", help="files may differ")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of an image (default: 3)")
    options = parser.parse_args()
    interpreters = options.before, sys.executable
    before, after = (
        Encoder(each, options.index, options.mode, options.side) for each in interpreters
    )
    if before.package == after.package:
        parser.error(f"both interpreters import {before.package}: nothing to compare")
    for encoder in (before, after):
        encoder.encode(options.images[0], small=True)
    found = [compare(before, after, path, options.rounds) for path in options.images]
    before.close()
    after.close()
    print(f"median of {len(found)} images: {statistics.median(ratio for ratio, _ in found):.3f}")
    return 0 if options.differ or all(equal for _, equal in found) else 1


if __name__ == "__main__":
    sys.exit(main())
