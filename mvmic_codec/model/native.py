"""The entropy model in C, for one image: from the symbols of a payload to the latent.

formats/model.md defines everything here to the bit. Arrays are numpy's. Layers and all that goes
over the symbols of y is in csrc/common/intnet.c; the hyper-latent is small enough for numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mvmic_codec.model.arrays import Arrays, check_bounds
from mvmic_codec.model.definition import (
    CLASSES,
    COMPANDED_MAX,
    FLAG_TABLES,
    FRACTION,
    LAYERS,
    MEAN_MAX,
    MODE_DEPTH,
    MODE_INPUT,
    MODES,
    NODES,
    SECOND,
    STEP_BITS,
    TABLES,
    V_MAX,
    WEIGHT_BITS,
)
from mvmic_codec.model.intnet import (
    BLOCK,
    ZERO,
    GroupArrays,
    Layer,
    add_neighbours,
    at_once,
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
    HyperCoder,
    ModeCoder,
    NextSymbols,
    SymbolGroup,
    anchor_places,
    run_schedule,
    sites_of_half,
    sites_up_to_half,
    step_sites,
)
from mvmic_codec.model.team import Run, Team

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Wide = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int16]
Reals = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


# Arrays that are used as they are.
SMALL_ARRAYS = ["step", "gain", "hyper_step", "base", "base_mode", "mode_base", "aligned"]
SMALL_ARRAYS += ["start", "compand", "hyper_index", "hyper_near", "hyper_shift"]
SMALL_ARRAYS += ["near_mean", "near_shift"]
# For a mean of so many neighbours, in units of 2^-WEIGHT_BITS.
SHARES = np.array([0, 4096, 2048, 1365, 1024])


class NativeEntropy:
    """The entropy model evaluated by csrc/common/intnet.c.

    arrays  those of the entropy model, by their names in formats/model.md without `entropy.`
    rotate  whether the order of sites changes with the channel
    path    one of `intnet.usable_paths()`

    Raises ModelError for values out of range.
    """

    def __init__(self, arrays: Arrays, rotate: bool, path: str) -> None:
        check_bounds(arrays)
        self.rotate, self.path = rotate, path
        self.run: Run = at_once
        self.arrays = {name: arrays[name] for name in SMALL_ARRAYS}
        self.channels, self.linear = arrays["step"].shape[1], arrays["gain"].shape[1]
        self.width = arrays["start"].shape[1]
        self.channel_sites = (step_sites(self.channels, rotate) % 4).astype(np.uint8)
        # By magnitude in sixteenths. compand(0) is 0 whatever the array says.
        self.classes = arrays["compand"].astype(np.intp) * CLASSES // (COMPANDED_MAX + 1)
        self.classes[0] = 0
        signed = {"hyper_rise": slice(None)}
        # q of low-frequency groups enters with its sign, after the features.
        low = slice(self.width, self.width + self.linear)
        signed |= {f"merge.{group.number}": low for group in SCHEDULE if group.low_freq}
        self.layers = {
            name: Layer(
                arrays[f"{name}.weight"],
                arrays[f"{name}.bias"],
                arrays[f"{name}.shift"],
                signed.get(name, slice(0)),
                path,
            )
            for name in LAYERS
        }
        self.hyper_linear = [taps(part) for part in np.split(arrays["hyper_linear"], SPATIAL_STEPS)]
        # By spatial step, and by the earlier step that it predicts from.
        self.predict: list[list[Reals]] = [[]]
        self.predict += [
            [taps(part) for part in np.split(arrays[f"predict.{step - 1}"], step, axis=1)]
            for step in range(1, SPATIAL_STEPS)
        ]

    def in_team(self, team: Team) -> NativeEntropy:
        """The same, with layers computed by a team's threads."""
        other = copy(self)
        other.run = team.run
        return other

    def channels_of(self, group: SymbolGroup) -> slice:
        """The channels of y that a group codes."""
        return slice(self.linear) if group.low_freq else slice(self.linear, None)

    def anchor_hyper(self, rate: int, height: int, width: int) -> Bytes:
        """Table indices [Z,h,w] of the anchors of z; 0 at the other places."""
        index: Bytes = self.arrays["hyper_index"][rate][:, None, None]
        return index * anchor_places(height, width)

    def code_hyper(self, rate: int, height: int, width: int, coder: HyperCoder[Array]) -> Ints:
        """The hyper-latent [Z,h,w] at 1/64, in sixteenths of a step."""
        a = self.arrays
        index = self.anchor_hyper(rate, height, width)
        others = ~anchor_places(height, width)
        q = coder(index, np.zeros(index.shape, np.int32)).astype(np.int64) * FRACTION
        # The mean is 0 at anchors: no place around them has a symbol yet.
        weight = a["hyper_near"][rate].astype(np.int64)[:, None, None]
        mean = floor_shift(weight * share_around(q), 2 * WEIGHT_BITS).clip(-MEAN_MAX, MEAN_MAX)
        size = floor_shift(share_around(np.abs(q)), WEIGHT_BITS)
        of_class = self.classes[size.clip(max=len(self.classes) - 1)]
        shift = a["hyper_shift"][np.arange(len(index))[:, None, None], of_class].astype(np.int64)
        shifted = (a["hyper_index"][rate][:, None, None] + shift).clip(1, TABLES - 1)
        symbol = coder((shifted * others).astype(np.uint8), mean.astype(np.int32))
        out: Ints = (q + symbol.astype(np.int64) * FRACTION + mean).astype(np.int32)
        return out

    def dequantise_hyper(self, z: Ints, rate: int) -> Reals:
        """Dequantised z, in sixteenths on the 255 scale, from z [Z,h,w] in sixteenths of a step.

        Returns [h+2,w+2,Z], with edges repeated.
        """
        channels, height, width = z.shape
        step = self.arrays["hyper_step"][rate].astype(np.int64)[:, None, None]
        v = np.empty((height + 2, width + 2, channels))
        whole = floor_shift(z * step, STEP_BITS)
        v[1:-1, 1:-1] = whole.clip(-V_MAX, V_MAX).transpose(1, 2, 0)
        repeat_edges(v.view(np.uint8))
        return v

    def predict_from_hyper(self, v: Reals, step: int) -> Reals:
        """The linear prediction of a spatial step, [h,w,N], from what `dequantise_hyper` gives."""
        height, width = v.shape[0] - 2, v.shape[1] - 2
        out = np.zeros((height, width, 4 * self.linear))
        predict(v, self.hyper_linear[step], out, self.path, self.run)
        return pixel_shuffle_last(out)

    def start_features(self, z: Ints, rate: int) -> Bytes:
        """The first features as a map, from z [Z,h,w] in sixteenths of a step."""
        _, height, width = z.shape
        a = self.arrays
        size = a["compand"][np.minimum(np.abs(z), len(a["compand"]) - 1)]
        shaped = (ZERO + np.sign(z) * size).astype(np.uint8)
        z_map = np.zeros((height + 2, width + 2, stride_of(len(z))), np.uint8)
        z_map[1:-1, 1:-1, : len(z)] = shaped.transpose(1, 2, 0)
        repeat_edges(z_map)
        risen = pixel_shuffle_last(self.layers["hyper_rise"].sums(z_map, self.run))
        features = np.zeros((2 * height + 2, 2 * width + 2, stride_of(self.width)), np.uint8)
        features[1:-1, 1:-1, : self.width] = (risen + a["start"][rate].astype(int)).clip(0, 255)
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

    def code(
        self,
        z: Ints,
        rate: int,
        inside: Inside,
        mode_coder: ModeCoder[Array],
        coder: Coder[Array],
    ) -> tuple[Symbols, Bytes]:
        """Code an image, in the order of the schedule.

        z       [Z,h/2,w/2] in sixteenths of a step
        inside  [2h,2w] at 1/16, False for sites that are not coded

        The coders get table indices as uint8, means as int32 and scores as int16, and give modes
        of any integers and symbols as int16.

        Returns the latent [2h,2w,C] in eighths on the 255 scale and the modes [2h,2w]. h and w are
        rows and columns of cells, at 1/32.
        """
        return run_schedule(NativeEvaluation(self, z, rate, inside), mode_coder, coder)

    def decode_hyper(self, rate: int, size: tuple[int, int], next_symbols: NextSymbols) -> Array:
        """What `code_hyper` returns, for a z of this size (h,w); see `schedule.NextSymbols`."""
        return self.code_hyper(rate, *size, lambda index, mean: symbols_of(index, next_symbols))

    def decode(
        self, z: Array, rate: int, inside: Inside, next_symbols: NextSymbols
    ) -> tuple[Array, Array]:
        """What `code` returns, of the symbols of a payload; see `schedule.NextSymbols`."""

        def take(index: Bytes, second: int = 0) -> Symbols:
            return symbols_of(index, next_symbols, second)

        return self.code(
            z,
            rate,
            inside,
            lambda half, index: code_mode_tree(index, lambda bit, table: take(table)),
            lambda number, index, mean, predicted, scores: take(index, SECOND),
        )


