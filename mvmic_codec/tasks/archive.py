"""Archives to train on: the images of a data set as `.mvm` files at several rates.

NAME.r18.mvm             the image NAME at rate index 18
NAME.r18.mirrored.mvm    its left-right mirror image, mirrored before it was encoded
images.json              by NAME, the mark of the image that its files are made of; see
                         `layouts.marks_of`. An archive without it is used as it is
"""

from __future__ import annotations

import json
import re
import warnings
import zlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from mvmic_codec.api import encode, read_header
from mvmic_codec.errors import InputError
from mvmic_codec.image.samples import Samples, from_image
from mvmic_codec.model.tuned import TunedEncoder
from mvmic_codec.rate import checked_index
from mvmic_codec.tasks.layouts import Item, load_image, marks_of, size_of
from mvmic_codec.tasks.whole import write_whole

# The list of what files are made of, in the folder of an archive.
IMAGES = "images.json"
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
    and the rate. So an interrupted call goes on where it stopped. Files of an image that has
    changed since they were made are made anew, which is warned of. Files are written whole or not
    at all. encoder and device are as for `encode`.

    Raises InputError for an image that cannot be read or encoded, and for gray images among colour
    images: no head takes both. Of images that are new to the folder this is found before any is
    encoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _list_images(items, folder)
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


def made_of(archive: Path) -> dict[str, str]:
    """By the name of an image, the mark of what its files in an archive are made of.

    Empty if the archive has no list. Raises InputError if the list is damaged.
    """
    path = archive / IMAGES
    try:
        marks = json.loads(path.read_bytes())
        return {str(name): str(mark) for name, mark in marks.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: delete the folder {archive}") from error


def check_made_of(items: Sequence[Item], archive: Path) -> None:
    """Raise InputError if an archive's list says that an image has changed since."""
    known = made_of(archive)
    for item, mark in zip(items, marks_of(items), strict=True):
        if known.get(item.name, mark) != mark:
            raise InputError(
                f"{item.image} is not the image that its files in {archive} are made of: give the "
                "images as they were, or another archive"
            )


def _list_images(items: Sequence[Item], folder: Path) -> None:
    """Enter images in the list of an archive, and delete the files of those that have changed.

    An image is listed before it is encoded: what is listed is true of files that are there, however
    soon the work is interrupted. Errors and warnings as `write_archive`.
    """
    known = made_of(folder)
    marks = dict(zip((item.name for item in items), marks_of(items), strict=True))
    old = [item for item in items if known.get(item.name) == marks[item.name]]
    new = [item for item in items if known.get(item.name) != marks[item.name]]
    # Those of the list are of one kind.
    _check_kind([*old[:1], *new])
    changed = [item for item in new if item.name in known]
    names = {item.name for item in changed}
    for path in sorted(folder.iterdir()) if changed else []:
        parsed = parse_file_name(path)
        if parsed is not None and parsed[0] in names:
            path.unlink()
    if changed:
        more = f", with {len(changed) - 1} more," if len(changed) > 1 else ""
        warnings.warn(
            f"{changed[0].image}{more} has changed since {folder} was written: files are made anew",
            stacklevel=3,
        )
    if new:
        write_whole(folder / IMAGES, json.dumps(known | marks, indent=0).encode())


def for_model(image: Image.Image) -> Image.Image:
    """An image of 1 bit or with a palette as samples, for no model codes it as it is."""
    return image.convert({"1": "L", "P": "RGB"}[image.mode]) if image.mode in ("1", "P") else image


def _check_kind(items: Sequence[Item]) -> None:
    """Raise InputError for images that cannot be encoded, or are not all gray or all colour."""
    first: Item | None = None
    for item in tqdm(items, unit="image", desc="check", leave=False, delay=1.0, disable=None):
        image = for_model(load_image(item.image))
        try:
            samples = from_image(image)
            assert isinstance(samples, Samples)
            gray = samples.channels == 1 or samples.equal_channels
        except InputError as error:
            raise InputError(f"{item.image} cannot be encoded: {error}") from error
        if first is None:
            first, kind = item, gray
        elif gray != kind:
            names = (item.image, first.image) if gray else (first.image, item.image)
            raise InputError(
                f"{names[0]} is gray and {names[1]} is in colour, and no head takes both: put them "
                "into folders of their own"
            )


def _encoded(
    path: Path, rate: int, mirrored: bool, encoder: TunedEncoder | None, device: str | None
) -> bytes:
    image = for_model(load_image(path))
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
