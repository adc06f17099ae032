"""The entropy model in exact integer arithmetic: from z to every symbol's table index and mean.

formats/model.md defines everything here to the bit. The integers are held in float64, whose 53-bit
significand is exact for every product and sum that can occur; loading the arrays checks the bounds.
Convolutions are rounded once more. So the order of summation, the number of threads, the device and
the memory format cannot change a result. Autocast does not touch float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mvmic_codec.model.arrays import Arrays, check_bounds
from mvmic_codec.model.definition import (
    CLASSES,
    COMPAND_ENTRIES,
    COMPANDED_MAX,
    DEEP_MEAN_MAX,
    FLAG_TABLES,
    FRACTION,
    FRACTION_BITS,
    GAIN_BITS,
    LATENT_BITS,
    LAYERS,
    LINEAR_BITS,
    MEAN_MAX,
    MODE_DEPTH,
    MODE_INPUT,
    MODES,
    NODES,
    SECOND,
    SPACING,
    STEP_BITS,
    TABLES,
    V_MAX,
    WEIGHT_BITS,
)
from mvmic_codec.model.entropy import LOG_RATIO
from mvmic_codec.model.layers import pixel_shuffle, pixel_unshuffle
from mvmic_codec.model.schedule import (
    MODE_HALVES,
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

# z uses the tables of the first quantiser, whose levels lie 2 SPACING sixteenths of a step apart.
# In whole steps such a table is narrower than its logistic, by this many tables.
COARSER = math.log(2 * SPACING / FRACTION) / LOG_RATIO


def divide(x: Tensor, unit: Tensor | int) -> Tensor:
    """Integers divided by a power of two, rounded half up."""
    return torch.floor(x / unit + 0.5)


def floor_shift(x: Tensor, bits: int) -> Tensor:
    """Integers divided by 2^bits, rounded half up."""
    return divide(x, 2**bits)


def to_int16(symbols: Tensor) -> npt.NDArray[np.int16]:
    """Symbols as a flat array in the order of coding."""
    return symbols.to(torch.int16).cpu().numpy().ravel()


def to_uint8(indices: Tensor) -> npt.NDArray[np.uint8]:
    """Table indices as a flat array in the order of coding."""
    return indices.to(torch.uint8).cpu().numpy().ravel()


def anchors_on(device: torch.device, height: int, width: int) -> Tensor:
    """`anchor_places` as a tensor."""
    return torch.from_numpy(anchor_places(height, width)).to(device)


def sum_around(x: Tensor) -> Tensor:
    """For each place of [...,h,w] the sum of its neighbours above, below, left and right."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return rows + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def share_around(x: Tensor) -> Tensor:
    """As `sum_around` of [B,n,h,w], but means, in units of 2^-WEIGHT_BITS; 0 without neighbours."""
    count = sum_around(torch.ones_like(x[0, 0])).clamp(min=1)
    return sum_around(x) * torch.round(2**WEIGHT_BITS / count)


def symbols_of(index: Tensor, next_symbols: NextSymbols, second: int = 0) -> Tensor:
    """The next symbols, in the shape of their table indices and on their device."""
    symbols = torch.from_numpy(next_symbols(to_uint8(index), second))
    return symbols.to(index.device).reshape(index.shape)


