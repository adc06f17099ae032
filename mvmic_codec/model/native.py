"""The entropy model in C, for one image on the CPU: the integers of `IntegerEntropy`, sooner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.model.entropy import (
    FLAG_TABLES,
    FRACTION,
    MODE_INPUT,
    MODES,
    NODES,
    PARTS,
    PASSES,
    SITE_ORDER,
    SPACING,
    TABLES,
)
from mvmic_codec.model.integer import (
    LAYERS,
    LEVEL_MAX,
    MEAN_MAX,
    STEP_BITS,
    Coder,
    EntropyArrays,
    ModeCoder,
    white_places,
)
from mvmic_codec.model.intnet import ZERO, Layer, Part, merge, predict, repeat_edges, stride_of

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Symbols = npt.NDArray[np.int16]
Reals = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


# Arrays that are used as they are.
SMALL_ARRAYS = ["step", "gain", "hyper_step", "base", "base_mode", "mode_base", "aligned"]
SMALL_ARRAYS += ["start", "compand"]
# Channels that neighbours are counted of together.
NEIGHBOURS_OF = 8


class NativeEntropy(EntropyArrays):
    """Evaluation of the arrays that `integerise` made by csrc/intnet.c.

    `path` is one of `intnet.usable_paths()`. Raises OverflowError for arrays whose sums might not
    fit into 32 bits; IntegerEntropy takes them.
    """

    def __init__(self, arrays: Mapping[str, Tensor], rotate: bool, path: str) -> None:
        super().__init__(arrays, rotate, torch.device("cpu"))
        self.path = path
        a = {name: array.numpy() for name, array in arrays.items()}
        self.arrays = {name: a[name] for name in SMALL_ARRAYS}
        self.width = a["start"].shape[1]
        signed = {"hyper_rise": slice(None)}
        # What near parts decoded enters with its sign, after the features.
        near = slice(self.width, self.width + self.linear)
        signed |= {f"merge.{part}": near for part in range(0, PARTS - 1, 2)}
        self.native = {
            name: Layer(
                a[f"{name}.weight"],
                a[f"{name}.bias"],
                a[f"{name}.shift"],
                signed.get(name, slice(0)),
                self.path,
            )
            for name in LAYERS
        }
        self.native_hyper = [taps(part) for part in np.split(a["hyper_linear"], PASSES)]
        # By pass and by the pass that it looks at.
        self.native_predict: list[list[Reals]] = [[]]
        self.native_predict += [
            [taps(part) for part in np.split(a[f"predict.{p - 1}"], p, axis=1)]
            for p in range(1, PASSES)
        ]
        places = self.sites.numpy()
        self.channel_sites = (places % 4).astype(np.uint8)

    def hyper_levels(self, z: npt.NDArray[np.int64], rate: int) -> Reals:
        """What z, in sixteenths of a step, stands for, as a map of doubles."""
        channels, height, width = z.shape
        step = self.arrays["hyper_step"][rate].astype(np.int64)[:, None, None]
        level = (z * step + 2 ** (STEP_BITS - 1)) >> STEP_BITS
        levels = np.empty((height + 2, width + 2, channels))
        levels[1:-1, 1:-1] = np.clip(level, -LEVEL_MAX, LEVEL_MAX).transpose(1, 2, 0)
        repeat_edges(levels.view(np.uint8))
        return levels

    def predict_from_hyper(self, levels: Reals, p: int) -> Reals:
        """The linear prediction of a pass from `hyper_levels`, [h,w,N]."""
        height, width = levels.shape[0] - 2, levels.shape[1] - 2
        out = np.zeros((height, width, 4 * self.linear))
        predict(levels, self.native_hyper[p], out, self.path)
        return raise_cells(out)

    def start_features(self, z: npt.NDArray[np.int64], rate: int) -> Bytes:
        """The first features as a map."""
        _, height, width = z.shape
        a = self.arrays
        size = a["compand"][np.minimum(np.abs(z), len(a["compand"]) - 1)]
        shaped = (ZERO + np.sign(z) * size).astype(np.uint8)
        z_map = np.zeros((height + 2, width + 2, stride_of(len(z))), np.uint8)
        z_map[1:-1, 1:-1, : len(z)] = shaped.transpose(1, 2, 0)
        repeat_edges(z_map)
        risen = raise_cells(self.native["hyper_rise"].sums(z_map)) + a["start"][rate].astype(int)
        features = np.zeros((2 * height + 2, 2 * width + 2, stride_of(self.width)), np.uint8)
        features[1:-1, 1:-1, : self.width] = risen.clip(0, 255)
        repeat_edges(features)
        return features

    def native_modes(
        self, features: Bytes, rate: int, inside: Bytes, mode_coder: ModeCoder
    ) -> tuple[Bytes, Bytes]:
        """Modes [4,h,w] of the sites of every cell, and the map of features that know them."""
        base = np.tile(self.arrays["mode_base"][rate].astype(np.int32), 2)
        modes = np.zeros(inside.shape, np.uint8)
        height, width = inside.shape[1:]
        known = features
        for half in range(2):
            sites = list(SITE_ORDER[2 * half : 2 * half + 2])
            score = self.native[f"mode_scores.{half}"].sums(known) + base
            index = ((score + FRACTION // 2) // FRACTION).clip(0, FLAG_TABLES - 1) + TABLES
            index = index.reshape(height, width, 2, NODES).transpose(2, 3, 0, 1)
            index = index * inside[sites][:, None]
            chosen = mode_coder(half, torch.from_numpy(index.astype(np.int64))[None])
            modes[sites] = chosen[0].numpy()
            layer = self.native[f"mode_merge.{half}"]
            merged = np.zeros((height + 2, width + 2, stride_of(layer.inputs)), np.uint8)
            merged[..., : self.width] = features[..., : self.width]
            hot = modes[list(SITE_ORDER[: 2 * half + 2]), :, :, None] == np.arange(MODES)
            merged[1:-1, 1:-1, self.width : layer.inputs] = MODE_INPUT * hot.transpose(
                1, 2, 0, 3
            ).reshape(height, width, -1)
            repeat_edges(merged)
            known = layer.map(merged)
        return modes, known

    def part(self, number: int, rate: int, modes: Bytes, inside: Bytes) -> Part:
        """The arrays of a part."""
        p, far = divmod(number, 2)
        mine = slice(self.linear, None) if far else slice(self.linear)
        a = self.arrays
        return Part(
            np.ascontiguousarray(self.channel_sites[p, mine]),
            a["base"][rate, p, mine].astype(np.int32),
            np.ascontiguousarray(a["base_mode"][:, mine]),
            np.ascontiguousarray(a["step"][rate, mine]),
            None if far else np.ascontiguousarray(a["gain"][rate]),
            None if far else a["aligned"],
            modes,
            inside,
        )

    def with_neighbours(
        self, symbols: Symbols, rate: int, means: Ints, sums: Ints
    ) -> tuple[Ints, Ints]:
        """Means [N,h,w] and sums [h,w,N] of part 0, with what `from_neighbours` adds to them.

        Few channels at once: its doubles take many times the memory of the symbols.
        """
        means, sums = means.copy(), sums.copy()
        white = torch.from_numpy(symbols)[None].int() * SPACING
        for first in range(0, self.linear, NEIGHBOURS_OF):
            channels = slice(first, first + NEIGHBOURS_OF)
            more, shift = self.from_neighbours(white, rate, channels)
            means[channels] += more[0].int().numpy()
            sums[..., channels] += shift[0].int().permute(1, 2, 0).numpy()
        return means.clip(-MEAN_MAX, MEAN_MAX), sums

    def code(
        self,
        z: Tensor,
        rate: int,
        inside: Tensor,
        mode_coder: ModeCoder,
        coder: Coder,
    ) -> tuple[Tensor, Tensor]:
        """As `IntegerEntropy.code`, for a batch of one.

        The coder is given table indices as uint8 and means as int32.
        """
        if len(z) != 1:
            raise ValueError(f"C takes images one by one, not {len(z)}")
        z_whole = z[0].numpy().astype(np.int64)
        z_levels = self.hyper_levels(z_whole, rate)
        features = self.start_features(z_whole, rate)
        rows, columns = inside.shape
        cells = inside.numpy().reshape(rows // 2, 2, columns // 2, 2).transpose(1, 3, 0, 2)
        inside_cells = np.ascontiguousarray(cells).reshape(4, rows // 2, columns // 2)
        inside_cells = inside_cells.astype(np.uint8)
        modes, features = self.native_modes(features, rate, inside_cells, mode_coder)
        white = white_places(rows // 2, columns // 2, self.device).numpy().astype(np.uint8)
        latent = np.zeros((self.channels, rows, columns), np.float32)
        levels: list[Reals] = []
        q = np.zeros((0, rows // 2, columns // 2), np.int32)
        for number in range(PARTS):
            p, far = divmod(number, 2)
            if number:
                merged = merge(features, self.width, q, self.arrays["compand"], bool(far))
                features = self.native[f"merge.{number - 1}"].map(merged)
                del merged, q
            deep = self.native[f"think.{number}"].map(features)
            part = self.part(number, rate, modes, inside_cells)
            sums = self.native[f"scales.{number}"].sums(deep)
            means = predicted = None
            if not far:
                linear = self.predict_from_hyper(z_levels, p)
                # By no weights in pass 0: there are no levels yet.
                for source, weight in zip(levels, self.native_predict[p], strict=True):
                    predict(source, weight, linear, self.path)
                means, predicted = part.means(linear, self.native[f"means.{p}"].sums(deep))
                del linear
                if p == PASSES - 1:
                    levels.clear()

            if means is None or number:
                symbols = ask(coder, number, part, sums, means, predicted)
            else:
                symbols = ask(coder, number, part, sums, means, predicted, white)
                means, sums = self.with_neighbours(symbols, rate, means, sums)
                symbols = symbols + ask(coder, number, part, sums, means, predicted, 1 - white)
            # What is not needed any more is freed before q, which is as large as the sums, is made.
            del deep, sums
            mine = latent[self.linear :] if far else latent[: self.linear]
            q, level = part.settle(symbols, means, mine)
            if level is not None:
                levels.append(level)
            del level
        spread = modes.reshape(2, 2, rows // 2, columns // 2).transpose(2, 0, 3, 1)
        whole = np.ascontiguousarray(spread).reshape(rows, columns).astype(np.int64)
        return torch.from_numpy(latent)[None], torch.from_numpy(whole)[None]


def ask(
    coder: Coder,
    number: int,
    part: Part,
    sums: Ints,
    means: Ints | None,
    predicted: Ints | None,
    coded: Bytes | None = None,
) -> Symbols:
    """Symbols [n,h,w] of a part at the places `coded` [h,w], or of all; 0 at others."""
    index = part.indices(sums)
    if coded is not None:
        index *= coded
    nothing = torch.zeros((), dtype=torch.int32).expand(index.shape)
    symbols = coder(
        number,
        torch.from_numpy(index)[None],
        (nothing if means is None else torch.from_numpy(means))[None],
        (nothing if predicted is None else torch.from_numpy(predicted))[None],
        lambda: torch.from_numpy(part.scores(sums))[None],
    )
    return symbols[0].to(torch.int16).contiguous().numpy()


def taps(weight: npt.NDArray[np.int16]) -> Reals:
    """[O,I,3,3] -> [9,I,O], as `predict` wants it."""
    outputs, inputs = weight.shape[:2]
    flat = weight.astype(np.float64).reshape(outputs, inputs, 9)
    return np.ascontiguousarray(flat.transpose(2, 1, 0))


def raise_cells(x: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """[h,w,4K] -> [2h,2w,K]: channel 4k + 2i + j goes to row i, column j."""
    height, width, planes = x.shape
    cells = x.reshape(height, width, planes // 4, 2, 2).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(cells).reshape(2 * height, 2 * width, planes // 4)
