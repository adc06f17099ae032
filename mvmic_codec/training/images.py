"""Training and validation images, held in memory, and the crops taken from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mvmic_codec.encoder import flat_fill, flat_search
from mvmic_codec.errors import InputError

# Share of each kind in the batches of the model for gray images. It sees all of them in gray.
GRAY_MIX = {
    "cxr": 0.48,
    "cxr_half": 0.20,
    "gray16": 0.24,
    "ultrasound": 0.04,
    "natural": 0.04,
}
# Share of each kind in the batches of the model for colour. It sees gray images too, with three
# equal channels, for scans that have hardly any chroma.
COLOUR_MIX = {
    "polyp": 0.58,
    "natural": 0.16,
    "street": 0.03,
    "fundus": 0.08,
    "derm": 0.02,
    "histo": 0.03,
    "ultrasound": 0.02,
    "cxr": 0.05,
    "gray16": 0.03,
}
# Weights of red, green and blue in gray (BT.601).
LUMA = (0.299, 0.587, 0.114)
# Share of the crops of deep images that are seen through a window, and its least width in 0..1.
WINDOWED = 0.3
NARROWEST = 0.02
# Validation images: patients and sources that training never sees.
VALIDATION_CXR_PATIENTS = 8
VALIDATION_POLYP = "C3_"  # one centre; its last frames by name
VALIDATION_POLYP_FRAMES = 30
VALIDATION_GRAY16 = ("ctchest_normal001", "mrbrain_vsseg001_10", "mrbrain_vsseg001_11")
VALIDATION_NATURAL = ("gb82_waves", "gb82_sunset", "mcm_9")


def load_planes(path: Path) -> np.ndarray:
    """An image file -> uint8 [C,H,W], or uint16 [1,H,W] stretched over its own range."""
    with Image.open(path) as image:
        if image.mode.startswith("I"):
            deep = np.asarray(image).astype(np.float64)
            low, high = deep.min(), deep.max()
            stretched: np.ndarray = np.round((deep - low) / max(high - low, 1) * 65535)
            return stretched.astype(np.uint16)[None]
        pixels = np.asarray(image.convert("RGB"))
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        return np.ascontiguousarray(pixels[..., 0])[None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@dataclass
class Split:
    """Image planes by kind."""

    train: dict[str, list[np.ndarray]]
    validation: dict[str, list[np.ndarray]]


def load_split(folder: Path, kinds: Iterable[str]) -> Split:
    """Read FOLDER/KIND/* and hold the validation part out by patient or source.

    Kinds that have no folder are left out. Raises InputError if nothing is left to train on or
    to validate with.
    """
    split = Split({}, {})
    kinds = [kind for kind in kinds if (folder / kind).is_dir()]
    patients = sorted({name.split("_")[0] for name in names(folder / "cxr")})
    held_patients = set(patients[-VALIDATION_CXR_PATIENTS:])
    held_polyps = held_out_polyps(names(folder / "polyp"))
    for kind in kinds:
        train: list[np.ndarray] = []
        validation: list[np.ndarray] = []
        for path in sorted((folder / kind).iterdir()):
            name = path.name
            if kind in ("cxr", "cxr_half") and name.split("_")[0] in held_patients:
                if kind == "cxr":
                    validation.append(load_planes(path))
            elif kind == "polyp" and name in held_polyps:
                if held_polyps.index(name) % 4 == 0:
                    validation.append(load_planes(path))
            elif name.startswith(VALIDATION_GRAY16) or name.startswith(VALIDATION_NATURAL):
                validation.append(load_planes(path))
            else:
                train.append(load_planes(path))
        if train:
            split.train[kind] = train
        if validation:
            split.validation[kind] = validation
    if not split.train or not split.validation:
        raise InputError(
            f"{folder} holds no images to train on and to validate with: a folder for each kind "
            f"is expected, such as {folder / 'cxr'}"
        )
    return split


def load_for_model(folder: Path, gray: bool, threads: int) -> Split:
    """The images that the model for gray, or else for colour, is trained and validated with.

    Flat areas are filled as an encoder fills them, which takes minutes. A model for gray images
    trains with all images made gray. Each model validates with images that were made for it.

    Raises InputError as `load_split` does, and where no validation image is gray, or colour.
    """
    split = load_split(folder, mix_of(gray))
    if gray:
        split.train = {kind: [as_gray(i) for i in pool] for kind, pool in split.train.items()}
    own = {k: [i for i in pool if is_gray(i) == gray] for k, pool in split.validation.items()}
    split.validation = {kind: pool for kind, pool in own.items() if pool}
    if not split.validation:
        wanted = "gray images" if gray else "colour images"
        kind = folder / ("cxr" if gray else "polyp")
        raise InputError(
            f"{folder} holds no {wanted} to validate with: add some, such as {kind}, or train the "
            "other model"
        )
    pools = [*split.train.values(), *split.validation.values()]
    count = sum(len(pool) for pool in pools)
    with (
        ThreadPoolExecutor(threads) as workers,
        tqdm(total=count, unit="image", desc="flat areas", disable=None) as bar,
    ):
        for pool in pools:
            for k, filled in enumerate(workers.map(fill_flat, pool)):
                pool[k] = filled
                bar.update()
    return split


def mix_of(gray: bool) -> dict[str, float]:
    """The share of each kind in the batches of the model for gray, or else for colour."""
    return GRAY_MIX if gray else COLOUR_MIX


def is_gray(image: np.ndarray) -> bool:
    """Whether planes [C,H,W] have one channel."""
    return len(image) == 1


def as_gray(image: np.ndarray) -> np.ndarray:
    """Planes [C,H,W] -> [1,H,W] of the same type: the luma where there are three."""
    if is_gray(image):
        return image
    luma = np.tensordot(LUMA, image.astype(np.float64), 1)
    gray: np.ndarray = np.rint(luma).astype(image.dtype)
    return gray[None]


def fill_flat(image: np.ndarray) -> np.ndarray:
    """Planes [C,H,W], uint8 or uint16, as the networks see them: any flat areas filled smoothly."""
    if image.min() == image.max():
        return image
    peak = np.float32(np.iinfo(image.dtype).max)
    planes = image.astype(np.float32) / peak
    found = flat_search.find(planes)
    if not found:
        return image
    hidden = found[0].map > 0
    filled: np.ndarray = np.rint(flat_fill.fill(planes, hidden) * peak).astype(image.dtype)
    return filled


def held_out_polyps(names: list[str]) -> list[str]:
    """Of sorted file names of colonoscopy frames, those that training never sees."""
    return [n for n in names if n.startswith(VALIDATION_POLYP)][-VALIDATION_POLYP_FRAMES:]


def names(folder: Path) -> list[str]:
    """The sorted file names of a folder; none if it does not exist."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def as_planes(crop: np.ndarray, planes: int) -> np.ndarray:
    """uint8 or uint16 [C,h,w] -> float32 [planes,h,w] in 0..1. C is 1 or `planes`."""
    peak = np.float32(np.iinfo(crop.dtype).max)
    out = np.empty((planes, *crop.shape[1:]), np.float32)
    np.divide(crop, peak, out=out)
    return out


def levels_of(image: np.ndarray) -> list[float] | None:
    """Values in 0..1 that cut a deep image's pixels into equal shares; None for one of 8 bits."""
    if image.dtype == np.uint8:
        return None
    shares: list[float] = (np.quantile(image, np.linspace(0, 1, 33)) / 65535).tolist()
    return shares


class CropSource:
    """Endless batches of random crops, float32 [B,P,size,size] in 0..1, mirrored half the time.

    Some crops of deep images are seen through a window, as readers of CT and MR see them: values
    below it become black, values above it white.

    images  by kind
    mix     the share of each kind; kinds without images are left out
    planes  P: with three, a gray image is repeated; with one, all images must be gray
    device  where images wait and crops are cut

    Images smaller than a crop are padded by their edges.
    """

    def __init__(
        self,
        images: dict[str, list[np.ndarray]],
        mix: dict[str, float],
        planes: int,
        batch: int,
        size: int,
        seed: int,
        device: str | torch.device = "cpu",
    ):
        self.planes, self.batch, self.size, self.device = planes, batch, size, device
        self.images = {kind: [self.place(i) for i in pool] for kind, pool in images.items()}
        self.levels = {kind: [levels_of(i) for i in pool] for kind, pool in images.items()}
        self.rng = np.random.default_rng(seed)
        self.kinds = list(images)
        share = np.array([mix[k] for k in self.kinds])
        self.share = share / share.sum()

    def place(self, image: np.ndarray) -> Tensor:
        """The planes of an image on the device, uint8 or int32, at least as large as a crop."""
        _, height, width = image.shape
        if height < self.size or width < self.size:
            pad = ((0, 0), (0, max(0, self.size - height)), (0, max(0, self.size - width)))
            image = np.pad(image, pad, mode="edge")
        if image.dtype != np.uint8:
            image = image.astype(np.int32)
        return torch.from_numpy(image).to(self.device)

    def make(self) -> Tensor:
        """One batch."""
        out = torch.empty(self.batch, self.planes, self.size, self.size, device=self.device)
        kinds = self.rng.choice(len(self.kinds), self.batch, p=self.share)
        for crop, k in zip(out, kinds, strict=True):
            pool = self.images[self.kinds[k]]
            n = int(self.rng.integers(len(pool)))
            image, levels = pool[n], self.levels[self.kinds[k]][n]
            top, left = (int(self.rng.integers(side - self.size + 1)) for side in image.shape[1:])
            part = image[:, top : top + self.size, left : left + self.size]
            part = part.flip(2) if self.rng.random() < 0.5 else part
            crop.copy_(part).div_(255.0 if part.dtype == torch.uint8 else 65535.0)
            if levels is not None and self.rng.random() < WINDOWED:
                low = levels[self.rng.integers(len(levels) * 5 // 8)]
                high = levels[-1 - self.rng.integers(len(levels) // 4)]
                if high - low > NARROWEST:
                    crop.sub_(low).div_(high - low).clamp_(0, 1)
        return out

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.make()
