"""What parts of a large image take: size, thumbnail, region, all; beside other formats.

    python benchmarks/large_image.py IMAGE [--runs N] [--keep FOLDER]
    python benchmarks/large_image.py --draw 6000x4000 [--runs N] [--keep FOLDER]

Each task runs in a fresh process with one thread: `Image.open(path).size`; a thumbnail of 256
pixels by `Image.thumbnail`; `Image.open(path).crop` of the 512x512 pixels in the middle; and
`load`. The table gives CPU seconds without imports, and the peak of resident memory above what
imports and a small file take, as Linux tells it. They are medians of N runs; all take turns.

mvm has quality 3, in tiles of 1024 and of 512 and in one piece. The others have the quality that
comes nearest to its PSNR on the 512x512 pixels in the middle: Pillow's AVIF and JPEG 2000,
pillow-heif and pillow-jxl-plugin, if they are installed. `--draw` repeats skimage's fundus
photograph at random sizes until the picture is so large. Files stay in FOLDER, and are taken from
there if they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

QUALITY = 3
THUMBNAIL = 256
REGION = 512
TASKS = ("size", "thumbnail", "region", "all")
# Module, suffix, options of saving, and the names and values of the option that sets the quality.
WAYS: dict[str, tuple[str, str, dict[str, Any], str, list[float]]] = {
    "mvm, tiles of 1024": ("mvmic_codec", ".mvm", {"tile": 1024}, "quality", [QUALITY]),
    "mvm, tiles of 512": ("mvmic_codec", ".mvm", {"tile": 512}, "quality", [QUALITY]),
    "mvm, one tile": ("mvmic_codec", ".mvm", {"tile": 0}, "quality", [QUALITY]),
    "AVIF": ("", ".avif", {"subsampling": "4:4:4"}, "quality", list(range(5, 100, 5))),
    "HEIC": ("pillow_heif", ".heic", {"chroma": 444}, "quality", list(range(5, 100, 5))),
    "JPEG XL": ("pillow_jxl", ".jxl", {}, "quality", list(range(5, 100, 5))),
    "JPEG 2000": (
        "",
        ".jp2",
        {"irreversible": True, "tile_size": (1024, 1024)},
        "quality_layers",
        [200, 150, 120, 100, 80, 60, 50, 40, 30, 25, 20, 15, 10],
    ),
}
PROGRAM = """
import sys
from time import process_time
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
if sys.argv[1]:
    module = __import__(sys.argv[1])
    getattr(module, "register_heif_opener", lambda: None)()
import numpy
def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
def task(path, name):
    image = Image.open(path)
    if name == "size":
        return image.size
    if name == "thumbnail":
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return image.load()
    if name == "region":
        left, top = (image.width - REGION) // 2, (image.height - REGION) // 2
        return image.crop((left, top, left + REGION, top + REGION)).load()
    image.load()
task(sys.argv[4], "all")
before, start = peak(), process_time()
task(sys.argv[2], sys.argv[3])
print(process_time() - start, peak() - before)
""".replace("THUMBNAIL", str(THUMBNAIL)).replace("REGION", str(REGION))
ENCODE = """
import json, sys
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
if sys.argv[1]:
    module = __import__(sys.argv[1])
    getattr(module, "register_heif_opener", lambda: None)()
options = json.loads(sys.argv[4])
Image.open(sys.argv[2]).save(sys.argv[3], **options)
"""


def drawn(size: str) -> Image.Image:
    """A picture of so many pixels, of copies of a photograph."""
    from skimage import data

    width, height = map(int, size.split("x"))
    photograph, rng = Image.fromarray(np.asarray(data.retina())), np.random.default_rng(0)
    out = Image.new("RGB", (width, height))
    for top in range(0, height, 1000):
        for left in range(0, width, 1000):
            side = int(rng.integers(1000, 1400))
            out.paste(photograph.resize((side, side)), (left, top))
    return out


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def encode(name: str, source: Path, target: Path, value: float) -> None:
    module, _, options, option, _ = WAYS[name]
    given = {**options, option: [value] if option == "quality_layers" else value}
    command = [sys.executable, "-c", ENCODE, module, str(source), str(target), json.dumps(given)]
    subprocess.run(command, check=True, env=environment())


def middle(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        left, top = (image.width - REGION) // 2, (image.height - REGION) // 2
        part = image.convert("RGB").crop((left, top, left + REGION, top + REGION))
        return np.asarray(part).astype(np.float64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(a - b).mean() / 255**2))


def files_of(source: Path, folder: Path) -> dict[str, Path]:
    """The files by format. Peers have the quality nearest to mvm's PSNR in the middle."""
    with Image.open(source) as image:
        left, top = (image.width - REGION) // 2, (image.height - REGION) // 2
        small = folder / "middle.png"
        image.crop((left, top, left + REGION, top + REGION)).save(small)
    wanted, out = middle(small), {}
    aim = None
    for number, (name, (module, suffix, _, _, values)) in enumerate(WAYS.items()):
        if module and not find_spec(module):
            continue
        out[name] = folder / f"{number}{suffix}"
        trial = folder / f"trial{suffix}"
        best = values[0]
        if aim is not None and len(values) > 1:
            if module == "pillow_heif":
                import pillow_heif

                pillow_heif.register_heif_opener()
            elif module:
                __import__(module)
            found = {}
            for value in values:
                encode(name, small, trial, value)
                found[value] = abs(psnr(middle(trial), wanted) - aim)
            best = min(found, key=found.__getitem__)
        if not out[name].exists():
            encode(name, source, out[name], best)
        if aim is None:
            import mvmic_codec  # noqa: F401

            with Image.open(out[name]) as image:
                left, top = (image.width - REGION) // 2, (image.height - REGION) // 2
                part = np.asarray(image.crop((left, top, left + REGION, top + REGION)))
                aim = psnr(part.astype(np.float64), wanted)
        encode(name, small, out[name].with_name(f"small{suffix}"), best)
    return out


def run(name: str, path: Path, task: str) -> tuple[float, float]:
    """CPU seconds, and MiB at the peak above what was there before."""
    module, suffix, *_ = WAYS[name]
    warm = path.with_name(f"small{suffix}")
    command = [sys.executable, "-c", PROGRAM, module, str(path), task, str(warm)]
    done = subprocess.run(command, check=True, env=environment(), capture_output=True, text=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--draw", metavar="WIDTHxHEIGHT")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if (options.image is None) == (options.draw is None):
        parser.error("give either an image or --draw")
    Image.MAX_IMAGE_PIXELS = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        source = options.image
        if source is None:
            source = folder / "drawn.png"
            drawn(options.draw).save(source)
        files = files_of(source, folder)
        heads = " | ".join(f"{task}, s | MiB" for task in TASKS)
        print(f"| format | bytes | {heads} |\n|---|---:|" + "---:|" * (2 * len(TASKS)))
        runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(options.runs):
            for name, path in files.items():
                for task in TASKS:
                    runs.setdefault((name, task), []).append(run(name, path, task))
        for name, path in files.items():
            cells = [
                f"{median(seconds for seconds, _ in runs[name, task]):.3f} | "
                f"{median(peak for _, peak in runs[name, task]):.0f}"
                for task in TASKS
            ]
            print(f"| {name} | {path.stat().st_size:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
