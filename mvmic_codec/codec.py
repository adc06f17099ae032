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
from .nets.entropy import step_to_zero_bits
from .nets.identity import model_identity
from .nets.release import Release, load
from .nets.transforms import BLOCK, restore_colour, rotate_colour
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
        latent = decode_symbols(release, payload, header.rate_index, size, gray)
        return reconstruct(release, latent, header.rate_index, size, gray)


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
    live = torch.ones(release.shape.latent, dtype=torch.bool, device=release.device)
    if gray:
        live[release.shape.luma :] = False
    return live


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
    y = release.analysis(rotated, rates) * live[:, None, None]
    z = release.hyper_analysis(y, release.analysis.spread, rates)
    z_step = release.entropy.hyper_step[rate][:, None, None] / 2**12
    z_symbols = torch.round(z.double() / z_step).clamp(-SYMBOL_MAX, SYMBOL_MAX)
    cells = F.pixel_unshuffle(y.double(), 2)
    step = release.entropy.step[rate][:, None, None] / 2**12
    # What a symbol's squared error costs in bits; see the training loss.
    price = 2.0 * lambda_of(rate) / 3.0 * step**2
    passes = [(to_int16(z_symbols), hyper_indices(release, rate, tuple(z.shape[2:])))]

    def choose(p: int, index: Tensor, mean: Tensor) -> Tensor:
        """Round, lowering a symbol where that saves more bits than its distortion is worth."""
        position = cells[:, release.entropy.sites[p]] / step - mean / 16
        lift = (step_to_zero_bits(index.clamp_min(0.5)) / price).clamp(0, DEADZONE_MAX)
        size = position.abs()
        level = torch.floor(size + 0.5 - lift) * (size >= 0.5) * (index > 0)
        symbols = (torch.sign(position) * level).clamp(-SYMBOL_MAX, SYMBOL_MAX)
        passes.append((to_int16(symbols), index.to(torch.uint8).cpu().numpy().ravel()))
        return symbols

    inside = sites_inside(release, height, width)
    release.entropy.code(z_symbols, rate, live, inside, choose)
    return passes


def decode_symbols(
    release: Release, payload: bytes, rate: int, size: tuple[int, int], gray: bool
) -> Tensor:
    """The quantised latent [1,C,h,w] at 1/16 on the 255 scale."""
    unpacker = Unpacker(payload, release.tables)
    cells = (math.ceil(size[0] / UNIT), math.ceil(size[1] / UNIT))
    z = unpacker.next(hyper_indices(release, rate, cells))
    z_symbols = torch.from_numpy(z).to(release.device).reshape(1, -1, *cells)

    def take(p: int, index: Tensor, mean: Tensor) -> Tensor:
        symbols = unpacker.next(index.to(torch.uint8).cpu().numpy().ravel())
        return torch.from_numpy(symbols).to(release.device).reshape(index.shape)

    live, inside = live_channels(release, gray), sites_inside(release, *size)
    latent = release.entropy.code(z_symbols, rate, live, inside, take)
    unpacker.finish()
    return latent


def reconstruct(
    release: Release, latent: Tensor, rate: int, size: tuple[int, int], gray: bool
) -> Planes:
    """Quantised latent -> planes [C,H,W] in 0..1."""
    rotated = release.synthesis(latent, torch.tensor([rate], device=release.device))
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
