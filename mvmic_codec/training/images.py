"""Training and validation images, held in memory, and the crops taken from them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError

# Share of each kind in a batch.
MIX = {
    "polyp": 0.36,
    "cxr": 0.26,
    "cxr_half": 0.10,
    "gray16": 0.11,
    "natural": 0.07,
    "street": 0.02,
    "fundus": 0.03,
    "ultrasound": 0.02,
    "derm": 0.01,
    "histo": 0.02,
}
GRAY_AS_COLOUR = 0.06
# Held out for validation: patients and sources that training never sees.
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


def load_split(folder: Path, kinds: dict[str, float] = MIX) -> Split:
    """Read FOLDER/<kind>/* and hold the validation part out by patient or source.

    Kinds that have no folder are left out. Raises InputError if nothing is left to train on or
    to validate with.
    """
    split = Split({}, {})
    kinds = {kind: share for kind, share in kinds.items() if (folder / kind).is_dir()}
    patients = sorted({name.split("_")[0] for name in names(folder / "cxr")})
    held_patients = set(patients[-VALIDATION_CXR_PATIENTS:])
    polyps = names(folder / "polyp")
    held_polyps = [n for n in polyps if n.startswith(VALIDATION_POLYP)][-VALIDATION_POLYP_FRAMES:]
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


def names(folder: Path) -> list[str]:
    """Sorted file names of a folder, none if it is not there."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def as_planes(crop: np.ndarray) -> np.ndarray:
    """uint8 or uint16 [C,h,w] -> float32 [3,h,w] in 0..1."""
    peak = 255.0 if crop.dtype == np.uint8 else 65535.0
    return np.broadcast_to(crop.astype(np.float32) / peak, (3, *crop.shape[1:])).copy()


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """[C,size,size]; small images are padded by their edges; mirrored half the time."""
    _, height, width = image.shape
    if height < size or width < size:
        pad = ((0, 0), (0, max(0, size - height)), (0, max(0, size - width)))
        image = np.pad(image, pad, mode="edge")
        _, height, width = image.shape
    top = int(rng.integers(0, height - size + 1))
    left = int(rng.integers(0, width - size + 1))
    crop = image[:, top : top + size, left : left + size]
    return crop[:, :, ::-1] if rng.random() < 0.5 else crop


@dataclass
class Batch:
    """planes [B,3,s,s] float32 in 0..1, gray [B] bool, kinds' names."""

    planes: Tensor
    gray: Tensor
    kinds: list[str]


class CropSource:
    """Endless batches of random crops, made one ahead in a thread."""

    def __init__(self, images: dict[str, list[np.ndarray]], batch: int, size: int, seed: int):
        self.images = images
        self.batch, self.size = batch, size
        self.rng = np.random.default_rng(seed)
        self.kinds = list(images)
        share = np.array([MIX[k] for k in self.kinds])
        self.share = share / share.sum()

    def make(self) -> Batch:
        """One batch."""
        crops, gray, kinds = [], [], []
        for k in self.rng.choice(len(self.kinds), self.batch, p=self.share):
            kind = self.kinds[k]
            pool = self.images[kind]
            image = pool[int(self.rng.integers(len(pool)))]
            crop = random_crop(image, self.size, self.rng)
            crops.append(as_planes(crop))
            # Some gray crops go as colour, for scans whose chroma is nearly nothing.
            gray.append(crop.shape[0] == 1 and self.rng.random() >= GRAY_AS_COLOUR)
            kinds.append(kind)
        return Batch(torch.from_numpy(np.stack(crops)), torch.tensor(gray), kinds)

    def __iter__(self) -> Iterator[Batch]:
        ahead: queue.Queue[Batch | Exception] = queue.Queue(maxsize=2)

        def work() -> None:
            try:
                while True:
                    ahead.put(self.make())
            except Exception as error:
                # Raised where the batch was wanted: else the run would wait for it for ever.
                ahead.put(error)

        threading.Thread(target=work, daemon=True).start()
        while True:
            batch = ahead.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch
