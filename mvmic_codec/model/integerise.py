"""Turn a trained entropy model into the integer arrays of formats/model.md."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mvmic_codec.model.definition import (
    CLASSES,
    COMPAND_ENTRIES,
    FLAG_TABLES,
    FRACTION,
    GAIN_BITS,
    LAYERS,
    LINEAR_BITS,
    STEP_BITS,
    TABLES,
)
from mvmic_codec.model.entropy import (
    LOG_RATIO,
    SCALE_MIN,
    WEIGHT_MAX,
    EntropyModel,
    IntegerConv,
    compand,
    flag_logit,
)
from mvmic_codec.model.integer import COARSER
from mvmic_codec.model.tables import make_tables
from mvmic_codec.rate import RATES


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
            arrays[f"{name}.weight"] = (
                torch.floor(weight + 0.5).clamp(-WEIGHT_MAX, WEIGHT_MAX).to(torch.int8)
            )
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


def neutral_neighbours(hyper: int, low_freq: int) -> dict[str, Tensor]:
    """Arrays that give neighbours no influence. Training knows none; `fit_release` fits them."""
    return {
        "hyper_near": torch.zeros(RATES, hyper, dtype=torch.int16),
        "hyper_shift": torch.zeros(hyper, CLASSES, dtype=torch.int8),
        "near_mean": torch.zeros(RATES, low_freq, dtype=torch.int16),
        "near_shift": torch.zeros(low_freq, CLASSES, dtype=torch.int8),
    }


def scale_ladder() -> Tensor:
    """The logistic scales of tables 1 to TABLES - 1, in steps, in float64."""
    return SCALE_MIN * torch.exp(torch.arange(TABLES - 1, dtype=torch.float64) * LOG_RATIO)
