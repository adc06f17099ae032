"""What synthesis in integers costs, against the floating point of mvmic_codec 0.14, in dB.

    python benchmarks/synthesis_accuracy.py FOLDER... --beside PYTHON [--images N] [--side S]

PYTHON is an interpreter with mvmic_codec 0.14.1. The entropy models of both versions are the same,
so that 0.14.1 reads the symbols of a file of this version if its header names the model of 0.14.1.
The centre of every image is coded at six rate indices. Printed are, for each folder and index, the
mean PSNR of 0.14.1's decoder minus ours, the largest difference of a sample in 255ths of the range,
and the share of samples that differ.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

import mvmic_codec
from mvmic_codec.bitstream import container
from mvmic_codec.bitstream.header import RGB
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.evaluation.metrics import psnr

INDICES = (0, 9, 18, 36, 54, 63)
# Prints the fingerprints of its models, gray and colour. Given files, decodes each to NAME.npy.
PROGRAM = """
import sys
import numpy as np
import mvmic_codec
try:
    from mvmic_codec.nets.identity import model_identity
except ImportError:
    from mvmic_codec.model.identity import model_identity
if len(sys.argv) == 1:
    print(*(model_identity(gray=gray)[1].hex() for gray in (True, False)))
for path in sys.argv[1:]:
    np.save(path + ".npy", mvmic_codec.decode(path))
"""


def beside(python: Path, *arguments: str) -> str:
    """What the program prints in another environment."""
    # Isolated: the folder that this runs in may hold a package of the same name.
    command = [str(python), "-I", "-c", PROGRAM, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def renamed(data: bytes, models: dict[bool, bytes]) -> bytes:
    """A file of this version as one of 0.14.1, by the fingerprints of its models."""
    whole = container.Reader(data)
    gray = whole.header.photometric != RGB
    header = replace(whole.header, generation=1, fingerprint=models[gray])
    return container.write(header, [whole.tile()], {})


def centre(pixels: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """The square in the middle."""
    top, left = ((each - min(side, each)) // 2 for each in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--beside", "python", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--images", default=8, show_default=True, help="Of each folder, evenly spread.")
@click.option("--side", default=256, show_default=True)
def main(folders: tuple[Path, ...], python: Path, images: int, side: int) -> None:
    """Print the table."""
    gray, colour = (bytes.fromhex(each) for each in beside(python).split())
    models = {True: gray, False: colour}
    print(
        f"{'folder':12} {'index':>5} {'images':>6} {'dB':>7} {'lost':>8} {'most':>6} {'differ':>7}"
    )
    for folder in folders:
        paths = files_of(folder)
        paths = paths[:: max(1, len(paths) // images)][:images]
        for index in INDICES:
            found = []
            with tempfile.TemporaryDirectory() as scratch:
                for number, path in enumerate(tqdm(paths, leave=False, disable=None)):
                    pixels = centre(np.asarray(load(path)), side)
                    data = mvmic_codec.encode(pixels, rate_index=index)
                    name = Path(scratch, f"{number}.mvm")
                    name.write_bytes(renamed(data, models))
                    found.append((pixels, np.asarray(mvmic_codec.decode(data)), name))
                beside(python, *(str(name) for _, _, name in found))
                rows = []
                for pixels, ours, name in found:
                    theirs = np.load(f"{name}.npy").astype(np.int64)
                    span = 255 if pixels.dtype == np.uint8 else max(int(np.ptp(pixels)), 1)
                    difference = np.abs(theirs - ours)
                    quality = [psnr(pixels, each.astype(pixels.dtype)) for each in (theirs, ours)]
                    most = 255 * difference.max() / span
                    rows.append(
                        (quality[1], quality[0] - quality[1], most, (difference > 0).mean())
                    )
            quality, lost, most, differ = np.array(rows).T
            means = (
                f"{quality.mean():7.3f} {lost.mean():+8.4f} {most.max():6.2f} {differ.mean():7.4f}"
            )
            print(f"{folder.name:12} {index:5} {len(rows):6} {means}", flush=True)


if __name__ == "__main__":
    main()
