"""Archives to train on: the images of a data set as `.mvm` files at several rates.

NAME.r18.mvm             the image NAME at rate index 18
NAME.r18.mirrored.mvm    its left-right mirror image, mirrored before it was encoded
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageOps
from tqdm import tqdm

from mvmic_codec.api import encode, read_header
from mvmic_codec.errors import InputError
from mvmic_codec.model.tuned import TunedEncoder
from mvmic_codec.rate import checked_index
from mvmic_codec.tasks.layouts import Item, load_image, size_of
from mvmic_codec.tasks.whole import write_whole

_NAME = re.compile(r"(?P<name>.+)\.r(?P<rate>\d\d)(?P<mirrored>\.mirrored)?\.mvm")


def draw_rates(
    items: Sequence[Item], lowest: int, highest: int, count: int, seed: int = 0
) -> dict[str, list[int]]:
    """For each image `count` rate indices from lowest to highest, by its name, in ascending order.

    The band is cut into `count` equal parts and one index is drawn from each. What is drawn for an
    image depends on its name and the seed, not on the other images.

    Raises InputError for no band, and for more indices than it has.
    """
    lowest, highest = checked_index(lowest), checked_index(highest)
    band = highest - lowest + 1
    if not 1 <= count <= band:
        raise InputError(
            f"{count} rate indices for each image cannot be drawn from {lowest} to {highest}"
        )
    edges = [lowest + band * k // count for k in range(count + 1)]
    drawn = {}
    for item in items:
        random = np.random.default_rng([seed, zlib.crc32(item.name.encode())])
        drawn[item.name] = [
            int(random.integers(low, high)) for low, high in zip(edges, edges[1:], strict=False)
        ]
    return drawn


def write_archive(
    items: Sequence[Item],
    folder: Path,
    rates: Mapping[str, Sequence[int]],
    *,
    mirrored: bool = False,
    encoder: TunedEncoder | None = None,
    device: str | None = None,
) -> list[Path]:
    """Encode images into a folder at the rate indices given by their names. Returns all files.

    With `mirrored`, the mirror image of each is encoded at the same rates too. Files carry no
    metadata. A file that is there already stays, if its header reads and has the size of the image
    and the rate. So an interrupted call goes on where it stopped. Files are written whole or not at
    all. encoder and device are as for `encode`.

    Raises InputError for an image that cannot be read or encoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    views = (False, True) if mirrored else (False,)
    total = len(views) * sum(len(rates[item.name]) for item in items)
    files = []
    with tqdm(total=total, unit="file", desc="encode", disable=None) as bar:
        for item in items:
            size = size_of(item.image)
            for flipped in views:
                for rate in rates[item.name]:
                    file = folder / file_name(item.name, rate, flipped)
                    if not _is_done(file, size, rate):
                        write_whole(file, _encoded(item.image, rate, flipped, encoder, device))
                    files.append(file)
                    bar.update()
    return files


def file_name(name: str, rate: int, mirrored: bool) -> str:
    """The name of an archive's file."""
    return f"{name}.r{rate:02}{'.mirrored' if mirrored else ''}.mvm"


def parse_file_name(path: Path) -> tuple[str, bool] | None:
    """The name of an image, and whether it is mirrored. None for other files."""
    found = _NAME.fullmatch(path.name)
    return None if found is None else (found["name"], found["mirrored"] is not None)


def rates_of(archive: Path, names: Container[str]) -> set[int]:
    """The rate indices of an archive's files of these images. Empty if there is no such folder."""
    found = (_NAME.fullmatch(path.name) for path in archive.glob("*.mvm"))
    return {int(each["rate"]) for each in found if each is not None and each["name"] in names}


def _encoded(
    path: Path, rate: int, mirrored: bool, encoder: TunedEncoder | None, device: str | None
) -> bytes:
    image = load_image(path)
    try:
        return encode(
            ImageOps.mirror(image) if mirrored else image,
            rate_index=rate,
            exif=None,
            icc_profile=None,
            xmp=None,
            dpi=None,
            text=None,
            encoder=encoder,
            device=device,
        )
    except OSError as error:
        raise InputError(f"{path} cannot be encoded: {error}") from error


def _is_done(file: Path, size: tuple[int, int], rate: int) -> bool:
    """Whether a file is there, of an image of this size (H,W) and at this rate."""
    try:
        header = read_header(file)
    except OSError:
        return False
    return (header.height, header.width, header.rate_index) == (*size, rate)
