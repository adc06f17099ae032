"""CPU seconds that a fresh process takes until it has the pixels of a one-megapixel file.

    python benchmarks/cold_start.py [--runs N] [--beside PYTHON]

The process runs `Image.open(path).load()` and ends. Its user and system time count: other load on
the machine changes them less than the time on the clock. The table gives medians of N runs with one
thread, and of N with as many as torch takes: up to the pixels, and up to the end, where torch takes
long to leave. The image is skimage's fundus photograph in colour, at 1024x1024 and quality 3.

`--beside` names the interpreter of another environment, such as one with an older version. Both
take turns. It must be able to read files of this version.

The parts are the import of torch with numpy, all other imports, loading the model, and decoding.
To tell the model from decoding, the process decodes a file of 16x16 pixels first: that is part of
loading the model here, and adds little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from skimage import data

import mvmic_codec  # noqa: F401 - registers the format with Pillow

SIDE = 1024
SMALL = 16
QUALITY = 3
COLUMNS = ("threads", "which", "version", "end", "pixels")
COLUMNS += ("torch", "imports", "model", "decoding", "modules")

PROGRAM = """
import sys
from time import process_time
laps = [process_time()]
import torch
laps.append(process_time())
import mvmic_codec
from PIL import Image
try:
    import mvmic_codec.decoder.image
except ImportError:
    import mvmic_codec.codec  # up to 0.14.1
laps.append(process_time())
for path in sys.argv[2], sys.argv[1]:
    Image.open(path).load()
    laps.append(process_time())
parts = [b - a for a, b in zip(laps, laps[1:])]
print(mvmic_codec.__version__, len(sys.modules), laps[-1], *parts)
"""


@dataclass
class Run:
    """One process: CPU seconds to its end, to the pixels and by part, and modules imported."""

    version: str
    seconds: list[float]
    modules: int


def run(python: str, files: list[Path], one_thread: bool) -> Run:
    hidden = {"PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    if one_thread:
        env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Not the current folder, whose package the interpreter might take for its own.
    folder = files[0].parent
    command = [python, "-c", PROGRAM, *map(str, files)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=folder)
    assert process.stdout is not None
    words = process.stdout.read().split()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{python} failed: see above")
    version, modules, *seconds = words
    end = usage.ru_utime + usage.ru_stime
    return Run(version, [end, *map(float, seconds)], int(modules))


def row(runs: list[Run]) -> str:
    """Version, medians and modules as cells of a table."""
    medians = map(median, zip(*(each.seconds for each in runs), strict=True))
    seconds = " | ".join(f"{each:.2f}" for each in medians)
    return f"{runs[0].version} | {seconds} | {runs[0].modules}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--beside", metavar="PYTHON", help="interpreter of another environment")
    options = parser.parse_args()
    pythons = {"this": sys.executable}
    if options.beside:
        pythons["beside"] = options.beside
    photograph = Image.fromarray(np.asarray(data.retina())).resize((SIDE, SIDE))
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * 3 + "---:|" * (len(COLUMNS) - 3))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("whole.mvm", "small.mvm")]
        for path, side in zip(files, (SIDE, SMALL), strict=True):
            photograph.crop((0, 0, side, side)).save(path, quality=QUALITY)
        for one_thread in (True, False):
            runs: dict[str, list[Run]] = {which: [] for which in pythons}
            for _ in range(options.runs):
                for which, python in pythons.items():
                    runs[which].append(run(python, files, one_thread))
            threads = "one" if one_thread else "default"
            for which, each in runs.items():
                print(f"| {threads} | {which} | {row(each)} |", flush=True)


if __name__ == "__main__":
    main()
