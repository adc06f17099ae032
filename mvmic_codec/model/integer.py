"""The entropy model in exact integer arithmetic: from z to every symbol's table index and mean.

Everything here is defined to the bit in formats/model.md. The integers are carried in float64,
whose 53-bit significand holds every product and sum that can occur (the bounds are checked when the
arrays are loaded); convolutions are rounded once more, so that no order of summation, thread count,
device or memory format can change a result. Autocast does not touch float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmic_codec.errors import ModelError
from mvmic_codec.model.entropy import (
    COMPANDED_MAX,
    FLAG_TABLES,
    FRACTION,
    LOG_RATIO,
    MODE_DEPTH,
    MODE_INPUT,
    MODES,
    NODES,
    PARTS,
    PASSES,
    SCALE_MIN,
    SECOND,
    SHIFT_MAX,
    SITE_ORDER,
    SPACING,
    TABLES,
    EntropyModel,
    IntegerConv,
    compand,
    flag_logit,
    pass_sites,
)
from mvmic_codec.model.tables import make_tables
from mvmic_codec.model.transforms import RATES, shuffle, unshuffle

STEP_BITS = 12  # steps are in 2^-12 of the 255 scale
GAIN_BITS = 20  # reciprocal steps
LINEAR_BITS = 12  # weights of the linear predictors
LEVEL_MAX = 2**23  # of v, the quantised latent in sixteenths of the 255 scale
MEAN_MAX = 2**18  # of m
DEEP_MEAN_MAX = 127  # of the context networks' part of m
COMPAND_ENTRIES = 256
WEIGHT_BITS = 12  # weights of neighbours
FRACTION_BITS = 4
# The scale of a table in whole steps is less than that of its logistic by so many tables: z has its
# tables from the first quantiser, whose levels are further apart.
COARSER = math.log(2 * SPACING / FRACTION) / LOG_RATIO
CLASSES = 16  # of neighbours, by their companded magnitude
# Half of what float64 holds exactly: room for biases and for the halves added in rounding.
EXACT = 2**52

LAYERS = ["hyper_rise"]
LAYERS += [f"{kind}.{half}" for kind in ("mode_scores", "mode_merge") for half in range(2)]
LAYERS += [f"merge.{part}" for part in range(PARTS - 1)]
LAYERS += [f"{kind}.{part}" for kind in ("think", "scales") for part in range(PARTS)]
LAYERS += [f"means.{p}" for p in range(PASSES)]


def integerise(model: EntropyModel) -> dict[str, Tensor]:
    """The integer arrays of a trained entropy model, by the names of formats/model.md."""
    rates = torch.arange(RATES)
    arrays: dict[str, Tensor] = {}
    with torch.no_grad():
        step = torch.exp(model.log_step(rates).double())
        hyper_step = torch.exp(model.hyper_log_step(rates).double())
        arrays["step"] = (step * 2**STEP_BITS).round().clamp_min(1).int()
        arrays["gain"] = (2**GAIN_BITS / step[:, : model.linear]).round().int()
        arrays["hyper_step"] = (hyper_step * 2**STEP_BITS).round().clamp_min(1).int()
        hyper_index = (model.hyper_index(rates) + COARSER).clamp(1, TABLES - 1)
        arrays["hyper_index"] = torch.floor(hyper_index + 0.5).to(torch.uint8)
        base = model.base(rates)[:, None] + model.base_pass[None]
        arrays["base"] = (
            torch.floor(base * FRACTION + 0.5).clamp(-(2**15), 2**15 - 1).to(torch.int16)
        )
        for name, values in (("base_mode", model.base_mode), ("mode_base", model.mode_base(rates))):
            sixteenths = torch.floor(values * FRACTION + 0.5)
            arrays[name] = sixteenths.clamp(-(2**15), 2**15 - 1).to(torch.int16)
        arrays["aligned"] = model.aligned.to(torch.uint8)
        arrays["start"] = torch.floor(model.start(rates) + 0.5).to(torch.int16)
        limit = 2**15 - 1
        linear: dict[str, Tensor] = {"hyper_linear": model.hyper_linear.weight}
        for p, predictor in enumerate(model.predict):
            assert isinstance(predictor, nn.Conv2d)
            linear[f"predict.{p}"] = predictor.weight
        for name, weight in linear.items():
            scaled = (weight.double() * 2**LINEAR_BITS).round().clamp(-limit, limit)
            arrays[name] = scaled.to(torch.int16)
        modules = dict(model.named_modules())
        for name in LAYERS:
            layer = modules[name]
            assert isinstance(layer, IntegerConv)
            shift = layer.shifts().double()
            unit = torch.exp2(shift)
            weight = layer.weight.double() * unit[:, None, None, None]
            arrays[f"{name}.weight"] = torch.floor(weight + 0.5).clamp(-127, 127).to(torch.int8)
            arrays[f"{name}.bias"] = (layer.bias.double() * unit).round().int()
            arrays[f"{name}.shift"] = shift.to(torch.uint8)
        quantile = torch.arange(COMPAND_ENTRIES, dtype=torch.float64)
        arrays["compand"] = compand(quantile).to(torch.uint8)
        odds = flag_logit(torch.arange(FLAG_TABLES, dtype=torch.float64))
        half, cdf = make_tables(scale_ladder().numpy(), odds.numpy())
        arrays["table_half"] = torch.from_numpy(half)
        arrays["table_cdf"] = torch.from_numpy(cdf)
        arrays |= neutral_neighbours(model.hyper, model.linear)
    return arrays


def neutral_neighbours(hyper: int, near: int) -> dict[str, Tensor]:
    """The arrays by which neighbours count, such that they do not: training knows none of them."""
    return {
        "hyper_near": torch.zeros(RATES, hyper, dtype=torch.int16),
        "hyper_shift": torch.zeros(hyper, CLASSES, dtype=torch.int8),
        "near_mean": torch.zeros(RATES, near, dtype=torch.int16),
        "near_shift": torch.zeros(near, CLASSES, dtype=torch.int8),
    }


def scale_ladder() -> Tensor:
    """Logistic scales of tables 1..63 in float64."""
    return SCALE_MIN * torch.exp(torch.arange(TABLES - 1, dtype=torch.float64) * LOG_RATIO)


def divide(x: Tensor, unit: Tensor | int) -> Tensor:
    """Integers divided by a power of two, rounded half up."""
    return torch.floor(x / unit + 0.5)


def floor_shift(x: Tensor, bits: int) -> Tensor:
    """Integers divided by 2^bits, rounded half up."""
    return divide(x, 2**bits)


def white_places(height: int, width: int, device: torch.device) -> Tensor:
    """[h,w] bool: the places of a chessboard that are coded first, and have only others around."""
    rows, columns = (torch.arange(side, device=device) for side in (height, width))
    return (rows[:, None] + columns) % 2 == 0


def sum_around(x: Tensor) -> Tensor:
    """Of [...,h,w] the sums of the places above, below, left and right, as far as they exist."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return rows + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def share_around(x: Tensor) -> Tensor:
    """Of [B,n,h,w] the means of `sum_around`, in 2^-WEIGHT_BITS; 0 where nothing is around."""
    count = sum_around(torch.ones_like(x[0, 0])).clamp(min=1)
    return sum_around(x) * torch.round(2**WEIGHT_BITS / count)


