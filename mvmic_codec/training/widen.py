"""A model of a larger shape that starts as a smaller one.

After Chen, Goodfellow and Shlens, "Net2Net: accelerating learning via knowledge transfer" (2016),
with zeros instead of copies. New channels compute something from the first step on, but no old
layer reads them yet. New channels of chroma are the exception. They code what the old ones leave,
where a rate is high enough.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from mvmic_codec.errors import InputError
from mvmic_codec.model.definition import AREA, TABLES
from mvmic_codec.model.model import Model
from mvmic_codec.model.shape import Shape
from mvmic_codec.model.transforms import block_dct, filter_borders, rotate_colour, rows_of
from mvmic_codec.training.start import leading, table_index

# Of RateScale: scales of all channels, then shifts.
_SCALES_AND_SHIFTS = ".table.knots"
# Layers whose inputs are the features and then something else.
_AFTER_FEATURES = ("entropy.merge.", "entropy.mode_merge.")


# What may be more.
_GROWN = {"width8", "width16", "width2", "context", "blocks8", "blocks16", "chroma"}
# Of the mean magnitude of a coefficient, its logistic scale.
_SCALE_SHARE = 0.72


def check_growth(shape: Shape, old: Shape) -> None:
    """Raise InputError unless a model of shape `old` can become one of `shape`."""
    ours, theirs = asdict(shape), asdict(old)
    for field in ours:
        same = ours[field] == theirs[field]
        # A model for gray images has no chroma that could become more.
        if not same and not (field in _GROWN and ours[field] > theirs[field] > 0):
            raise InputError(
                f"a model with {field} {theirs[field]} cannot grow into one with {ours[field]}: "
                "give the shape of the model to start from, or more channels or blocks"
            )


@torch.no_grad()
def widen(model: Model, old: Model, crops: Tensor) -> None:
    """Set `model`'s parameters so that it does what `old` does. Errors as `check_growth`.

    crops [N,P,S,S] in 0..1 (S a multiple of 16) show what more channels of chroma have to code.
    """
    check_growth(model.shape, old.shape)
    buffers = dict(old.named_buffers())
    for name, buffer in model.named_buffers():
        if buffer.shape == buffers[name].shape:
            buffer.copy_(buffers[name])
    known = dict(old.named_parameters())
    for name, parameter in model.named_parameters():
        if name not in known:
            # A residual block that adds nothing.
            if ".second." in name:
                parameter.zero_()
        elif parameter.dim() == 4:
            _grow_filter(name, parameter, known[name], model.shape.context - old.shape.context)
        elif name.endswith(_SCALES_AND_SHIFTS):
            halves = zip(parameter.chunk(2, 1), known[name].chunk(2, 1), strict=True)
            for new_half, half in halves:
                _grow(new_half, half)
        else:
            _grow(parameter, known[name])
    if model.shape.chroma > old.shape.chroma:
        _add_chroma(model, old, crops)


def _add_chroma(model: Model, old: Model, crops: Tensor) -> None:
    """New channels of chroma: the leading components of what the old ones leave of crops."""
    lapped = filter_borders(rotate_colour(crops), model.analysis.borders)
    chroma = rows_of(block_dct(lapped)[:, AREA:]).double()
    # A released model's basis is rounded: orthonormal again, it leaves nothing of itself.
    known, _ = torch.linalg.qr(old.blocks.chroma.double().t())
    left = chroma - chroma @ known @ known.t()
    added = leading(left.t() @ left, model.shape.chroma - old.shape.chroma)
    model.blocks.chroma.copy_(torch.cat((old.blocks.chroma, added.float())))
    # Synthesis has never seen what they bring, and must not listen to it yet.
    seen = model.synthesis.enter.weight[:, AREA:, 0, 0]
    spread = model.synthesis.spread[AREA:]
    seen.copy_(seen / spread @ (known @ known.t()).float() * spread)
    entropy = model.entropy
    latent = old.shape.latent
    far = slice(latent - (old.shape.chroma - old.shape.near_chroma), latent)
    log_step = entropy.log_step.knots[:, far].mean(1, keepdim=True)
    entropy.log_step.knots[:, latent:] = log_step
    scale = (left @ added.t()).abs().mean(0).float() * _SCALE_SHARE
    index = table_index(scale / log_step.exp())
    entropy.base.knots[:, latent:] = index.clamp(-4, TABLES - 2)


def _grow(parameter: Tensor, old: Tensor) -> None:
    """The first channels as they were, 0 for the others."""
    parameter.zero_()
    parameter[..., : old.shape[-1]] = old


def _grow_filter(name: str, parameter: Tensor, old: Tensor, more_features: int) -> None:
    """Outputs that were there are as they were; new ones keep what they were drawn as."""
    outputs, inputs = old.shape[:2]
    parameter[:outputs] = 0
    if name.startswith(_AFTER_FEATURES):
        features = parameter.shape[0] - more_features
        parameter[:outputs, :features] = old[:, :features]
        after = slice(features + more_features, inputs + more_features)
        parameter[:outputs, after] = old[:, features:]
    else:
        parameter[:outputs, :inputs] = old
