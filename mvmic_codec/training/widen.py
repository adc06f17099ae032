"""A model of a larger shape that starts as a smaller one.

After Chen, Goodfellow and Shlens, "Net2Net: accelerating learning via knowledge transfer" (2016),
by zeros in place of copies: what is new computes something from the first step on, and nothing that
was there listens to it yet.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor

from ..errors import InputError
from ..nets.model import Model, Shape

# Of RateScale: scales of all channels, then shifts.
_SCALES_AND_SHIFTS = ".table.knots"
# Layers whose inputs are the features and then something else.
_AFTER_FEATURES = ("entropy.merge.", "entropy.mode_merge.")


# What may be more.
_GROWN = {"width8", "width16", "context", "blocks8", "blocks16"}


def check_growth(shape: Shape, old: Shape) -> None:
    """Raise InputError unless a model of shape `old` can become one of `shape`."""
    ours, theirs = asdict(shape), asdict(old)
    for field in ours:
        same = ours[field] == theirs[field]
        if not same and not (field in _GROWN and ours[field] > theirs[field]):
            raise InputError(
                f"a model with {field} {theirs[field]} cannot grow into one with {ours[field]}: "
                "give the shape of the model to start from, or more channels or blocks"
            )


@torch.no_grad()
def widen(model: Model, old: Model) -> None:
    """Set `model`'s parameters so that it does what `old` does. Errors as `check_growth`."""
    check_growth(model.shape, old.shape)
    for new_buffer, buffer in zip(model.buffers(), old.buffers(), strict=True):
        new_buffer.copy_(buffer)
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
        parameter[:outputs, features + more_features :] = old[:, features:]
    else:
        parameter[:outputs, :inputs] = old
