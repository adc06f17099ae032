"""The entropy model in C, for one image on the CPU: the integers of `IntegerEntropy`, faster."""

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
    SPACING,
    TABLES,
)
from mvmic_codec.model.integer import (
    LAYERS,
    MEAN_MAX,
    STEP_BITS,
    V_MAX,
    EntropyArrays,
    anchor_places,
)
from mvmic_codec.model.intnet import (
    ZERO,
    GroupArrays,
    Layer,
    merge,
    predict,
    repeat_edges,
    stride_of,
)
from mvmic_codec.model.schedule import (
    MODE_HALVES,
    SCHEDULE,
    SPATIAL_STEPS,
    Coder,
    Evaluation,
    ModeCoder,
    SymbolGroup,
    run_schedule,
    sites_of_half,
    sites_up_to_half,
)

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Symbols = npt.NDArray[np.int16]
Reals = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)


# Arrays that C takes without rearranging.
SMALL_ARRAYS = ["step", "gain", "hyper_step", "base", "base_mode", "mode_base", "aligned"]
SMALL_ARRAYS += ["start", "compand"]
# Channels whose neighbours are counted together, to bound memory.
NEIGHBOURS_OF = 8


class NativeEntropy(EntropyArrays):
    """The entropy model evaluated by csrc/common/intnet.c, on arrays of `integerise`.

    path is one of `intnet.usable_paths()`. Raises OverflowError for arrays whose sums might exceed
    32 bits; use IntegerEntropy for those.
    """

    def __init__(self, arrays: Mapping[str, Tensor], rotate: bool, path: str) -> None:
        super().__init__(arrays, rotate, torch.device("cpu"))
        self.path = path
        a = {name: array.numpy() for name, array in arrays.items()}
        self.arrays = {name: a[name] for name in SMALL_ARRAYS}
        self.width = a["start"].shape[1]
        signed = {"hyper_rise": slice(None)}
        # q of low-frequency groups enters with its sign, after the features.
        low = slice(self.width, self.width + self.linear)
        signed |= {f"merge.{group.number}": low for group in SCHEDULE if group.low_freq}
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
        self.native_hyper = [taps(part) for part in np.split(a["hyper_linear"], SPATIAL_STEPS)]
        # By spatial step, and by the earlier step that it predicts from.
        self.native_predict: list[list[Reals]] = [[]]
        self.native_predict += [
            [taps(part) for part in np.split(a[f"predict.{step - 1}"], step, axis=1)]
            for step in range(1, SPATIAL_STEPS)
        ]
        places = self.sites.numpy()
        self.channel_sites = (places % 4).astype(np.uint8)

    def dequantise_hyper(self, z: npt.NDArray[np.int64], rate: int) -> Reals:
        """Dequantised z, in sixteenths on the 255 scale, from z [Z,h,w] in sixteenths of a step.

        Returns [h+2,w+2,Z], with edges repeated.
        """
        channels, height, width = z.shape
        step = self.arrays["hyper_step"][rate].astype(np.int64)[:, None, None]
        whole = (z * step + 2 ** (STEP_BITS - 1)) >> STEP_BITS
        v = np.empty((height + 2, width + 2, channels))
        v[1:-1, 1:-1] = np.clip(whole, -V_MAX, V_MAX).transpose(1, 2, 0)
        repeat_edges(v.view(np.uint8))
        return v

    def predict_from_hyper(self, v: Reals, step: int) -> Reals:
        """The linear prediction of a spatial step, [h,w,N], from what `dequantise_hyper` gives."""
        height, width = v.shape[0] - 2, v.shape[1] - 2
        out = np.zeros((height, width, 4 * self.linear))
        predict(v, self.native_hyper[step], out, self.path)
        return pixel_shuffle_last(out)

    def start_features(self, z: npt.NDArray[np.int64], rate: int) -> Bytes:
        """The first features as a map, from z [Z,h,w] in sixteenths of a step."""
        _, height, width = z.shape
        a = self.arrays
        size = a["compand"][np.minimum(np.abs(z), len(a["compand"]) - 1)]
        shaped = (ZERO + np.sign(z) * size).astype(np.uint8)
        z_map = np.zeros((height + 2, width + 2, stride_of(len(z))), np.uint8)
        z_map[1:-1, 1:-1, : len(z)] = shaped.transpose(1, 2, 0)
        repeat_edges(z_map)
        risen = pixel_shuffle_last(self.native["hyper_rise"].sums(z_map)) + a["start"][rate].astype(
            int
        )
        features = np.zeros((2 * height + 2, 2 * width + 2, stride_of(self.width)), np.uint8)
        features[1:-1, 1:-1, : self.width] = risen.clip(0, 255)
        repeat_edges(features)
        return features

    def group_arrays(
        self, group: SymbolGroup, rate: int, modes: Bytes, inside: Bytes
    ) -> GroupArrays:
        """The arrays of a symbol group; modes and inside are uint8 [4,h,w]."""
        mine = self.channels_of(group)
        a = self.arrays
        return GroupArrays(
            np.ascontiguousarray(self.channel_sites[group.step, mine]),
            a["base"][rate, group.step, mine].astype(np.int32),
            np.ascontiguousarray(a["base_mode"][:, mine]),
            np.ascontiguousarray(a["step"][rate, mine]),
            np.ascontiguousarray(a["gain"][rate]) if group.low_freq else None,
            a["aligned"] if group.low_freq else None,
            modes,
            inside,
        )

    def with_neighbours(
        self, symbols: Symbols, rate: int, means: Ints, sums: Ints
    ) -> tuple[Ints, Ints]:
        """Means [N,h,w] and sums [h,w,N] of the first group, plus what its anchors add to them.

        Takes few channels at once: float64 needs many times the memory of the symbols.
        """
        means, sums = means.copy(), sums.copy()
        anchors = torch.from_numpy(symbols)[None].int() * SPACING
        for first in range(0, self.linear, NEIGHBOURS_OF):
            channels = slice(first, first + NEIGHBOURS_OF)
            more, shift = self.from_neighbours(anchors, rate, channels)
            means[channels] += more[0].int().numpy()
            sums[..., channels] += shift[0].int().permute(1, 2, 0).numpy()
        return means.clip(-MEAN_MAX, MEAN_MAX), sums

    def code(
        self, z: Tensor, rate: int, inside: Tensor, mode_coder: ModeCoder, coder: Coder
    ) -> tuple[Tensor, Tensor]:
        """As `IntegerEntropy.code`, but for a batch of one; ValueError for another.

        The coder gets table indices as uint8 and means as int32.
        """
        if len(z) != 1:
            raise ValueError(f"C takes images one by one, not {len(z)}")
        return run_schedule(NativeEvaluation(self, z, rate, inside), mode_coder, coder)


