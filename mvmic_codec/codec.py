"""Planes and a rate index <-> the payload of a file: where networks, integers and coder meet."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from . import ans
from .container import RGB, Header
from .errors import InputError
from .nets.entropy import (
    MODE_DEPTH,
    MODES,
    SITE_ORDER,
    TABLES,
    mode_bits,
    step_to_zero_bits,
)
from .nets.identity import model_identity
from .nets.integer import walk_modes
from .nets.release import Release, load
from .nets.transforms import BLOCK, restore_colour, rotate_colour, shuffle, unshuffle
from .rate import lambda_of
from .symbols import Unpacker, pack

Planes = npt.NDArray[np.float32]
Pass = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]

UNIT = 64  # the hyper-latent's grid
SYMBOL_MAX = 32767
DEADZONE_MAX = 0.6


def encode_planes(planes: Planes, rate_index: int, *, device: str | None = None) -> bytes:
    """Code planes [C,H,W] (C 1 or 3, values 0..1) with the default model."""
    release = load(model_identity()[1], pick_device(device))
    with full_precision(release):
        return pack(code_symbols(release, planes, rate_index), release.tables)


def estimate_bits(planes: Planes, rate_index: int, *, device: str | None = None) -> float:
    """Ideal size in bits of what `encode_planes` codes, by the model's tables."""
    release = load(model_identity()[1], pick_device(device))
    with full_precision(release):
        passes = code_symbols(release, planes, rate_index)
    return sum(ans.estimate_bits(*each, release.tables) for each in passes)


def decode_planes(payload: bytes, header: Header, *, device: str | None = None) -> Planes:
    """Planes [C,H,W] in 0..1 of a payload that the header's model coded.

    C is 3 if the header's photometric is RGB, else 1.

    Raises ModelError for a model that is not installed, FormatError or its kin for a payload that
    is damaged.
    """
    release = load(header.fingerprint, pick_device(device))
    size, gray = (header.height, header.width), header.photometric != RGB
    with full_precision(release):
        latent, modes = decode_symbols(release, payload, header.rate_index, size, gray)
        return reconstruct(release, latent, modes, header.rate_index, size, gray)


def pick_device(device: str | None) -> str:
    """The device asked for, else CUDA where there is one, else the CPU.

    Raises InputError for a device that is not there.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # The exact path needs float64 there, and a way back.
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    # torch has many classes of errors for this: RuntimeError, AssertionError, AcceleratorError ...
    except Exception as error:
        raise InputError(
            f"there is no device {device!r} here; give cpu, or cuda on a machine that has it"
        ) from error
    return str(device)


def live_channels(release: Release, gray: bool) -> Tensor:
    """[C] bool: gray images have no chroma."""
    chroma = release.shape.is_chroma().to(release.device)
    return ~chroma if gray else torch.ones_like(chroma)


def sites_inside(release: Release, height: int, width: int) -> Tensor:
    """[h,w] bool at 1/16 of the padded image: sites that hold at least one pixel."""
    rows = torch.arange(math.ceil(height / UNIT) * UNIT // BLOCK, device=release.device)
    columns = torch.arange(math.ceil(width / UNIT) * UNIT // BLOCK, device=release.device)
    return (rows * BLOCK < height)[:, None] & (columns * BLOCK < width)[None]


def hyper_indices(release: Release, rate: int, cells: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Table indices of z [Z*h*w]: one table for each channel and rate."""
    index = release.entropy.hyper_index[rate].cpu().numpy()
    return np.repeat(index, cells[0] * cells[1])