class NativeEvaluation(Evaluation[Array]):
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

    def __init__(self, net: NativeEntropy, z: Ints, rate: int, inside: Inside) -> None:
        self.net, self.rate = net, rate
        self.z_dequantised = net.dequantise_hyper(z, rate)
        self.features = net.start_features(z, rate)
        self.known = self.features  # features merged with the modes coded so far
        rows, columns = inside.shape
        self.size = rows // 2, columns // 2
        cells = inside.reshape(rows // 2, 2, columns // 2, 2).transpose(1, 3, 0, 2)
        inside_cells = np.ascontiguousarray(cells).reshape(4, rows // 2, columns // 2)
        self.inside_cells = inside_cells.astype(np.uint8)
        self.modes = np.zeros(self.inside_cells.shape, np.uint8)
        self.anchors = anchor_places(*self.size)
        # Results of the groups so far: the last one's q, v of low frequencies, the latent.
        self.q: Ints | None = None
        self.known_v: list[Reals] = []
        self.latent = np.empty((rows, columns, net.channels), np.int16)

    def mode_tables(self, half: int) -> Bytes:
        """As `Evaluation.mode_tables`."""
        net = self.net
        base = np.tile(net.arrays["mode_base"][self.rate].astype(np.int32), 2)
        score = net.layers[f"mode_scores.{half}"].sums(self.known, net.run) + base
        index = ((score + FRACTION // 2) // FRACTION).clip(0, FLAG_TABLES - 1) + TABLES
        index = index.reshape(*self.size, 2, NODES).transpose(2, 3, 0, 1).astype(np.uint8)
        out: Bytes = index * self.inside_cells[sites_of_half(half)][:, None]
        return out

    def take_modes(self, half: int, modes: Array) -> None:
        """As `Evaluation.take_modes`."""
        net, (height, width) = self.net, self.size
        self.modes[sites_of_half(half)] = modes
        layer = net.layers[f"mode_merge.{half}"]
        merged = np.zeros((height + 2, width + 2, stride_of(layer.inputs)), np.uint8)
        merged[..., : net.width] = self.features[..., : net.width]
        hot = self.modes[sites_up_to_half(half), :, :, None] == np.arange(MODES)
        merged[1:-1, 1:-1, net.width : layer.inputs] = MODE_INPUT * hot.transpose(
            1, 2, 0, 3
        ).reshape(height, width, -1)
        repeat_edges(merged)
        self.known = layer.map(merged, net.run)
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
            self.features = net.layers[f"merge.{number - 1}"].map(merged, net.run)
            self.q = None
            del merged
        deep = net.layers[f"think.{number}"].map(self.features, net.run)
        self.group_arrays = net.group_arrays(group, self.rate, self.modes, self.inside_cells)
        self.sums = net.layers[f"scales.{number}"].sums(deep, net.run)
        self.means = self.predicted = None
        if not group.low_freq:
            return
        linear = net.predict_from_hyper(self.z_dequantised, group.step)
        # The first step has no weights: there is no v to predict from yet.
        for source, weight in zip(self.known_v, net.predict[group.step], strict=True):
            predict(source, weight, linear, net.path, net.run)
        deep_sums = net.layers[f"means.{group.step}"].sums(deep, net.run)
        self.means, self.predicted = self.group_arrays.means(linear, deep_sums)
        if group.step == SPATIAL_STEPS - 1:
            self.known_v.clear()

    def code_group(self, coder: Coder[Array], anchors: bool | None = None) -> Symbols:
        """As `Evaluation.code_group`."""
        arrays, sums = self.group_arrays, self.sums
        assert sums is not None
        index = arrays.indices(sums)
        if anchors is not None:
            index *= self.anchors == anchors
        # Never written, and so next to no memory.
        nothing = np.zeros(index.shape, np.int32)
        return coder(
            self.group.number,
            index,
            nothing if self.means is None else self.means,
            nothing if self.predicted is None else self.predicted,
            lambda: arrays.scores(sums),
        )

    def add_neighbours(self, anchors: Symbols) -> None:
        """As `Evaluation.add_neighbours`."""
        assert self.means is not None and self.sums is not None
        a = self.net.arrays
        weight = a["near_mean"][self.rate]
        self.means, self.sums = add_neighbours(
            anchors, weight, a["near_shift"], a["compand"], self.means, self.sums
        )

    def dequantise_group(self, symbols: Symbols) -> None:
        """As `Evaluation.dequantise_group`."""
        # Freed first: q is as large as the sums.
        self.sums = self.predicted = None
        first = self.net.channels_of(self.group).start or 0
        self.q, v = self.group_arrays.dequantise(symbols, self.means, self.latent, first)
        if v is not None:
            self.known_v.append(v)

    def result(self) -> tuple[Symbols, Bytes]:
        """As `Evaluation.result`."""
        rows, columns, _ = self.latent.shape
        spread = self.modes.reshape(2, 2, *self.size).transpose(2, 0, 3, 1)
        return self.latent, np.ascontiguousarray(spread).reshape(rows, columns)


def symbols_of(index: Bytes, next_symbols: NextSymbols, second: int = 0) -> Symbols:
    """The next symbols, in the shape of their table indices."""
    return next_symbols(index.ravel(), second).reshape(index.shape)


def code_mode_tree(index: Bytes, coder: Callable[[int, Bytes], Array]) -> Array:
    """Code modes bit by bit, by the table indices of the nodes [2,NODES,h,w].

    coder takes (bit, table index [2,h,w]) and gives symbols of the same shape: above 0 for a one.
    Returns the modes [2,h,w].
    """
    mode = np.zeros_like(index[:, 0], np.intp)
    for bit in range(MODE_DEPTH):
        node = 2**bit - 1 + mode
        table = np.take_along_axis(index, node[:, None], 1)[:, 0]
        mode = 2 * mode + (coder(bit, table) > 0)
    return mode


def floor_shift(x: Wide, bits: int) -> Wide:
    """Integers divided by 2^bits, rounded half up."""
    return (x + (1 << (bits - 1))) >> bits


def share_around(x: Wide) -> Wide:
    """For each place of [...,h,w] the mean of its neighbours, in units of 2^-WEIGHT_BITS."""
    out: Wide = sum_around(x) * SHARES[sum_around(np.ones(x.shape[-2:], np.int64))]
    return out


def sum_around(x: Wide) -> Wide:
    """For each place of [...,h,w] the sum of its neighbours above, below, left and right."""
    out = np.zeros_like(x)
    out[..., 1:, :] += x[..., :-1, :]
    out[..., :-1, :] += x[..., 1:, :]
    out[..., 1:] += x[..., :-1]
    out[..., :-1] += x[..., 1:]
    return out


def taps(weight: npt.NDArray[np.int16]) -> Reals:
    """[O,I,3,3] -> [O/BLOCK,9,I,BLOCK], the order that `predict` takes."""
    outputs, inputs = weight.shape[:2]
    blocks = -(-outputs // BLOCK)
    full = np.zeros((blocks * BLOCK, inputs, 9))
    full[:outputs] = weight.reshape(outputs, inputs, 9)
    return np.ascontiguousarray(full.reshape(blocks, BLOCK, inputs, 9).transpose(0, 3, 2, 1))


def pixel_shuffle_last(x: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """[h,w,4K] -> [2h,2w,K]: channel 4k + 2i + j goes to row i, column j."""
    height, width, planes = x.shape
    cells = x.reshape(height, width, planes // 4, 2, 2).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(cells).reshape(2 * height, 2 * width, planes // 4)