class NativeEvaluation(Evaluation[Symbols]):
    """One evaluation of `NativeEntropy`; see `NativeEntropy.code`.

    It frees large arrays as soon as they are not needed, before it makes others as large.
    """

    # About the group that is being coded: its arrays, the sums of its scores [h,w,n] and, for low
    # frequencies, its means and its linear prediction, each [n,h,w].
    group: SymbolGroup
    group_arrays: GroupArrays
    sums: Ints | None
    means: Ints | None
    predicted: Ints | None

    def __init__(self, net: NativeEntropy, z: Tensor, rate: int, inside: Tensor) -> None:
        self.net, self.rate = net, rate
        z_whole = z[0].numpy().astype(np.int64)
        self.z_dequantised = net.dequantise_hyper(z_whole, rate)
        self.features = net.start_features(z_whole, rate)
        self.known = self.features  # features merged with the modes coded so far
        rows, columns = inside.shape
        self.size = rows // 2, columns // 2
        cells = inside.numpy().reshape(rows // 2, 2, columns // 2, 2).transpose(1, 3, 0, 2)
        inside_cells = np.ascontiguousarray(cells).reshape(4, rows // 2, columns // 2)
        self.inside_cells = inside_cells.astype(np.uint8)
        self.modes = np.zeros(self.inside_cells.shape, np.uint8)
        self.anchors = anchor_places(*self.size, net.device).numpy()
        # Results of the groups so far: the last one's q, v of low frequencies, the latent.
        self.q: Ints | None = None
        self.known_v: list[Reals] = []
        self.latent = np.zeros((net.channels, rows, columns), np.float32)

    def mode_tables(self, half: int) -> Tensor:
        """As `Evaluation.mode_tables`."""
        net = self.net
        base = np.tile(net.arrays["mode_base"][self.rate].astype(np.int32), 2)
        score = net.native[f"mode_scores.{half}"].sums(self.known) + base
        index = ((score + FRACTION // 2) // FRACTION).clip(0, FLAG_TABLES - 1) + TABLES
        index = index.reshape(*self.size, 2, NODES).transpose(2, 3, 0, 1)
        index = index * self.inside_cells[sites_of_half(half)][:, None]
        return torch.from_numpy(index.astype(np.int64))[None]

    def take_modes(self, half: int, modes: Tensor) -> None:
        """As `Evaluation.take_modes`."""
        net, (height, width) = self.net, self.size
        self.modes[sites_of_half(half)] = modes[0].numpy()
        layer = net.native[f"mode_merge.{half}"]
        merged = np.zeros((height + 2, width + 2, stride_of(layer.inputs)), np.uint8)
        merged[..., : net.width] = self.features[..., : net.width]
        hot = self.modes[sites_up_to_half(half), :, :, None] == np.arange(MODES)
        merged[1:-1, 1:-1, net.width : layer.inputs] = MODE_INPUT * hot.transpose(
            1, 2, 0, 3
        ).reshape(height, width, -1)
        repeat_edges(merged)
        self.known = layer.map(merged)
        if half == MODE_HALVES - 1:
            self.features = self.known
            del self.known

    def begin_group(self, group: SymbolGroup) -> None:
        """As `Evaluation.begin_group`."""
        net, number = self.net, group.number
        self.group = group
        if self.q is not None:
            merged = merge(
                self.features, net.width, self.q, net.arrays["compand"], not group.low_freq
            )
            self.features = net.native[f"merge.{number - 1}"].map(merged)
            self.q = None
            del merged
        deep = net.native[f"think.{number}"].map(self.features)
        self.group_arrays = net.group_arrays(group, self.rate, self.modes, self.inside_cells)
        self.sums = net.native[f"scales.{number}"].sums(deep)
        self.means = self.predicted = None
        if not group.low_freq:
            return
        linear = net.predict_from_hyper(self.z_dequantised, group.step)
        # The first step has no weights: there is no v to predict from yet.
        for source, weight in zip(self.known_v, net.native_predict[group.step], strict=True):
            predict(source, weight, linear, net.path)
        deep_sums = net.native[f"means.{group.step}"].sums(deep)
        self.means, self.predicted = self.group_arrays.means(linear, deep_sums)
        if group.step == SPATIAL_STEPS - 1:
            self.known_v.clear()

    def code_group(self, coder: Coder, anchors: bool | None = None) -> Symbols:
        """As `Evaluation.code_group`."""
        arrays, sums = self.group_arrays, self.sums
        assert sums is not None
        index = arrays.indices(sums)
        if anchors is not None:
            index *= self.anchors == anchors
        nothing = torch.zeros((), dtype=torch.int32).expand(index.shape)
        symbols = coder(
            self.group.number,
            torch.from_numpy(index)[None],
            (nothing if self.means is None else torch.from_numpy(self.means))[None],
            (nothing if self.predicted is None else torch.from_numpy(self.predicted))[None],
            lambda: torch.from_numpy(arrays.scores(sums))[None],
        )
        return symbols[0].to(torch.int16).contiguous().numpy()

    def add_neighbours(self, anchors: Symbols) -> None:
        """As `Evaluation.add_neighbours`."""
        assert self.means is not None and self.sums is not None
        self.means, self.sums = self.net.with_neighbours(anchors, self.rate, self.means, self.sums)

    def dequantise_group(self, symbols: Symbols) -> None:
        """As `Evaluation.dequantise_group`."""
        # Freed first: q is as large as the sums.
        self.sums = self.predicted = None
        mine = self.latent[self.net.channels_of(self.group)]
        self.q, v = self.group_arrays.dequantise(symbols, self.means, mine)
        if v is not None:
            self.known_v.append(v)

    def result(self) -> tuple[Tensor, Tensor]:
        """As `Evaluation.result`."""
        height, width = self.size
        spread = self.modes.reshape(2, 2, height, width).transpose(2, 0, 3, 1)
        whole = np.ascontiguousarray(spread).reshape(2 * height, 2 * width).astype(np.int64)
        return torch.from_numpy(self.latent)[None], torch.from_numpy(whole)[None]


def taps(weight: npt.NDArray[np.int16]) -> Reals:
    """[O,I,3,3] -> [9,I,O], the order that `predict` takes."""
    outputs, inputs = weight.shape[:2]
    flat = weight.astype(np.float64).reshape(outputs, inputs, 9)
    return np.ascontiguousarray(flat.transpose(2, 1, 0))


def pixel_shuffle_last(x: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """[h,w,4K] -> [2h,2w,K]: channel 4k + 2i + j goes to row i, column j."""
    height, width, planes = x.shape
    cells = x.reshape(height, width, planes // 4, 2, 2).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(cells).reshape(2 * height, 2 * width, planes // 4)
