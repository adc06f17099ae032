"""`TaskDataset`: features and ground truth straight from `.mvm` files, for torch's DataLoader."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from mvmic_codec import __version__
from mvmic_codec.api import read_header
from mvmic_codec.bitstream import container
from mvmic_codec.decoder.tiles import only_tile
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.features import statistics
from mvmic_codec.features.extract import decode_features
from mvmic_codec.features.maps import DEFAULT_MAPS, checked_names
from mvmic_codec.features.mirror import decode_mirrored_features, margin_of
from mvmic_codec.tasks.archive import parse_file_name
from mvmic_codec.tasks.layouts import Item
from mvmic_codec.tasks.truth import IGNORED, GroundTruth
from mvmic_codec.tasks.whole import write_whole

# The packed flat areas in an entry of a cache, beside its maps.
_FLAT = "flat"


@dataclass(frozen=True)
class TaskSample:
    """One view of an image, of H rows and W columns.

    name         of the image in its data set
    mirrored     whether this is the left-right mirror image
    maps         by name, float32 [C,ceil(H/stride),ceil(W/stride)], normalised; see `Features`
    size         (H,W)
    rate_index   of the file, 0 to 63
    fingerprint  of the model that wrote the file
    flat         bool [H,W]: where flat areas are painted over what the maps know
    truth        of this view
    """

    name: str
    mirrored: bool
    maps: OrderedDict[str, Tensor]
    size: tuple[int, int]
    rate_index: int
    fingerprint: bytes
    flat: Tensor
    truth: GroundTruth


@dataclass(frozen=True)
class _View:
    """A file of an image.

    of_mirrored  whether the file holds the mirror image
    mirror       whether to mirror what the file holds
    """

    item: Item
    file: Path
    of_mirrored: bool
    mirror: bool


class TaskDataset(Dataset[TaskSample]):
    """A `TaskSample` for each `.mvm` file of the given images.

    items      images of a data set; see `layouts`
    archive    the folder that `archive.write_archive` has filled. Its files of other images are not
               used. None if the images themselves are `.mvm` files
    maps       names of feature maps
    cache      a folder for decoded maps, or None to decode each time. Maps are then rounded to
               float16. Entries of another state of the file, of the package or of its statistics
               are made anew, and damaged ones too. The folder may be deleted at any time
    mirror     whether to add the mirrored view of each file, made from its coefficients. It may be
               up to 15 columns wider than the image; see `features.mirror`. The mask is IGNORED in
               them. Mirror images that were encoded as such are better
    transform  applied to each sample in the process that loads it, such as `crops.random_crop`.
               Processes that are spawned need one that can be pickled
    device     where to decode. Samples are on the CPU

    It has one fingerprint: all files are of one model.

    Raises InputError for images without a file, and for files of two models or of another size
    than the ground truth. Raises FormatError or one of its kinds for damaged files.
    """

    def __init__(
        self,
        items: Sequence[Item],
        archive: Path | None,
        maps: str | Sequence[str] = DEFAULT_MAPS,
        *,
        cache: Path | None = None,
        mirror: bool = False,
        transform: Callable[[TaskSample], TaskSample] | None = None,
        device: str = "cpu",
    ) -> None:
        self.names = checked_names(maps)
        self.cache, self.transform, self.device = cache, transform, device
        views = _views(items, archive)
        self.fingerprint = _common_fingerprint([view.file for view in views])
        if mirror:
            views += [_View(each.item, each.file, each.of_mirrored, True) for each in views]
        self.views = views
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> TaskSample:
        view = self.views[index]
        data = view.file.read_bytes()
        try:
            header = container.read_header(data)
            tensors = self._tensors(view, data)
        except MvmError as error:
            raise type(error)(f"{view.file}: {error}") from error
        size = header.height, header.width
        truth = view.item.read()
        _check_size(view, truth, size)
        if view.of_mirrored:
            truth = mirrored_truth(truth, size[1], 0)
        if view.mirror:
            margin = margin_of(size[1])
            truth = mirrored_truth(truth, size[1], margin)
            size = size[0], size[1] + margin
        flat = np.zeros(size, np.bool_)
        if _FLAT in tensors:
            flat = np.unpackbits(tensors[_FLAT].numpy(), count=flat.size).reshape(size) > 0
        sample = TaskSample(
            view.item.name,
            view.of_mirrored != view.mirror,
            OrderedDict((name, tensors[name].float()) for name in self.names),
            size,
            header.rate_index,
            header.fingerprint,
            torch.from_numpy(flat),
            truth,
        )
        return sample if self.transform is None else self.transform(sample)

    def _tensors(self, view: _View, data: bytes) -> dict[str, Tensor]:
        """The maps [C,h,w] by name, and packed flat areas if there are any; from the cache."""
        if self.cache is None:
            return self._decoded(view, data)
        ends = [*self.names, *(["mirrored"] if view.mirror else [])]
        entry = self.cache / f"{view.file.stem}.{'.'.join(ends)}.safetensors"
        key = hashlib.sha256(data + _state(self.fingerprint)).hexdigest()
        tensors = read_entry(entry, key, self.names)
        if tensors is None:
            tensors = self._decoded(view, data)
            tensors |= {name: tensors[name].half() for name in self.names}
            write_whole(entry, save(tensors, {"key": key}))
        return tensors

    def _decoded(self, view: _View, data: bytes) -> dict[str, Tensor]:
        file = container.Reader(data)
        if view.mirror:
            features = decode_mirrored_features(file.header, only_tile(file.tile()), self.names)
        else:
            features = decode_features(file.header, only_tile(file.tile()), self.names, self.device)
        tensors = {name: each[0].cpu() for name, each in features.maps.items()}
        if features.flat.any():
            tensors[_FLAT] = torch.from_numpy(np.packbits(features.flat))
        return tensors


def mirrored_truth(truth: GroundTruth, width: int, margin: int) -> GroundTruth:
    """The truth of the mirror image of an image of this width, with a margin on its left."""
    mask, boxes, instances = truth.mask, truth.boxes, truth.instances
    if mask is not None:
        mask = F.pad(mask.flip(1), (margin, 0), value=IGNORED)
    if boxes is not None:
        left, top, right, bottom = boxes.unbind(1)
        edge = width + margin
        boxes = torch.stack((edge - right, top, edge - left, bottom), 1)
    if instances is not None:
        instances = F.pad(instances.flip(2), (margin, 0))
    return GroundTruth(mask, boxes, truth.labels, instances)


def _views(items: Sequence[Item], archive: Path | None) -> list[_View]:
    """The files of the given images, by image and then by name."""
    if not items:
        raise InputError("there are no images to make a data set of")
    if archive is None:
        others = [item.image for item in items if item.image.suffix.lower() != ".mvm"]
        if others:
            raise InputError(
                f"{len(others)} of {len(items)} images are no .mvm files, the first is "
                f"{others[0]}; encode them into an archive and name that"
            )
        return [_View(item, item.image, False, False) for item in items]
    if not archive.is_dir():
        raise InputError(f"there is no folder {archive}")
    found: dict[str, list[tuple[Path, bool]]] = {}
    for path in sorted(archive.iterdir()):
        parsed = parse_file_name(path)
        if parsed is not None:
            found.setdefault(parsed[0], []).append((path, parsed[1]))
    missing = [item.name for item in items if item.name not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(items)} images have no file in {archive}, the first is "
            f"{missing[0]}; write the archive to its end"
        )
    return [
        _View(item, path, of_mirrored, False)
        for item in items
        for path, of_mirrored in found[item.name]
    ]


def _common_fingerprint(files: Sequence[Path]) -> bytes:
    first: dict[bytes, Path] = {}
    for file in files:
        try:
            first.setdefault(read_header(file).fingerprint, file)
        except MvmError as error:
            raise type(error)(f"{file}: {error}") from error
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise InputError(
            f"{one} and {other} are of two models, or one is gray and one in colour, and their "
            "features do not go together; make a data set of each"
        )
    fingerprint = next(iter(first))
    statistics.load(fingerprint)
    return fingerprint


def _check_size(view: _View, truth: GroundTruth, size: tuple[int, int]) -> None:
    for known in (truth.mask, truth.instances):
        if known is not None and tuple(known.shape[-2:]) != size:
            raise InputError(
                f"{view.file} is {size[1]}x{size[0]}, but the ground truth of {view.item.name} is "
                f"{known.shape[-1]}x{known.shape[-2]}"
            )


@lru_cache(maxsize=4)
def _state(fingerprint: bytes) -> bytes:
    """What decoded maps depend on, besides the file."""
    numbers = (statistics.WEIGHTS / f"{fingerprint.hex()}.safetensors").read_bytes()
    return __version__.encode() + numbers


def read_entry(entry: Path, key: str, names: Sequence[str]) -> dict[str, Tensor] | None:
    """The tensors of a cache's entry. None if it is missing, damaged or of another key."""
    try:
        with safe_open(entry, "pt") as file:
            if file.metadata() != {"key": key} or not set(names) <= set(file.keys()):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
