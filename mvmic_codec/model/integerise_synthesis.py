"""Turn trained synthesis into the integer arrays of formats/model.md, section 9, and back.

Weights of an output are whole multiples of a unit. The unit is as fine as sums of 32 bits allow;
sums of 3x3 layers have to fit four times over, for Winograd's algorithm. Streams and activations
are multiples of units, too, by the ranges that they have on training images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.definition import (
    COEFFICIENT_BITS,
    INPUT_MAX,
    MATRIX_BITS,
    NARROWED_MAX,
    PLANE_BITS,
    QUAD_BITS,
    STREAM_MAX,
    SUM1_MAX,
    SUM3_MAX,
    WEIGHT3_MAX,
)
from mvmic_codec.model.layers import INPUT_SCALE8, RateTable, ResidualBlock
from mvmic_codec.model.synthesis import (
    INPUT_SCALE2,
    OUTPUT_SCALE2,
    OUTPUT_SCALE8,
    Synthesis,
)
from mvmic_codec.model.transforms import BlockTransform, dct_matrix
from mvmic_codec.rate import RATES

# Ranges are so many times what was seen; coefficients vary most.
MARGIN = 1.5
COEFFICIENT_MARGIN = 4.0
# Share of the bound of a sum that is used: rounding comes on top.
ROOM = 0.98


def quantised(
    weight: Tensor, bias: Tensor, input_max: int, weight_max: int, sum_max: float
) -> tuple[Tensor, Tensor]:
    """Weights [O,...] as whole multiples of a unit for each output, and these units [O].

    No weight is above weight_max. The sum of an output, for inputs of sizes up to input_max and
    with its bias [O], is below sum_max; inputs are integers, and so the bias is in units of sums.
    """
    flat = weight.double().flatten(1)
    sizes = flat.abs()
    most = sizes.sum(1) * input_max + bias.double().abs()
    unit = torch.maximum(sizes.amax(1) / weight_max, most / (ROOM * sum_max))
    unit = unit.clamp_min(torch.finfo(torch.float32).tiny)
    return nearest(flat / unit[:, None]).view(weight.shape), unit


def nearest(x: Tensor) -> Tensor:
    """The nearest integers, halves up."""
    return torch.floor(x.double() + 0.5)


class _Arrays:
    """The arrays of one synthesis while they are made."""

    def __init__(self) -> None:
        self.arrays: dict[str, Tensor] = {}
        self.units: dict[str, Tensor] = {}

    def put(self, name: str, x: Tensor, kind: torch.dtype = torch.int32) -> None:
        """Store integers. Raises ValueError if they do not fit."""
        x, limits = nearest(x), torch.iinfo(kind)
        if not ((x >= limits.min) & (x <= limits.max)).all():
            raise ValueError(f"synthesis is not fit for integers: {name} needs more than {kind}")
        self.arrays[name] = x.to(kind).contiguous()

    def multiplier(self, name: str, x: Tensor) -> None:
        """Store what sums are multiplied by."""
        self.put(f"{name}.multiplier", x.double() * 2.0**32)

    def weight(
        self,
        name: str,
        weight: Tensor,
        unit_in: float,
        input_max: int,
        bias: Tensor | float = 0.0,
    ) -> Tensor:
        """Store the weights of a layer whose inputs are multiples of a unit. The unit of sums.

        bias [O] is what is added to sums, the largest where there are several.
        """
        bounds = (WEIGHT3_MAX, SUM3_MAX) if weight.shape[2] == 3 else (STREAM_MAX, SUM1_MAX)
        of_sums = torch.as_tensor(bias).double() / unit_in
        integers, unit = quantised(weight, of_sums, input_max, *bounds)
        self.put(f"{name}.weight", integers, torch.int16)
        self.units[f"{name}.unit"] = unit
        return unit * unit_in


@torch.no_grad()
def integerise_synthesis(
    net: Synthesis, blocks: BlockTransform, ranges: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The arrays of formats/model.md, section 9, and the units that `restore_synthesis` needs.

    ranges are the largest sizes that were seen, as `calibrate.ranges_of` gives them:
    "coefficients" [256J] over the spread of each, "s16", "s8" and "s2" of streams, and "body16.0",
    ..., "body8.0", ..., "retouch" of activations within residual blocks.

    Raises ValueError if a number does not fit.
    """
    made = _Arrays()
    units = made.units
    for name, matrix in (
        ("luma", blocks.luma),
        ("chroma", blocks.chroma),
        ("dct", dct_matrix(BLOCK)),
        ("borders", net.borders),
    ):
        made.put(name, matrix.double() * 2**MATRIX_BITS, torch.int16)
    for name in ("s16", "s8", "s2"):
        units[name] = MARGIN * ranges[name].double() / STREAM_MAX
    s16, s8, s2 = (float(units[name]) for name in ("s16", "s8", "s2"))

    units["spread"] = net.spread.double()
    reach = COEFFICIENT_MARGIN * ranges["coefficients"].double() / INPUT_MAX
    made.put("enter.scale", 2.0 ** (16 - COEFFICIENT_BITS) / (units["spread"] * reach))
    weight = net.enter.weight.double() * reach[:, None, None]
    assert net.enter.bias is not None
    bias = net.enter.bias + net.mode.weight[:, :, 0, 0].T
    unit = made.weight("enter", weight, 1.0, INPUT_MAX, bias.abs().amax(0))
    made.put("enter.bias", bias.double() / unit)
    scale, shift = tuned(net.rate16.table)
    made.multiplier("enter", unit * scale / s16)
    made.put("enter.offset", shift / s16)

    for name, bodies, stream in (("body16", net.body16, s16), ("body8", net.body8, s8)):
        for k, block in enumerate(bodies):
            assert isinstance(block, ResidualBlock)
            _put_block(made, f"{name}.{k}", block, stream, 3, ranges[f"{name}.{k}"])

    scale, shift = tuned(net.rate8.table)
    assert net.up.bias is not None and net.inject.bias is not None
    bias = net.up.bias.double() + net.inject.bias.double().repeat_interleave(4)
    scale4, shift4 = (x.repeat_interleave(4, 1) for x in (scale, shift))
    unit = made.weight("up", net.up.weight, 4 * s16, NARROWED_MAX)
    made.multiplier("up", unit * scale4 / s8)
    made.put("up.offset", (bias * scale4 + shift4) / s8)
    weight = net.inject.weight.double() / INPUT_SCALE8
    unit = made.weight("inject", weight, 2.0**-COEFFICIENT_BITS, INPUT_MAX)
    made.multiplier("inject", unit * scale / s8)

    _put_last(made, "leave", net.leave, OUTPUT_SCALE8, 4 * s8)

    post = net.retouch
    weight = post.enter.weight.double() / INPUT_SCALE2
    unit = made.weight("retouch.enter", weight, 2.0**-QUAD_BITS, INPUT_MAX)
    scale, shift = tuned(post.rate.table)
    made.multiplier("retouch.enter", unit * scale / s2)
    assert post.enter.bias is not None
    made.put("retouch.enter.offset", (post.enter.bias.double() * scale + shift) / s2)
    _put_block(made, "retouch", post.body, s2, 2, ranges["retouch"])
    _put_last(made, "retouch.leave", post.leave, OUTPUT_SCALE2, 4 * s2)
    return made.arrays, units


