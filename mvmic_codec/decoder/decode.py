"""The payload of a DATA chunk -> planes: entropy decoder, entropy networks, synthesis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mvmic_codec.bitstream.container import RGB, Header
from mvmic_codec.bitstream.grid import BLOCK, coded_sites, hyper_size
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder.stripes import PLANES, STRIDES, StripedSynthesis
from mvmic_codec.errors import FormatError
from mvmic_codec.model.device import full_precision, pick_device
from mvmic_codec.model.entropy import SECOND
from mvmic_codec.model.integer import code_mode_tree, to_uint8
from mvmic_codec.model.loaded import BFLOAT16_FROM, LoadedModel, load
from mvmic_codec.model.transforms import restore_colour

Planes = npt.NDArray[np.float32]
Hidden = npt.NDArray[np.bool_]
# Takes a part of an image's planes: its first row, its first column, and the part [C,h,w].
EmitPart = Callable[[int, int, Planes], object]
# Takes a part of a feature map: its name, its first row, its first column, and the part [1,C,h,w].
# It may reach beyond the image, which is padded to whole units of `grid.UNIT`.
EmitMapPart = Callable[[str, int, int, Tensor], object]

# On a CPU one megapixel is reconstructed at a time, counted in blocks of 16x16 samples. Activations
# are many times larger than the image.
STRIPE_BLOCKS = 4096
# Wider images are cut into bands of so many columns of blocks.
BAND_BLOCKS = 256


def decode_parts(
    payload: bytes,
    header: Header,
    emit: EmitPart,
    *,
    hidden: Hidden | None = None,
    device: str | None = None,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
) -> None:
    """Decode the planes of an image, in 0..1, and pass them to `emit` part by part.

    A whole image at once may take too much memory. There are 3 planes if the header's photometric
    is RGB, else 1. hidden [H,W] is True where flat areas hide the image, as when it was encoded.
    emit_map and until are those of `reconstruct_parts`.

    Raises ModelError for a model that is not installed. Raises FormatError or one of its kinds for
    a damaged payload, and if the model is for the other kind of image, gray or colour.
    """
    model = model_of_file(header, device)
    size = (header.height, header.width)
    with full_precision(model.device):
        latent, modes = decode_symbols(model, payload, header.rate_index, size, hidden)
        exact = single_precision(model, header.rate_index)
        reconstruct_parts(
            model,
            latent,
            modes,
            header.rate_index,
            size,
            emit,
            exact=exact,
            emit_map=emit_map,
            until=until,
        )


def put(whole: npt.NDArray[Any], top: int, left: int, part: npt.NDArray[Any]) -> None:
    """Copy a part [C,h,w] to its place in the whole [C,H,W]."""
    _, height, width = part.shape
    whole[:, top : top + height, left : left + width] = part


def check_start(payload: bytes, header: Header, *, device: str | None = None) -> None:
    """Raise FormatError or one of its kinds if the payload lacks the first symbols of the image.

    Those are half of the hyper-latent. A few bytes can claim an image of any size. This check costs
    next to nothing, and belongs before any work whose time grows with the image.
    """
    model = model_of_file(header, device)
    size = hyper_size((header.height, header.width))
    first = model.entropy.anchor_hyper(header.rate_index, *size)
    Unpacker(payload, model.tables).next(to_uint8(first))


def model_of_file(header: Header, device: str | None) -> LoadedModel:
    """The model that the header names. Errors as `decode_parts`."""
    model = load(header.fingerprint, pick_device(device))
    planes = planes_of(header)
    if model.shape.planes != planes:
        kinds = {1: "gray", 3: "colour"}
        raise FormatError(
            f"the file is damaged: its image is {kinds[planes]}, but the model that it names is "
            f"for {kinds[model.shape.planes]} images"
        )
    return model


def planes_of(header: Header) -> int:
    """How many planes are coded: 3 for RGB, 1 for gray and for RGB with equal channels."""
    return 3 if header.photometric == RGB else 1


def decode_symbols(
    model: LoadedModel,
    payload: bytes,
    rate: int,
    size: tuple[int, int],
    hidden: Hidden | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode the dequantised latent [1,C,h,w] at 1/16 on the 255 scale, and the modes [1,h,w].

    size is the image's (H,W), hidden as for `decode_parts`. Raises FormatError or one of its kinds.
    """
    unpacker = Unpacker(payload, model.tables)

    def next_symbols(index: Tensor, second: int = 0) -> Tensor:
        symbols = unpacker.next(to_uint8(index), second)
        return torch.from_numpy(symbols).to(model.device).reshape(index.shape)

    z = model.entropy.code_hyper(rate, *hyper_size(size), lambda index, mean: next_symbols(index))
    latent, modes = model.entropy.code(
        z,
        rate,
        torch.from_numpy(coded_sites(size, hidden)).to(model.device),
        lambda half, index: code_mode_tree(index, lambda bit, table: next_symbols(table)),
        lambda part, index, mean, predicted, scores: next_symbols(index, SECOND),
    )
    unpacker.finish()
    return latent, modes


