"""CPU seconds and memory that a fresh process takes until it has the pixels of a megapixel.

    python benchmarks/cold_start.py [--runs N] [--beside PYTHON]

The process runs `Image.open(path).load()` and ends. Its user and system time count: other load on
the machine changes them less than the time on the clock. The table gives medians of N runs with one
thread, and of N with as many as the library takes: seconds up to the pixels, and up to the end; and
the peak of resident memory, as Linux tells it.

The image is skimage's fundus photograph in colour, at 1024x1024. mvm has quality 3, and the others
what their library takes unless told, but for JPEG 2000, which would be lossless: it has 1:40.

The other formats are Pillow's AVIF and JPEG 2000, pillow-heif and pillow-jxl-plugin, if they are
installed. `--beside` names the interpreter of another environment, such as one with an older
version of this package, which writes its own files. All take turns.

The parts are imports, a first file of 16x16 pixels, and the decoding. What is loaded late, such as
the model, counts to the small file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from skimage import data

SIDE = 1024
SMALL = 16
PARTS = ("pixels", "imports", "small file", "decoding")

# Runs in any version.
PROGRAM = """
import sys
from time import process_time
laps = [process_time()]
from PIL import Image
if sys.argv[1]:
    module = __import__(sys.argv[1])
    getattr(module, "register_heif_opener", lambda: None)()
laps.append(process_time())
for path in sys.argv[3], sys.argv[2]:
    Image.open(path).load()
    laps.append(process_time())
parts = [b - a for a, b in zip(laps, laps[1:])]
# What the system tells the parent includes memory from before this program began.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(len(sys.modules), peak, laps[-1], *parts)
"""
# A module, the path of an image, that of a file to write, and options of saving.
ENCODE = """
import json, sys
from PIL import Image
if sys.argv[1]:
    module = __import__(sys.argv[1])
    getattr(module, "register_heif_opener", lambda: None)()
Image.open(sys.argv[2]).save(sys.argv[3], **json.loads(sys.argv[4]))
"""


@dataclass(frozen=True)
class Way:
    """Who opens files: an interpreter and the module that it imports; suffix, options of saving."""

    python: str
    module: str
    suffix: str
    options: dict[str, object]


@dataclass
class Run:
    """One process: CPU seconds to its end, and by PARTS; MiB at its peak; modules imported."""

    end: float
    seconds: list[float]
    peak: float
    modules: int


def ways(beside: str | None) -> dict[str, Way]:
    """By what the table calls them."""
    out = {"mvm": Way(sys.executable, "mvmic_codec", ".mvm", {"quality": 3})}
    if beside:
        out["mvm, beside"] = Way(beside, "mvmic_codec", ".mvm", {"quality": 3})
    # Pillow knows without a plugin.
    out["AVIF"] = Way(sys.executable, "", ".avif", {})
    out["JPEG 2000"] = Way(
        sys.executable, "", ".jp2", {"irreversible": True, "quality_layers": [40]}
    )
    for name, module, suffix in (
        ("HEIC", "pillow_heif", ".heic"),
        ("JPEG XL", "pillow_jxl", ".jxl"),
    ):
        if find_spec(module):
            out[name] = Way(sys.executable, module, suffix, {})
    return out


def run(way: Way, files: list[Path], one_thread: bool) -> Run:
    command = [way.python, "-c", PROGRAM, way.module, *map(str, files)]
    # Not the current folder, whose package the interpreter might take for its own.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(one_thread), cwd=files[0].parent
    )
    assert process.stdout is not None
    words = process.stdout.read().split()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{way.python} failed: see above")
    modules, peak, *seconds = words
    end = usage.ru_utime + usage.ru_stime
    return Run(end, [*map(float, seconds)], int(peak) / 1024, int(modules))


def environment(one_thread: bool) -> dict[str, str]:
    hidden = {"PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return env | ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if one_thread else {})


def row(runs: list[Run]) -> str:
    """Medians as cells of a table."""
    seconds = [median(column) for column in zip(*(each.seconds for each in runs), strict=True)]
    end = median(each.end for each in runs)
    times = " | ".join(f"{each:.2f}" for each in (*seconds, end))
    return f"{times} | {median(each.peak for each in runs):.0f} | {runs[0].modules}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--beside", metavar="PYTHON", help="interpreter of another environment")
    options = parser.parse_args()
    photograph = Image.fromarray(np.asarray(data.retina())).resize((SIDE, SIDE))
    print(f"| threads | format | {' | '.join(PARTS)} | end | peak MiB | modules |")
    print("|---|---|" + "---:|" * (len(PARTS) + 3))
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (name, way) in enumerate(ways(options.beside).items()):
            files[name] = [Path(folder, f"{number}-{side}{way.suffix}") for side in (SIDE, SMALL)]
            for path, side in zip(files[name], (SIDE, SMALL), strict=True):
                source = Path(folder, f"{side}.png")
                photograph.crop((0, 0, side, side)).save(source)
                arguments = [way.module, str(source), str(path), json.dumps(way.options)]
                subprocess.run(
                    [way.python, "-c", ENCODE, *arguments],
                    check=True,
                    env=environment(False),
                    cwd=folder,
                )
        for one_thread in (True, False):
            runs: dict[str, list[Run]] = {name: [] for name in files}
            for _ in range(options.runs):
                for name, way in ways(options.beside).items():
                    runs[name].append(run(way, files[name], one_thread))
            for name, each in runs.items():
                threads = "one" if one_thread else "default"
                print(f"| {threads} | {name} | {row(each)} |", flush=True)


if __name__ == "__main__":
    main()