def tuned(table: RateTable) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel by rate index, [64,C] each."""
    scale, shift = table(torch.arange(RATES)).double().chunk(2, 1)
    return 1 + scale, shift


def _put_block(
    made: _Arrays, name: str, block: ResidualBlock, stream: float, shift: int, seen: Tensor
) -> None:
    """Store a residual block whose first layer gets its stream shifted to the right."""
    middle = MARGIN * float(seen) / INPUT_MAX
    made.units[name] = torch.tensor(middle, dtype=torch.float64)
    for part, layer, unit_in, unit_out, input_max in (
        ("first", block.first, stream * 2**shift, middle, 2 ** (15 - shift)),
        ("second", block.second, middle, stream, INPUT_MAX),
    ):
        assert layer.bias is not None
        unit = made.weight(f"{name}.{part}", layer.weight, unit_in, input_max, layer.bias)
        made.put(f"{name}.{part}.bias", layer.bias.double() / unit)
        made.multiplier(f"{name}.{part}", unit / unit_out)


def _put_last(made: _Arrays, name: str, layer: nn.Conv2d, scale: float, unit_in: float) -> None:
    """Store a layer whose outputs are added to planes."""
    assert layer.bias is not None
    weight, bias = layer.weight.double() * scale, layer.bias.double() * scale
    unit = made.weight(name, weight, unit_in, NARROWED_MAX, bias)
    made.put(f"{name}.bias", bias / unit)
    made.multiplier(name, unit * 2.0**PLANE_BITS)


@torch.no_grad()
def restore_synthesis(
    net: Synthesis,
    blocks: BlockTransform,
    arrays: Mapping[str, Tensor],
    units: Mapping[str, Tensor],
) -> None:
    """Set float parameters so that `integerise_synthesis` gives about these arrays again."""
    a = {name: array.double() for name, array in arrays.items()}
    u = {name: unit.double() for name, unit in units.items()}
    s16, s8, s2 = u["s16"], u["s8"], u["s2"]

    def weight(name: str) -> Tensor:
        return a[f"{name}.weight"] * u[f"{name}.unit"][:, None, None, None]

    def set_block(block: ResidualBlock, name: str, unit_in: Tensor) -> None:
        for conv, part, unit in (
            (block.first, "first", unit_in),
            (block.second, "second", u[name]),
        ):
            assert conv.bias is not None
            conv.weight.copy_(weight(f"{name}.{part}"))
            conv.bias.copy_(a[f"{name}.{part}.bias"] * u[f"{name}.{part}.unit"] * unit)

    def set_last(conv: nn.Conv2d, name: str, scale: float, unit: Tensor) -> None:
        assert conv.bias is not None
        conv.weight.copy_(weight(name) / scale)
        conv.bias.copy_(a[f"{name}.bias"] * u[f"{name}.unit"] * unit / scale)

    # The knots of a rate table lie at whole rate indices.
    knots = torch.linspace(0, RATES - 1, len(net.rate16.table.knots)).round().long()

    def factor(name: str, unit: Tensor) -> Tensor:
        return a[f"{name}.multiplier"][knots] / 2.0**32 / unit

    blocks.luma.copy_(a["luma"] / 2**MATRIX_BITS)
    blocks.chroma.copy_(a["chroma"] / 2**MATRIX_BITS)
    net.borders.copy_(a["borders"] / 2**MATRIX_BITS)
    net.spread.copy_(u["spread"])

    reach = 2.0 ** (16 - COEFFICIENT_BITS) / (u["spread"] * a["enter.scale"])
    net.enter.weight.copy_(weight("enter") / reach[:, None, None])
    bias = a["enter.bias"] * u["enter.unit"]
    assert net.enter.bias is not None and net.up.bias is not None and net.inject.bias is not None
    net.enter.bias.copy_(bias.mean(0))
    net.mode.weight.copy_((bias - bias.mean(0)).T[:, :, None, None])
    scale = factor("enter", u["enter.unit"] / s16)
    net.rate16.table.knots.copy_(torch.cat((scale - 1, a["enter.offset"][knots] * s16), 1))

    for name, bodies, stream in (("body16", net.body16, s16), ("body8", net.body8, s8)):
        for k, block in enumerate(bodies):
            assert isinstance(block, ResidualBlock)
            set_block(block, f"{name}.{k}", stream * 2**3)

    net.up.weight.copy_(weight("up"))
    net.inject.weight.copy_(weight("inject") * INPUT_SCALE8)
    net.inject.bias.zero_()
    scale = factor("inject", u["inject.unit"] * 2.0**-COEFFICIENT_BITS / s8)
    offset = (a["up.offset"][knots] * s8).unflatten(1, (-1, 4))
    shift = offset.mean(2)
    # The four outputs of a channel differ by their biases, at all rates.
    differ = ((offset - shift[..., None]) * scale[..., None]).sum(0) / scale.square().sum(0)[
        :, None
    ]
    net.up.bias.copy_(differ.flatten())
    net.rate8.table.knots.copy_(torch.cat((scale - 1, shift), 1))

    set_last(net.leave, "leave", OUTPUT_SCALE8, 4 * s8)

    post = net.retouch
    post.enter.weight.copy_(weight("retouch.enter") * INPUT_SCALE2)
    assert post.enter.bias is not None
    post.enter.bias.zero_()
    scale = factor("retouch.enter", u["retouch.enter.unit"] * 2.0**-QUAD_BITS / s2)
    post.rate.table.knots.copy_(torch.cat((scale - 1, a["retouch.enter.offset"][knots] * s2), 1))
    set_block(post.body, "retouch", s2 * 2**2)
    set_last(post.leave, "retouch.leave", OUTPUT_SCALE2, 4 * s2)