@contextmanager
def full_precision(release: Release) -> Iterator[None]:
    """Networks in single precision, whatever the caller's autocast or TF32 says.

    Raises MemoryError where torch has a RuntimeError of its own for that.
    """
    try:
        with (
            torch.inference_mode(),
            torch.autocast(release.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            yield
    except RuntimeError as error:
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise


def code_symbols(release: Release, planes: Planes, rate: int) -> list[Pass]:
    """The passes (symbols, table indices) of an image, in decoding order, z first."""
    gray = planes.shape[0] == 1
    height, width = planes.shape[1:]
    padded = pad_to_unit(torch.from_numpy(np.ascontiguousarray(planes)).to(release.device))
    rates = torch.tensor([rate], device=release.device)
    rotated = rotate_colour(padded.expand(3, -1, -1)[None])
    live = live_channels(release, gray)
    coefficients = release.analysis(rotated, rates)
    steps = (release.entropy.step[rate] / 2**12).float()[None, :, None, None]
    weight = torch.tensor([lambda_of(rate) / 3.0], device=release.device)
    costs = release.blocks.costs(coefficients, steps, weight)
    z = release.hyper_analysis(coefficients, release.analysis.spread, rates)
    z_step = release.entropy.hyper_step[rate][:, None, None] / 2**12
    z_symbols = torch.round(z.double() / z_step).clamp(-SYMBOL_MAX, SYMBOL_MAX)
    inside = sites_inside(release, height, width)
    # A block outside of the image is never coded: its mode is 0.
    costs[:, 1:] += torch.where(inside, 0.0, math.inf)
    cost_cells = unshuffle(costs, 2).unflatten(1, (MODES, 4))
    step = release.entropy.step[rate][:, None, None] / 2**12
    # What a symbol's squared error costs in bits; see the training loss.
    price = 2.0 * lambda_of(rate) / 3.0 * step**2
    passes = [(to_int16(z_symbols), hyper_indices(release, rate, tuple(z.shape[2:])))]

    chosen = torch.zeros_like(cost_cells[:, 0], dtype=torch.int64)
    cells = cost_cells

    def choose_mode(half: int, index: Tensor) -> Tensor:
        """Each block's mode of least cost, its own bits included."""
        nonlocal cells
        sites = list(SITE_ORDER[2 * half : 2 * half + 2])
        bits = mode_bits((index - TABLES).clamp_min(0).transpose(1, 2))
        modes = (bits + cost_cells[:, :, sites]).argmin(1)
        chosen[:, sites] = modes
        if half == 1:
            y = release.blocks(coefficients, shuffle(chosen, 2)[:, 0]) * live[:, None, None]
            cells = unshuffle(y.double(), 2)

        def give(bit: int, table: Tensor) -> Tensor:
            flags: Tensor = modes >> (MODE_DEPTH - 1 - bit) & 1
            passes.append((to_int16(flags), to_uint8(table)))
            return flags

        return walk_modes(index, give)

    def choose(part: int, index: Tensor, mean: Tensor) -> Tensor:
        """Round, lowering a symbol where that saves more bits than its distortion is worth."""
        places = release.entropy.places(part)
        mine = places // 4
        position = cells[:, places] / step[mine] - mean / 16
        lift = (step_to_zero_bits(index.clamp_min(0.5)) / price[mine]).clamp(0, DEADZONE_MAX)
        size = position.abs()
        level = torch.floor(size + 0.5 - lift) * (size >= 0.5) * (index > 0)
        symbols: Tensor = (torch.sign(position) * level).clamp(-SYMBOL_MAX, SYMBOL_MAX)
        passes.append((to_int16(symbols), to_uint8(index)))
        return symbols

    release.entropy.code(z_symbols, rate, live, inside, choose_mode, choose)
    return passes


def decode_symbols(
    release: Release, payload: bytes, rate: int, size: tuple[int, int], gray: bool
) -> tuple[Tensor, Tensor]:
    """The quantised latent [1,C,h,w] at 1/16 on the 255 scale, and the modes [1,h,w]."""
    unpacker = Unpacker(payload, release.tables)
    cells = (math.ceil(size[0] / UNIT), math.ceil(size[1] / UNIT))
    z = unpacker.next(hyper_indices(release, rate, cells))
    z_symbols = torch.from_numpy(z).to(release.device).reshape(1, -1, *cells)

    def take(index: Tensor) -> Tensor:
        symbols = unpacker.next(to_uint8(index))
        return torch.from_numpy(symbols).to(release.device).reshape(index.shape)

    live, inside = live_channels(release, gray), sites_inside(release, *size)
    latent, modes = release.entropy.code(
        z_symbols,
        rate,
        live,
        inside,
        lambda half, index: walk_modes(index, lambda bit, table: take(table)),
        lambda part, index, mean: take(index),
    )
    unpacker.finish()
    return latent, modes


def reconstruct(
    release: Release,
    latent: Tensor,
    modes: Tensor,
    rate: int,
    size: tuple[int, int],
    gray: bool,
) -> Planes:
    """Quantised latent [1,C,h,w] and modes [1,h,w] -> planes [C,H,W] in 0..1."""
    rates = torch.tensor([rate], device=release.device)
    rotated = release.synthesis(release.blocks.inverse(latent, modes), modes, rates)
    luma_only = rotated[0, :1] / (math.sqrt(3.0) * 255.0) + 0.5
    planes = luma_only if gray else restore_colour(rotated)[0]
    cut = planes[:, : size[0], : size[1]].clamp(0, 1)
    return cut.cpu().numpy()


def pad_to_unit(planes: Tensor) -> Tensor:
    """[C,H,W] -> both sides multiples of 64, by repeating the last row and column."""
    _, height, width = planes.shape
    pad = (0, -width % UNIT, 0, -height % UNIT)
    return F.pad(planes[None], pad, mode="replicate")[0]


def to_int16(symbols: Tensor) -> npt.NDArray[np.int16]:
    """Flat, in the order of the coder."""
    return symbols.to(torch.int16).cpu().numpy().ravel()


def to_uint8(indices: Tensor) -> npt.NDArray[np.uint8]:
    """Flat, in the order of the coder."""
    return indices.to(torch.uint8).cpu().numpy().ravel()