def code_mode_tree(index: Tensor, coder: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Code modes bit by bit, by the table indices of the nodes [B,2,NODES,h,w].

    coder takes (bit, table index [B,2,h,w]) and gives symbols of the same shape: above 0 for a one.
    Returns the modes [B,2,h,w], int64.
    """
    mode = torch.zeros_like(index[:, :, 0], dtype=torch.int64)
    for bit in range(MODE_DEPTH):
        node = 2**bit - 1 + mode
        table = index.gather(2, node[:, :, None])[:, :, 0]
        mode = 2 * mode + (coder(bit, table) > 0)
    return mode


class EntropyArrays:
    """What encoders know of an entropy model as tensors: steps, tables of z, neighbours, order.

    arrays  those of the entropy model, by their names in formats/model.md without `entropy.`
    rotate  whether the order of sites changes with the channel
    """

    def __init__(self, arrays: Arrays, rotate: bool, device: torch.device) -> None:
        def wide(name: str) -> Tensor:
            return torch.from_numpy(arrays[name]).to(device=device, dtype=torch.float64)

        self.device = device
        self.step, self.gain, self.hyper_step = wide("step"), wide("gain"), wide("hyper_step")
        self.base_mode, self.aligned = wide("base_mode"), wide("aligned")
        self.hyper_index = torch.from_numpy(arrays["hyper_index"]).to(device)
        self.hyper_near, self.hyper_shift = wide("hyper_near"), wide("hyper_shift")
        self.near_mean, self.near_shift = wide("near_mean"), wide("near_shift")
        # By magnitude in sixteenths. compand(0) is 0 whatever the array says.
        compand = torch.from_numpy(arrays["compand"]).to(device).long()
        self.classes = compand * CLASSES // (COMPANDED_MAX + 1)
        self.classes[0] = 0
        self.channels, self.linear = self.step.shape[1], self.gain.shape[1]
        self.sites = torch.from_numpy(step_sites(self.channels, rotate)).to(device)
        self.order = torch.argsort(self.sites.flatten())

    def class_shift(self, shift: Tensor, size: Tensor) -> Tensor:
        """How far neighbours shift a table index, [B,n,h,w].

        shift [n,CLASSES] is by channel and class; size [B,n,h,w] is the neighbours' magnitude in
        sixteenths.
        """
        of_class = self.classes[size.clamp(max=COMPAND_ENTRIES - 1).long()]
        channel = torch.arange(len(shift), device=self.device)[:, None, None]
        return shift[channel, of_class]

    def anchor_hyper(self, rate: int, height: int, width: int) -> Tensor:
        """Table indices [1,Z,h,w] of the anchors of z; 0 at the other places."""
        anchors = anchors_on(self.device, height, width)
        return (self.hyper_index[rate][:, None, None] * anchors)[None]

    def code_hyper(self, rate: int, height: int, width: int, coder: HyperCoder[Tensor]) -> Tensor:
        """The hyper-latent of one image: [1,Z,h,w] at 1/64, in sixteenths of a step, float64."""
        index = self.anchor_hyper(rate, height, width)
        anchors = index > 0
        q = coder(index, torch.zeros_like(index)).double() * FRACTION
        # The mean is 0 at anchors: no place around them has a symbol yet.
        mean = self.hyper_near[rate][:, None, None] * share_around(q)
        mean = floor_shift(mean, 2 * WEIGHT_BITS).clamp(-MEAN_MAX, MEAN_MAX)
        size = floor_shift(share_around(q.abs()), WEIGHT_BITS)
        shifted = self.hyper_index[rate][:, None, None] + self.class_shift(self.hyper_shift, size)
        symbol = coder(shifted.clamp(1, TABLES - 1) * ~anchors, mean)
        return q + symbol.double() * FRACTION + mean

    def from_neighbours(self, coded: Tensor, rate: int) -> tuple[Tensor, Tensor]:
        """What the anchors of the first group add to the means and scores of the others.

        coded [B,N,h,w] are the dequantised symbols of the anchors, 0 elsewhere. Both results are
        [B,N,h,w] in float64, and 0 at anchors. Everything is in sixteenths.
        """
        coded = coded.double()
        others = ~anchors_on(self.device, coded.shape[-2], coded.shape[-1])
        mean = self.near_mean[rate][:, None, None] * sum_around(coded)
        mean = floor_shift(mean, WEIGHT_BITS + FRACTION_BITS)
        # The mean magnitude is always a fourth of the sum: a neighbour that is missing counts as 0.
        size = floor_shift(sum_around(coded.abs()), 2)
        shift = self.class_shift(self.near_shift, size)
        return mean * others, shift * FRACTION * others

    def places(self, group: SymbolGroup) -> Tensor:
        """For each channel of a group, its plane among the 4C planes of a latent in cells, [n]."""
        return self.sites[group.step, self.channels_of(group)]

    def channels_of(self, group: SymbolGroup) -> slice:
        """The channels of y that a group codes."""
        return slice(self.linear) if group.low_freq else slice(self.linear, None)


class IntegerEntropy(EntropyArrays):
    """The entropy model evaluated by torch, in float64.

    Raises ModelError for values out of range.
    """

    def __init__(self, arrays: Arrays, rotate: bool, device: torch.device) -> None:
        check_bounds(arrays)
        super().__init__(arrays, rotate, device)

        def wide(name: str) -> Tensor:
            return torch.from_numpy(arrays[name]).to(device=device, dtype=torch.float64)

        def wide_power(name: str) -> Tensor:
            shift = torch.from_numpy(arrays[name]).to(device=device, dtype=torch.int64)
            return torch.bitwise_left_shift(torch.ones_like(shift), shift).double()

        self.base, self.start, self.compand_table = wide("base"), wide("start"), wide("compand")
        self.mode_base = wide("mode_base")
        self.hyper_linear = wide("hyper_linear")
        self.predict = [wide(f"predict.{step}") for step in range(SPATIAL_STEPS - 1)]
        # Weight, bias and divisor of each layer.
        self.layers = {
            name: (wide(f"{name}.weight"), wide(f"{name}.bias"), wide_power(f"{name}.shift"))
            for name in LAYERS
        }

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """A convolution with repeated edges [B,I,h,w] -> [B,O,h,w], in exact integers."""
        pad = weight.shape[-1] // 2
        if pad:
            x = F.pad(x, (pad,) * 4, mode="replicate")
        return torch.round(F.conv2d(x, weight))

    def layer(self, name: str, x: Tensor) -> Tensor:
        """One layer of the context networks: convolution, bias, shift."""
        weight, bias, unit = self.layers[name]
        return divide(self.convolve(x, weight) + bias[:, None, None], unit[:, None, None])

    def compand(self, q: Tensor) -> Tensor:
        """Look magnitudes up in the companding table, and keep their signs."""
        size = self.compand_table[q.abs().clamp(max=COMPAND_ENTRIES - 1).long()]
        return torch.sign(q) * size

    def code(
        self,
        z: Tensor,
        rate: int,
        inside: Tensor,
        mode_coder: ModeCoder[Tensor],
        coder: Coder[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Code a batch of images of one size, in the order of the schedule.

        z       [B,Z,h/2,w/2] in sixteenths of a step
        inside  [2h,2w] bool at 1/16, False for sites that are not coded

        Returns the latent int16 [B,2h,2w,C] in eighths on the 255 scale and the modes uint8
        [B,2h,2w]. h and w are rows and columns of cells, at 1/32.
        """
        with torch.autocast(self.device.type, enabled=False):
            return run_schedule(IntegerEvaluation(self, z, rate, inside), mode_coder, coder)

    def decode_hyper(self, rate: int, size: tuple[int, int], next_symbols: NextSymbols) -> Tensor:
        """As `NativeEntropy.decode_hyper`, with a tensor of a batch of one."""
        return self.code_hyper(rate, *size, lambda index, mean: symbols_of(index, next_symbols))

    def decode(
        self, z: Tensor, rate: int, inside: npt.NDArray[np.bool_], next_symbols: NextSymbols
    ) -> tuple[Tensor, Tensor]:
        """As `NativeEntropy.decode`, with tensors of a batch of one."""

        def take(index: Tensor, second: int = 0) -> Tensor:
            return symbols_of(index, next_symbols, second)

        return self.code(
            z,
            rate,
            torch.from_numpy(inside).to(self.device),
            lambda half, index: code_mode_tree(index, lambda bit, table: take(table)),
            lambda number, index, mean, predicted, scores: take(index, SECOND),
        )


class IntegerEvaluation(Evaluation[Tensor]):
    """One evaluation of `IntegerEntropy`; see `IntegerEntropy.code`."""

    # About the group that is being coded: its places among the planes of a latent in cells, [n],
    # its scores before the modes count, its means, and its linear prediction, each [B,n,h,w].
    group: SymbolGroup
    places: Tensor
    score: Tensor
    mean: Tensor
    predicted: Tensor

    def __init__(self, net: IntegerEntropy, z: Tensor, rate: int, inside: Tensor) -> None:
        self.net, self.rate = net, rate
        z = z.double()
        self.step = net.step[rate][:, None, None]
        self.gain = net.gain[rate][:, None, None]
        z_dequantised = floor_shift(z * net.hyper_step[rate][:, None, None], STEP_BITS)
        z_clamped = z_dequantised.clamp(-V_MAX, V_MAX)
        from_z = net.convolve(z_clamped, net.hyper_linear)
        self.linear_from_z = pixel_shuffle(from_z, 2).chunk(SPATIAL_STEPS, 1)
        features = pixel_shuffle(net.layer("hyper_rise", net.compand(z)), 2)
        self.features = (features + net.start[rate][:, None, None]).clamp(0, 255)
        self.known = self.features  # features merged with the modes coded so far
        self.inside_cells = pixel_unshuffle(inside[None, None], 2)[0]
        batch, _, height, width = features.shape
        self.mode_cells = torch.zeros(batch, 4, height, width, dtype=torch.int64, device=net.device)
        self.anchors = anchors_on(net.device, height, width)
        # Results of the groups so far: the last one's q, v of low frequencies, v of all.
        self.q = z
        self.known_v: list[Tensor] = []
        self.latents: list[Tensor] = []

    def mode_tables(self, half: int) -> Tensor:
        """As `Evaluation.mode_tables`."""
        net = self.net
        base = net.mode_base[self.rate].repeat(2)[:, None, None]
        score = net.layer(f"mode_scores.{half}", self.known) + base
        index = torch.floor((score + FRACTION // 2) / FRACTION).clamp(0, FLAG_TABLES - 1)
        inside = self.inside_cells[sites_of_half(half)]
        tables: Tensor = (index + TABLES).unflatten(1, (2, NODES)) * inside[None, :, None]
        return tables

    def take_modes(self, half: int, modes: Tensor) -> None:
        """As `Evaluation.take_modes`."""
        net = self.net
        self.mode_cells[:, sites_of_half(half)] = modes
        seen = self.mode_cells[:, sites_up_to_half(half)]
        hot = F.one_hot(seen, MODES).permute(0, 1, 4, 2, 3).flatten(1, 2) * MODE_INPUT
        merged = torch.cat([self.features, hot.double()], 1)
        self.known = net.layer(f"mode_merge.{half}", merged).clamp(0, 255)
        if half < MODE_HALVES - 1:
            return
        self.features = self.known
        self.modes = pixel_shuffle(self.mode_cells, 2)[:, 0]
        # By cells [B,4C,h,w], so that `places` picks from them as from a latent.
        self.offset = pixel_unshuffle(F.embedding(self.modes, net.base_mode).permute(0, 3, 1, 2), 2)
        self.aligned = pixel_unshuffle(F.embedding(self.modes, net.aligned).permute(0, 3, 1, 2), 2)

    def begin_group(self, group: SymbolGroup) -> None:
        """As `Evaluation.begin_group`."""
        net, number = self.net, group.number
        self.group, self.places = group, net.places(group)
        if number:
            shaped = net.compand(self.q)
            seen = [shaped.abs()] if group.low_freq else [shaped, shaped.abs()]
            merged = torch.cat([self.features, *seen], 1)
            self.features = net.layer(f"merge.{number - 1}", merged).clamp(0, 255)
        deep = net.layer(f"think.{number}", self.features).clamp(0, 255)
        base = net.base[self.rate, group.step, self.places // 4][:, None, None]
        self.score = net.layer(f"scales.{number}", deep) + base
        self.mean = self.predicted = torch.zeros_like(self.score)
        if not group.low_freq:
            return
        linear = self.linear_from_z[group.step]
        if group.step:
            linear = linear + net.convolve(torch.cat(self.known_v, 1), net.predict[group.step - 1])
        predicted = floor_shift(floor_shift(linear, LINEAR_BITS) * self.gain, GAIN_BITS)
        # Beyond twice MEAN_MAX the mean is MEAN_MAX, whatever the networks add.
        self.predicted = predicted.clamp(-2 * MEAN_MAX, 2 * MEAN_MAX)
        deep_mean = net.layer(f"means.{group.step}", deep).clamp(-DEEP_MEAN_MAX, DEEP_MEAN_MAX)
        mean = self.predicted * self.aligned[:, self.places] + deep_mean
        self.mean = mean.clamp(-MEAN_MAX, MEAN_MAX)

    def code_group(self, coder: Coder[Tensor], anchors: bool | None = None) -> Tensor:
        """As `Evaluation.code_group`."""
        coded = self.inside_cells[self.places % 4]
        if anchors is not None:
            coded = coded & (self.anchors == anchors)
        score = self.score
        table = torch.floor((score + self.offset[:, self.places] + FRACTION // 2) / FRACTION)
        index = table.clamp(0, TABLES - 1) * coded
        number = self.group.number
        symbols: Tensor = coder(number, index, self.mean, self.predicted, lambda: score)
        return symbols.double()

    def add_neighbours(self, anchors: Tensor) -> None:
        """As `Evaluation.add_neighbours`."""
        more, shift = self.net.from_neighbours(anchors * SPACING, self.rate)
        self.mean = (self.mean + more).clamp(-MEAN_MAX, MEAN_MAX)
        self.score = self.score + shift

    def dequantise_group(self, symbols: Tensor) -> None:
        """As `Evaluation.dequantise_group`."""
        self.q = symbols * SPACING + self.mean
        v = floor_shift(self.q * self.step[self.places // 4], STEP_BITS)
        if self.group.low_freq:
            self.known_v.append(v.clamp(-V_MAX, V_MAX) * self.aligned[:, self.places])
        self.latents.append(v)

    def result(self) -> tuple[Tensor, Tensor]:
        """As `Evaluation.result`."""
        v = pixel_shuffle(torch.cat(self.latents, 1)[:, self.net.order], 2)
        eighths = floor_shift(v, FRACTION_BITS - LATENT_BITS).clamp(-(2**15), 2**15 - 1)
        latent = eighths.to(torch.int16).permute(0, 2, 3, 1).contiguous()
        return latent, self.modes.to(torch.uint8)