def single_precision(model: LoadedModel, rate: int) -> bool:
    """Whether synthesis must run in single precision; see formats/model.md, section 9.

    In gray, and in colour at low rates, bfloat16 would change samples by up to three levels.
    Processors without bfloat16 would then decode visibly different images.
    """
    return model.shape.planes == 1 or rate < BFLOAT16_FROM


def reconstruct(
    model: LoadedModel,
    latent: Tensor,
    modes: Tensor,
    rate: int,
    size: tuple[int, int],
    *,
    exact: bool,
) -> Planes:
    """Dequantised latent [1,C,h,w] and modes [1,h,w] -> planes [C,H,W] in 0..1.

    size is (H,W). Unless `exact`, convolutions may run in bfloat16.
    """
    planes = np.empty((model.shape.planes, *size), np.float32)
    reconstruct_parts(model, latent, modes, rate, size, partial(put, planes), exact=exact)
    return planes


def reconstruct_parts(
    model: LoadedModel,
    latent: Tensor,
    modes: Tensor,
    rate: int,
    size: tuple[int, int],
    emit: EmitPart,
    *,
    exact: bool,
    emit_map: EmitMapPart | None = None,
    until: str = PLANES,
) -> None:
    """As `reconstruct`, but pass the planes to `emit` part by part.

    Parts are stripes of rows, from top to bottom. A wide image is first cut into bands of columns.
    Bands overlap by the blocks that their samples depend on.

    emit_map gets the feature maps on the way, part by part too. until is the feature map after
    which to stop, before there are planes.
    """
    rates = torch.tensor([rate], device=model.device)
    rows, columns = modes.shape[1:]
    whole = model.device.type != "cpu" or rows * columns <= STRIPE_BLOCKS
    width = columns if whole else BAND_BLOCKS
    for left in range(0, columns, width):
        synthesis = StripedSynthesis(model.synthesis, rates, until=until)
        start, end = max(0, left - synthesis.reach), min(columns, left + width + synthesis.reach)
        if emit_map is not None:
            synthesis.emit_map = MapsOfBand(emit_map, left, left - start, width)
        height = rows if whole else max(STRIPE_BLOCKS // (end - start), 2 * synthesis.reach)
        inner = slice(BLOCK * (left - start), BLOCK * (left - start + width))
        top = 0
        for first in range(0, rows, height):
            stripe = slice(first, first + height)
            planes = next_planes(
                model,
                synthesis,
                latent[:, :, stripe, start:end],
                modes[:, stripe, start:end],
                last=first + height >= rows,
                exact=exact,
            )
            if planes is None:
                continue
            seen = planes[..., inner][0, :, : size[0] - top, : size[1] - BLOCK * left]
            emit(top, BLOCK * left, seen.clamp(0, 1).cpu().numpy())
            top += planes.shape[2]


def next_planes(
    model: LoadedModel,
    synthesis: StripedSynthesis,
    latent: Tensor,
    modes: Tensor,
    *,
    last: bool,
    exact: bool,
) -> Tensor | None:
    """The next rows of a latent and of modes -> the next rows of planes [1,P,H,W], not clamped.

    None if synthesis stops before planes. What it makes on the way is freed before the next stripe
    needs memory.
    """
    coefficients = model.blocks.inverse(latent, modes)
    with nullcontext() if exact else model.bfloat16_autocast():
        rotated = synthesis(coefficients, modes, last=last)
    return None if rotated is None else restore_colour(rotated)


class MapsOfBand:
    """Passes on feature maps of a band of columns without the columns where it overlaps others.

    left, margin, width in blocks: where the band begins without its overlap, how far it overlaps to
    the left, and how wide it is without.
    """

    def __init__(self, emit_map: EmitMapPart, left: int, margin: int, width: int) -> None:
        self.emit_map, self.left, self.margin, self.width = emit_map, left, margin, width
        self.top = dict.fromkeys(STRIDES, 0)

    def __call__(self, name: str, rows: Tensor) -> None:
        """Take the next rows of a map, as `StripedSynthesis` gives them."""
        scale = BLOCK // STRIDES[name]
        inner = slice(scale * self.margin, scale * (self.margin + self.width))
        self.emit_map(name, self.top[name], scale * self.left, rows[..., inner])
        self.top[name] += rows.shape[2]