# Called for both colours of z's chessboard, white first, with (table index, mean m), each
# [B,Z,h,w] at 1/64, for the symbols. Index and mean are 0 at places of the other colour.
HyperCoder = Callable[[Tensor, Tensor], Tensor]
# Called for every part of a pass with (part, table index, mean m, what linear prediction gives
# of m in a mode that is aligned, scores), each [B,n,h,w] at 1/32, for the symbols;
# IntegerEntropy.places(part) says which channels and sites these are. scores() gives what an index
# is made of before its mode adds base_mode, in sixteenths, neither rounded nor clamped to tables.
# Part 0 is asked for twice, for the white places of a chessboard and for the others: the index is
# 0 at those that are not meant. What else the second call says holds for all places.
Coder = Callable[[int, Tensor, Tensor, Tensor, Callable[[], Tensor]], Tensor]
# Called for both halves of the modes with (half, table indices of the nodes [B,2,NODES,h,w]) for
# the modes [B,2,h,w] of the two sites SITE_ORDER[2 * half : 2 * half + 2] of every cell.
ModeCoder = Callable[[int, Tensor], Tensor]


def ask_coder(
    coder: Coder,
    part: int,
    offset: Tensor,
    predicted: Tensor,
    coded: Tensor,
    score: Tensor,
    mean: Tensor,
) -> Tensor:
    """Symbols of a part, in doubles; coded [n,h,w] says which, offset is what modes add."""
    index = torch.floor((score + offset + FRACTION // 2) / FRACTION).clamp(0, TABLES - 1)
    return coder(part, index * coded, mean, predicted, lambda: score).double()


def walk_modes(index: Tensor, coder: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Modes [B,2,h,w] bit by bit, for table indices of the nodes [B,2,NODES,h,w].

    coder takes (bit, table index [B,2,h,w]) and gives symbols of the same shape.
    """
    mode = torch.zeros_like(index[:, :, 0], dtype=torch.int64)
    for bit in range(MODE_DEPTH):
        node = 2**bit - 1 + mode
        table = index.gather(2, node[:, :, None])[:, :, 0]
        mode = 2 * mode + (coder(bit, table) > 0)
    return mode


def check_arrays(
    arrays: Mapping[str, Tensor], latent: int, hyper: int, width: int, near: int
) -> None:
    """Raise ModelError unless all arrays have the types and shapes of formats/model.md."""
    far = latent - near
    i8, u8, i16, u16, i32 = torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "step": (i32, (RATES, latent)),
        "gain": (i32, (RATES, near)),
        "hyper_step": (i32, (RATES, hyper)),
        "hyper_index": (u8, (RATES, hyper)),
        "hyper_near": (i16, (RATES, hyper)),
        "hyper_shift": (i8, (hyper, CLASSES)),
        "base": (i16, (RATES, PASSES, latent)),
        "base_mode": (i16, (MODES, latent)),
        "mode_base": (i16, (RATES, NODES)),
        "near_mean": (i16, (RATES, near)),
        "near_shift": (i8, (near, CLASSES)),
        "aligned": (u8, (MODES, near)),
        "start": (i16, (RATES, width)),
        "compand": (u8, (COMPAND_ENTRIES,)),
        "hyper_linear": (i16, (4 * PASSES * near, hyper, 3, 3)),
        "table_half": (u16, (SECOND + TABLES,)),
        "table_cdf": (u16, (SECOND + TABLES, arrays["table_cdf"].shape[-1])),
    }
    for p in range(1, PASSES):
        expected[f"predict.{p - 1}"] = (i16, (near, p * near, 3, 3))
    layers = {"hyper_rise": (4 * width, hyper, 3)}
    for half in range(2):
        layers[f"mode_scores.{half}"] = (2 * NODES, width, 1)
        layers[f"mode_merge.{half}"] = (width, width + 2 * (half + 1) * MODES, 3)
    for part in range(PARTS):
        mine, seen = (far, far) if part % 2 else (near, 2 * near)
        layers[f"think.{part}"] = (width, width, 3)
        layers[f"scales.{part}"] = (mine, width, 1)
        if part < PARTS - 1:
            layers[f"merge.{part}"] = (width, width + seen, 3)
        if not part % 2:
            layers[f"means.{part // 2}"] = (near, width, 1)
    for name, (outputs, inputs, size) in layers.items():
        expected[f"{name}.weight"] = (i8, (outputs, inputs, size, size))
        expected[f"{name}.bias"] = (i32, (outputs,))
        expected[f"{name}.shift"] = (u8, (outputs,))
    for name, (kind, shape) in expected.items():
        array = arrays.get(name)
        if array is None or array.dtype != kind or tuple(array.shape) != shape:
            raise ModelError(f"the model's array entropy.{name} is not {kind} of shape {shape}")


class EntropyArrays:
    """What all evaluations of the arrays that `integerise` made have in common.

    Raises ModelError for values out of range.
    """

    def __init__(self, arrays: Mapping[str, Tensor], rotate: bool, device: torch.device) -> None:
        def wide(name: str) -> Tensor:
            return arrays[name].to(device=device, dtype=torch.float64)

        self.device = device
        self.step, self.gain, self.hyper_step = wide("step"), wide("gain"), wide("hyper_step")
        self.base_mode, self.aligned = wide("base_mode"), wide("aligned")
        self.hyper_index = arrays["hyper_index"].to(device)
        self.hyper_near, self.hyper_shift = wide("hyper_near"), wide("hyper_shift")
        self.near_mean, self.near_shift = wide("near_mean"), wide("near_shift")
        # Of magnitudes in sixteenths: compand(0) is 0 whatever the array says.
        self.classes = arrays["compand"].to(device).long() * CLASSES // (COMPANDED_MAX + 1)
        self.classes[0] = 0
        self.channels, self.linear = self.step.shape[1], self.gain.shape[1]
        self.sites = pass_sites(self.channels, rotate).to(device)
        self.order = torch.argsort(self.sites.flatten())
        self.check_bounds(arrays)

    def check_bounds(self, arrays: Mapping[str, Tensor]) -> None:
        """Raise ModelError unless every sum stays under 2^52 whatever the input."""

        def largest_sum(name: str, peak: int) -> float:
            return float(arrays[name].double().abs().flatten(1).sum(1).max()) * peak

        layers = max(largest_sum(f"{name}.weight", 255) for name in LAYERS)
        linear = largest_sum("hyper_linear", LEVEL_MAX)
        linear += max(largest_sum(f"predict.{p}", LEVEL_MAX) for p in range(PASSES - 1))
        means = linear / 2**LINEAR_BITS * float(self.gain.abs().max())
        levels = (2**15 * FRACTION + MEAN_MAX) * float(
            torch.maximum(self.step.max(), self.hyper_step.max())
        )
        whole = min(float(self.step.min()), float(self.hyper_step.min())) >= 1
        indexed = bool(((self.hyper_index >= 1) & (self.hyper_index < TABLES)).all())
        indexed &= bool(((self.aligned == 0) | (self.aligned == 1)).all())
        indexed &= bool((arrays["compand"] <= COMPANDED_MAX).all())
        shifted = all(int(arrays[f"{name}.shift"].max()) <= SHIFT_MAX for name in LAYERS)
        if not (whole and indexed and shifted):
            raise ModelError("the model's steps, shifts or table indices are out of range")
        if max(layers, linear, means, levels) >= EXACT:
            raise ModelError("the model's weights are too large for exact arithmetic")

    def class_shift(self, shift: Tensor, size: Tensor) -> Tensor:
        """Shifts [n,CLASSES] of tables for neighbours of magnitudes [B,n,h,w] in sixteenths."""
        of_class = self.classes[size.clamp(max=COMPAND_ENTRIES - 1).long()]
        channel = torch.arange(len(shift), device=self.device)[:, None, None]
        return shift[channel, of_class]

    def white_hyper(self, rate: int, height: int, width: int) -> Tensor:
        """Table indices [1,Z,h,w] of the places of z that are coded first, 0 at the others."""
        white = white_places(height, width, self.device)
        return (self.hyper_index[rate][:, None, None] * white)[None]

    def code_hyper(self, rate: int, height: int, width: int, coder: HyperCoder) -> Tensor:
        """The hyper-latent of an image [1,Z,h,w] at 1/64, in sixteenths of a step (float64)."""
        index = self.white_hyper(rate, height, width)
        white = index > 0
        q = coder(index, torch.zeros_like(index)).double() * FRACTION
        # 0 at white places: none of those around has a symbol yet.
        mean = self.hyper_near[rate][:, None, None] * share_around(q)
        mean = floor_shift(mean, 2 * WEIGHT_BITS).clamp(-MEAN_MAX, MEAN_MAX)
        size = floor_shift(share_around(q.abs()), WEIGHT_BITS)
        shifted = self.hyper_index[rate][:, None, None] + self.class_shift(self.hyper_shift, size)
        symbol = coder(shifted.clamp(1, TABLES - 1) * ~white, mean)
        return q + symbol.double() * FRACTION + mean

    def from_neighbours(
        self, coded: Tensor, rate: int, channels: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """What the white places of part 0 add to the others' means and scores, [B,n,h,w].

        coded [B,N,h,w] is what their symbols stand for; all is in sixteenths, what is given as
        float64, and 0 at the places that are not meant. Of these n channels of N alone.
        """
        coded = coded[:, channels].double()
        black = ~white_places(coded.shape[-2], coded.shape[-1], self.device)
        mean = self.near_mean[rate, channels, None, None] * sum_around(coded)
        mean = floor_shift(mean, WEIGHT_BITS + FRACTION_BITS)
        # The four are 0 where there is none: the mean of their magnitudes is a fourth.
        size = floor_shift(sum_around(coded.abs()), 2)
        shift = self.class_shift(self.near_shift[channels], size)
        return mean * black, shift * FRACTION * black

    def places(self, part: int) -> Tensor:
        """Of each plane of a part, its position among the 4C planes of a latent in cells."""
        p, far = divmod(part, 2)
        return self.sites[p, self.linear :] if far else self.sites[p, : self.linear]


class IntegerEntropy(EntropyArrays):
    """Evaluation in doubles, by torch."""

    def __init__(self, arrays: Mapping[str, Tensor], rotate: bool, device: torch.device) -> None:
        super().__init__(arrays, rotate, device)

        def wide(name: str) -> Tensor:
            return arrays[name].to(device=device, dtype=torch.float64)

        def wide_power(name: str) -> Tensor:
            shift = arrays[name].to(device=device, dtype=torch.int64)
            return torch.bitwise_left_shift(torch.ones_like(shift), shift).double()

        self.base, self.start, self.compand_table = wide("base"), wide("start"), wide("compand")
        self.mode_base = wide("mode_base")
        self.hyper_linear = wide("hyper_linear")
        self.predict = [wide(f"predict.{p}") for p in range(PASSES - 1)]
        # weight, bias, and what the sum is divided by
        self.layers = {
            name: (wide(f"{name}.weight"), wide(f"{name}.bias"), wide_power(f"{name}.shift"))
            for name in LAYERS
        }

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Sums over edges that repeat, as exact integers."""
        pad = weight.shape[-1] // 2
        if pad:
            x = F.pad(x, (pad,) * 4, mode="replicate")
        return torch.round(F.conv2d(x, weight))

    def layer(self, name: str, x: Tensor) -> Tensor:
        """A layer of the context networks: convolution, bias, shift."""
        weight, bias, unit = self.layers[name]
        return divide(self.convolve(x, weight) + bias[:, None, None], unit[:, None, None])

    def compand(self, q: Tensor) -> Tensor:
        """Magnitudes through the table, signs kept."""
        size = self.compand_table[q.abs().clamp(max=COMPAND_ENTRIES - 1).long()]
        return torch.sign(q) * size

    def code_modes(
        self, features: Tensor, rate: int, inside_cells: Tensor, mode_coder: ModeCoder
    ) -> tuple[Tensor, Tensor]:
        """Modes [B,4,h,w] of the sites of every cell, and the features that know them."""
        batch, _, height, width = features.shape
        base = self.mode_base[rate].repeat(2)[:, None, None]
        modes = torch.zeros(batch, 4, height, width, dtype=torch.int64, device=self.device)
        known = features
        for half in range(2):
            sites = list(SITE_ORDER[2 * half : 2 * half + 2])
            score = self.layer(f"mode_scores.{half}", known) + base
            index = torch.floor((score + FRACTION // 2) / FRACTION).clamp(0, FLAG_TABLES - 1)
            index = (index + TABLES).unflatten(1, (2, NODES)) * inside_cells[sites][None, :, None]
            modes[:, sites] = mode_coder(half, index)
            seen = modes[:, SITE_ORDER[: 2 * half + 2]]
            hot = F.one_hot(seen, MODES).permute(0, 1, 4, 2, 3).flatten(1, 2) * MODE_INPUT
            merged = torch.cat([features, hot.double()], 1)
            known = self.layer(f"mode_merge.{half}", merged).clamp(0, 255)
        return modes, known

    def code(
        self,
        z: Tensor,
        rate: int,
        inside: Tensor,
        mode_coder: ModeCoder,
        coder: Coder,
    ) -> tuple[Tensor, Tensor]:
        """Run all passes over a batch of images of one size.

        z [B,Z,h/2,w/2] in sixteenths of a step; inside [2h,2w] bool at 1/16, False for sites that
        are not coded; h, w are at 1/32. Returns the quantised latent [B,C,2h,2w] on the 255 scale
        (float32) and the modes [B,2h,2w] (int64).
        """
        with torch.autocast(self.device.type, enabled=False):
            z = z.double()
            step = self.step[rate][:, None, None]
            gain = self.gain[rate][:, None, None]
            z_level = floor_shift(z * self.hyper_step[rate][:, None, None], STEP_BITS)
            from_z = self.convolve(z_level.clamp(-LEVEL_MAX, LEVEL_MAX), self.hyper_linear)
            linear_from_z = shuffle(from_z, 2).chunk(PASSES, 1)
            features = shuffle(self.layer("hyper_rise", self.compand(z)), 2)
            features = (features + self.start[rate][:, None, None]).clamp(0, 255)
            inside_cells = unshuffle(inside[None, None], 2)[0]
            mode_cells, features = self.code_modes(features, rate, inside_cells, mode_coder)
            modes = shuffle(mode_cells, 2)[:, 0]
            # As cells [B,4C,h,w], so that self.sites picks from them as from a latent.
            offset = unshuffle(F.embedding(modes, self.base_mode).permute(0, 3, 1, 2), 2)
            aligned = unshuffle(F.embedding(modes, self.aligned).permute(0, 3, 1, 2), 2)

            levels: list[Tensor] = []
            latents: list[Tensor] = []
            q = z
            for part in range(PARTS):
                p, far = divmod(part, 2)
                places = self.places(part)
                mine = places // 4
                if part:
                    shaped = self.compand(q)
                    seen = [shaped, shaped.abs()] if far else [shaped.abs()]
                    merged = torch.cat([features, *seen], 1)
                    features = self.layer(f"merge.{part - 1}", merged).clamp(0, 255)
                deep = self.layer(f"think.{part}", features).clamp(0, 255)
                score = self.layer(f"scales.{part}", deep) + self.base[rate, p, mine][:, None, None]
                mean = predicted = torch.zeros_like(score)
                if not far:
                    linear = linear_from_z[p]
                    if p:
                        linear = linear + self.convolve(torch.cat(levels, 1), self.predict[p - 1])
                    same = aligned[:, places]
                    predicted = floor_shift(floor_shift(linear, LINEAR_BITS) * gain, GAIN_BITS)
                    # Beyond twice MEAN_MAX the sum is MEAN_MAX whatever the networks add.
                    predicted = predicted.clamp(-2 * MEAN_MAX, 2 * MEAN_MAX)
                    mean = predicted * same + self.layer(f"means.{p}", deep).clamp(
                        -DEEP_MEAN_MAX, DEEP_MEAN_MAX
                    )
                    mean = mean.clamp(-MEAN_MAX, MEAN_MAX)

                coded = inside_cells[places % 4]
                ask = partial(ask_coder, coder, part, offset[:, places], predicted)
                if part:
                    symbol = ask(coded, score, mean)
                else:
                    white = white_places(coded.shape[1], coded.shape[2], self.device)
                    symbol = ask(coded & white, score, mean)
                    more, shift = self.from_neighbours(symbol * SPACING, rate)
                    mean = (mean + more).clamp(-MEAN_MAX, MEAN_MAX)
                    symbol = symbol + ask(coded & ~white, score + shift, mean)
                q = symbol * SPACING + mean
                v = floor_shift(q * step[mine], STEP_BITS)
                if not far:
                    levels.append(v.clamp(-LEVEL_MAX, LEVEL_MAX) * same)
                latents.append(v)
            flat = torch.cat(latents, 1)[:, self.order]
            return (shuffle(flat, 2) / FRACTION).float(), modes
