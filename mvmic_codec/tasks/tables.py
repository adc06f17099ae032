"""What the tables share: images, files of codecs that are made once, heads that judge, rows."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.evaluation.codec import Codec, Setting
from mvmic_codec.model.identity import default_identity
from mvmic_codec.tasks.heads import Head, digest_of, load_head, other_model
from mvmic_codec.tasks.layouts import Item, marks_of
from mvmic_codec.tasks.pixel_dataset import original_pixels
from mvmic_codec.tasks.score_plot import Curve
from mvmic_codec.tasks.whole import write_whole

Each = TypeVar("Each")
Row = TypeVar("Row")


class JudgedRow(Protocol):
    """What rows of a whole set of images have in common."""

    @property
    def set(self) -> str:
        """The name of the folder of images."""
        ...

    @property
    def setting(self) -> str:
        """That of the codec."""
        ...

    @property
    def digest(self) -> str:
        """The first digits of the head's."""
        ...

    @property
    def bpp(self) -> float | None:
        """Bits per pixel; None for images that were not coded."""
        ...


Judged = TypeVar("Judged", bound=JudgedRow)

# The codec of rows of images that were not coded.
ORIGINAL = "original"
# Characters of a digest that tell heads apart.
_DIGEST = 12
# How a cell of a table is read, by the type of its column.
_READ: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "int | None": lambda cell: int(cell) if cell else None,
    "float | None": lambda cell: float(cell) if cell else None,
}


@dataclass(frozen=True)
class Judge:
    """A head, and how rows call it. Heads of one `kind` differ by their seeds."""

    kind: str
    name: str
    digest: str
    head: Head


