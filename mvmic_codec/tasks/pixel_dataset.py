"""`PixelDataset`: decoded pixels and ground truth from `.mvm` files, or the originals' pixels."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from mvmic_codec import __version__
from mvmic_codec.api import decode, read_header
from mvmic_codec.errors import InputError, MvmError
from mvmic_codec.tasks.crops import Batch, collate
from mvmic_codec.tasks.dataset import TaskDataset, TaskSample, mirrored_truth, read_entry
from mvmic_codec.tasks.heads import UNTOLD_RATE
from mvmic_codec.tasks.layouts import Item, load_image, mode_of
from mvmic_codec.tasks.pixels import PIXELS
from mvmic_codec.tasks.whole import write_whole


@dataclass(frozen=True)
class _View:
    """A view of an image.

    original     whether the file is the image itself
    of_mirrored  whether the file holds the mirror image
    mirror       whether to mirror what the file holds
    """

    item: Item
    file: Path
    original: bool
    of_mirrored: bool
    mirror: bool


class PixelDataset(Dataset[TaskSample]):
    """A `TaskSample` for each file, with the one map "pixels", float32 [P,H,W] in 0..1.

    items      images of a data set; see `layouts`
    archive    as for `TaskDataset`: a folder of `.mvm` files. None for originals alone
    originals  whether to add the images themselves. Their samples have the rate index `UNTOLD_RATE`
    cache      a folder for decoded pixels as uint8, or None to decode each time. Originals are not
               put there
    mirror     whether to add the mirrored view of each
    transform  as for `TaskDataset`
    device     where to decode. Samples are on the CPU

    Errors as `TaskDataset`. Raises InputError for originals that are neither gray nor RGB.
    """

    def __init__(
        self,
        items: Sequence[Item],
        archive: Path | None,
        *,
        originals: bool = False,
        cache: Path | None = None,
        mirror: bool = False,
        transform: Callable[[TaskSample], TaskSample] | None = None,
        device: str = "cpu",
    ) -> None:
        self.cache, self.transform, self.device = cache, transform, device
        if not items or (archive is None and not originals):
            raise InputError("there are no images to make a data set of")
        self.fingerprint: bytes = bytes(8)
        self.views: list[_View] = []
        if archive is not None:
            files = TaskDataset(items, archive)
            self.fingerprint = files.fingerprint
            for each in files.views:
                self.views.append(_View(each.item, each.file, False, each.of_mirrored, False))
        if originals:
            self.views += [_View(item, item.image, True, False, False) for item in items]
        if mirror:
            self.views += [replace(each, mirror=True) for each in self.views]
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> TaskSample:
        view = self.views[index]
        if view.original:
            pixels, rate = original_pixels(view.file), UNTOLD_RATE
        else:
            try:
                pixels, rate = self._decoded(view.file), read_header(view.file).rate_index
            except MvmError as error:
                raise type(error)(f"{view.file}: {error}") from error
        size = pixels.shape[1], pixels.shape[2]
        truth = view.item.read()
        if truth.mask is not None and truth.mask.shape != size:
            raise InputError(
                f"{view.file} is {size[1]}x{size[0]}, but the ground truth of {view.item.name} is "
                f"{truth.mask.shape[1]}x{truth.mask.shape[0]}"
            )
        if view.mirror:
            pixels = pixels.flip(2)
        mirrored = view.of_mirrored != view.mirror
        if mirrored:
            truth = mirrored_truth(truth, size[1], 0)
        sample = TaskSample(
            view.item.name,
            mirrored,
            OrderedDict({PIXELS: pixels / 255}),
            size,
            rate,
            self.fingerprint,
            torch.zeros(size, dtype=torch.bool),
            truth,
        )
        return sample if self.transform is None else self.transform(sample)

    def _decoded(self, file: Path) -> Tensor:
        """The pixels uint8 [P,H,W] of an `.mvm` file; from the cache."""
        if self.cache is None:
            return as_planes(decode(file, device=self.device), file)
        key = hashlib.sha256(file.read_bytes() + __version__.encode()).hexdigest()
        entry = self.cache / f"{file.stem}.{PIXELS}.safetensors"
        found = read_entry(entry, key, [PIXELS])
        if found is None:
            found = {PIXELS: as_planes(decode(file, device=self.device), file)}
            write_whole(entry, save(found, {"key": key}))
        return found[PIXELS]


def original_pixels(path: Path) -> Tensor:
    """The pixels uint8 [P,H,W] of an image file, as 8-bit gray or RGB."""
    return as_planes(load_image(path), path)


def planes_of(path: Path) -> int:
    """How many planes `original_pixels` gives. It reads the header alone. Errors as there."""
    mode = mode_of(path)
    _check_mode(mode, path)
    return 1 if mode == "L" else 3


def as_planes(image: Image.Image, path: Path) -> Tensor:
    """A gray or RGB image as uint8 [P,H,W], contiguous. Errors name the path.

    Raises InputError for more than 8 bits.
    """
    _check_mode(image.mode, path)
    if image.mode in ("1", "P"):
        image = image.convert("RGB")
    pixels = np.array(image)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))


def _check_mode(mode: str, path: Path) -> None:
    if mode not in ("1", "P", "L", "RGB"):
        raise InputError(
            f"{path} has mode {mode}: networks on pixels take gray or RGB images of 8 bits"
        )


def collate_untold(samples: Sequence[TaskSample]) -> Batch:
    """As `crops.collate`, for networks that are not told the rate."""
    batch = collate(samples)
    batch["rate_indices"] = torch.full_like(batch["rate_indices"], UNTOLD_RATE)
    return batch
