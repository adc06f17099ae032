"""How large the numbers of synthesis become, by running a model on images.

`integerise_synthesis` needs that to choose the units of integers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mvmic_codec.model.layers import ResidualBlock
from mvmic_codec.model.model import Model
from mvmic_codec.rate import RATES

# Rate indices that every image is coded at.
CALIBRATION_RATES = (0, 9, 18, 36, 54, RATES - 1)


class Seen:
    """Largest sizes by name; see `integerise_synthesis`."""

    def __init__(self) -> None:
        self.ranges: dict[str, Tensor] = {}

    def note(self, name: str, size: Tensor) -> None:
        """Take a size, or the sizes of channels."""
        before = self.ranges.get(name)
        self.ranges[name] = size if before is None else torch.maximum(before, size)

    def watch(self, block: ResidualBlock, stream: str, name: str) -> list[RemovableHandle]:
        """From here on note the sizes of a residual block's stream and activations."""

        def of_stream(_: object, inputs: tuple[Tensor], output: Tensor) -> None:
            self.note(stream, torch.maximum(inputs[0].abs().max(), output.abs().max()))

        return [
            block.register_forward_hook(of_stream),
            block.first.register_forward_hook(
                lambda _, inputs, output: self.note(name, output.max().clamp_min(0))
            ),
        ]


@torch.no_grad()
def ranges_of(model: Model, crops: Iterable[Tensor]) -> dict[str, Tensor]:
    """The ranges that `integerise_synthesis` takes, from crops [P,S,S] in 0..1."""
    net, seen = model.synthesis, Seen()
    watched = [(net.body16, "s16", "body16."), (net.body8, "s8", "body8.")]
    handles = [
        handle
        for body, stream, prefix in watched
        for k, block in enumerate(body)
        if isinstance(block, ResidualBlock)
        for handle in seen.watch(block, stream, f"{prefix}{k}")
    ]
    handles += seen.watch(net.retouch.body, "s2", "retouch")
    spread = net.spread[:, None, None]
    handles.append(
        net.enter.register_forward_pre_hook(
            lambda _, inputs: seen.note("coefficients", (inputs[0] / spread).abs().amax((0, 2, 3)))
        )
    )
    try:
        for crop in crops:
            for rate in CALIBRATION_RATES:
                model(crop[None], torch.tensor([rate]))
    finally:
        for handle in handles:
            handle.remove()
    return seen.ranges