def load_judges(
    folder: Path, gray: bool, device: str | None, *, detect: bool, classes: int = 1
) -> list[Judge]:
    """All detectors in a folder, or all heads for segmentation, by name.

    Raises InputError if there are none, and for one that is not for such images or not for so many
    classes. Errors as `load_head`.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: give the folder that it is in")
    if not folder.is_dir():
        raise InputError(f"there is no folder of heads {folder}")
    judges = []
    for path in sorted(folder.glob("*.safetensors")):
        head = load_head(path, device)
        card = head.card
        if head.detects != detect:
            continue
        if len(card.classes) != classes:
            raise InputError(
                f"{path} knows {len(card.classes)} classes, and the images have {classes}: name a "
                "folder of heads for these images"
            )
        fingerprint = default_identity(gray).fingerprint
        if card.fingerprint != fingerprint:
            raise InputError(f"{path}: {other_model(card.fingerprint, fingerprint)}")
        judges.append(Judge(_kind(head), path.stem, digest_of(head)[:_DIGEST], head))
    if not judges:
        kind, command = "heads for segmentation", "polyp" if classes == 1 else "street"
        if detect:
            kind, command = "detectors", "polyp --network mask-rcnn"
        raise InputError(f"{folder} holds no {kind}: train some by `mvmic tasks train {command}`")
    return judges


def warn_of_seen(images: ImageSet, heads: Mapping[str, Head]) -> None:
    """Warn of images that a head was trained on, by the names of heads: it does too well there."""
    marks = set(marks_of(images.items))
    for name, head in heads.items():
        seen = len(marks.intersection(head.card.seen))
        if seen:
            warnings.warn(
                f"the head {name} was trained on {seen} of the {len(images.items)} images of "
                f"{images.name}: its scores say little about new images",
                stacklevel=2,
            )


def check_judges(judges: Iterable[Judge], taught: Mapping[str, str]) -> None:
    """Raise InputError if a judge had part in what it is to judge.

    taught  by the name of a codec, the digest of the head that it was told by or tuned with
    """
    for codec, whole in taught.items():
        for judge in judges:
            if judge.digest == whole[:_DIGEST]:
                raise InputError(
                    f"the head {judge.name} had part in {codec}, and cannot judge it: move it out "
                    "of the folder of heads"
                )


def _kind(head: Head) -> str:
    if head.takes_pixels:
        return head.card.network
    maps = f"features {'+'.join(head.card.maps)}"
    return maps if head.card.network == "fpn" else f"{head.card.network} {maps}"


@dataclass(frozen=True)
class ImageSet:
    """The images of a table: the name of the set, and whether they are gray."""

    name: str
    items: list[Item]
    gray: bool

    def load(self, item: Item, scale: float = 1.0) -> Image.Image:
        """An image as it is coded: without metadata, and resized.

        Raises InputError for a gray image among colour images, or the reverse.
        """
        planes = original_pixels(item.image)
        if (len(planes) == 1) != self.gray:
            raise InputError(
                f"{item.image} is {'colour' if self.gray else 'gray'}, and the first image of the "
                "set is not: measure gray and colour images apart"
            )
        pixels = planes[0] if self.gray else planes.permute(1, 2, 0)
        image = Image.fromarray(pixels.contiguous().numpy())
        if scale == 1:
            return image
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        return image.resize(size, Image.Resampling.LANCZOS)


def image_set(name: str, items: Sequence[Item]) -> ImageSet:
    """Images of one kind. Raises InputError if there are none, and as `original_pixels`."""
    if not items:
        raise InputError("there are no images to measure")
    return ImageSet(name, list(items), len(original_pixels(items[0].image)) == 1)


@dataclass(frozen=True)
class CodedFile:
    """An image coded by a codec, and its bits per pixel."""

    item: Item
    path: Path
    bpp: float


@dataclass(frozen=True)
class CodedSet:
    """A set of images as files of codecs. Files that are there stay.

    folder  of the files
    band    bits per pixel. Settings of other codecs count if their mean over all images lies in it.
            All settings of this codec count
    """

    images: ImageSet
    folder: Path
    band: tuple[float, float]

    def settings(
        self, codec: Codec, scale: float = 1.0
    ) -> Iterator[tuple[Setting, list[CodedFile]]]:
        """The settings that count, each with the file of each image."""
        low, high = self.band
        for curve in codec.curves(self.images.gray):
            # In the order of their rates.
            for setting in curve:
                files = self._encoded(codec, setting, scale)
                if not codec.features:
                    bpp = np.mean([file.bpp for file in files])
                    if bpp > high:
                        break
                    if bpp < low:
                        continue
                yield setting, files

    def _encoded(self, codec: Codec, setting: Setting, scale: float) -> list[CodedFile]:
        # Windows takes no colons in names.
        label = setting.label.replace("/", "_").replace(":", "")
        folder = self.folder / self.images.name / f"scale{scale:g}" / codec.name / label
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for item in shown(self.images.items, f"{codec.name} {setting.label}: encode"):
            path = folder / f"{item.name}{'.mvm' if codec.features else '.bin'}"
            image = self.images.load(item, scale)
            if not path.exists():
                write_whole(path, setting.encode(image))
            bpp = 8 * path.stat().st_size / (image.width * image.height)
            files.append(CodedFile(item, path, bpp))
        return files


def check_count(rows: Iterable[Any], images: ImageSet) -> None:
    """Raise InputError for rows of this set that are of another number of images.

    Each row is of a whole set: it has its name, `set`, and how many `images` there were.
    """
    for row in rows:
        if row.set == images.name and row.images != len(images.items):
            raise InputError(
                f"the table has rows of {row.images} images of {row.set}, and there are "
                f"{len(images.items)}: name another table"
            )


def decoded(codec: Codec, data: bytes, file: CodedFile, image: Image.Image) -> Image.Image:
    """The pixels of a file with these data, in the mode of the image it is to be of.

    Raises MvmError if they have another size or cannot be brought to that mode.
    """
    pixels = codec.decode(data)
    if image.mode == "L":
        pixels = pixels.convert("L")
    if (pixels.mode, pixels.size) != (image.mode, image.size):
        raise MvmError(
            f"{file.path} is not of {file.item.image}: delete it, and it is encoded anew"
        )
    return pixels


def shown(items: Sequence[Each], label: str) -> Iterator[Each]:
    """The items, with a bar on a terminal."""
    yield from tqdm(items, label, unit="image", leave=False, delay=1.0, disable=None)


def judged_rows(rows: Iterable[Judged], name: str, judges: Iterable[Judge]) -> list[Judged]:
    """Those of a set of images and of these heads."""
    digests = {judge.digest for judge in judges}
    return [row for row in rows if row.set == name and row.digest in digests]


def curves_of(
    rows: Iterable[Judged], key: Callable[[Judged], tuple[str, str]], score: str
) -> list[Curve]:
    """A curve for each codec and judge, as `key` names them: means over heads at each setting."""
    groups: dict[tuple[str, str], dict[str, list[Judged]]] = {}
    for row in rows:
        settings = groups.setdefault(key(row), {})
        settings.setdefault(row.setting, []).append(row)
    return [
        Curve(*names, [(group[0].bpp, *_mean(group, score)) for group in settings.values()])
        for names, settings in groups.items()
    ]


def score_cell(rows: Sequence[Any], score: str) -> str:
    """A score and its standard error, means over heads; "-" for a score that there is not."""
    if any(getattr(row, score) is None for row in rows):
        return "-"
    mean, error = _mean(rows, score)
    return f"{mean:.3f} ± {error:.3f}"


def _mean(rows: Sequence[Any], score: str) -> tuple[float, float]:
    values, errors = ([getattr(row, name) for row in rows] for name in (score, f"{score}_se"))
    return float(np.mean(values)), float(np.mean(errors))


def format_rows(kind: type[Any], rows: Iterable[Any]) -> str:
    """Rows, dataclasses of a kind, as CSV text with a header line. What is None is empty."""
    columns = [field.name for field in fields(kind)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        values: list[Any] = [getattr(row, name) for name in columns]
        table.writerow([f"{each:.6g}" if isinstance(each, float) else each for each in values])
    return text.getvalue()


def read_rows(kind: type[Row], path: Path, command: str) -> list[Row]:
    """Rows of a CSV file that a command wrote.

    Raises InputError for a file that is no such table, naming the line.
    """
    columns = {field.name: _READ[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
    rows: list[Row] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if tuple(table.fieldnames or ()) != tuple(columns):
                raise InputError(f"{path} is not a table of `{command}`: name another file")
            for line in table:
                rows.append(kind(**{name: read(line[name]) for name, read in columns.items()}))
    except (TypeError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}, line {len(rows) + 2}: {error}") from None
    return rows
