"""Planes and a rate index <-> the payload of a file: where networks, integers and coder meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import ans
from .container import RGB, Header
from .encoder import Encoder
from .errors import FormatError, InputError
from .grid import hyper_size, sites_coded, to_uint8
from .nets.entropy import SECOND
from .nets.identity import model_identity
from .nets.integer import walk_modes
from .nets.release import BFLOAT16_FROM, Release, load
from .nets.transforms import BLOCK, StripedSynthesis, restore_colour
from .refine import ROUNDS, Refiner, refine
from .symbols import Pass, Unpacker, pack

Planes = npt.NDArray[np.float32]
Hidden = npt.NDArray[np.bool_]
# Called with a part [C,h,w] of an image's planes, after the row and the column where it begins.
TakePart = Callable[[int, int, Planes], object]

# A CPU reconstructs so many blocks of 16x16 samples at once, one megapixel: what lies between the
# layers is many times the planes, and so takes little memory and less time.
STRIPE = 4096
# And columns of blocks, of wider images.
BAND = 256


def encode_planes(
    planes: Planes,
    rate_index: int,
    *,
    hidden: Hidden | None = None,
    effort: int = 1,
    on_round: Callable[[], object] | None = None,
    device: str | None = None,
) -> bytes:
    """Code planes [C,H,W] (C 1 or 3, values 0..1) with the model for that number of channels.

    hidden [H,W] says which pixels will be painted over: what they come back as does not matter, and
    `decode_planes` must be told the same. effort is one of `refine.ROUNDS`; on_round is called
    after each of its rounds.
    """
    attempt = Attempt(planes, rate_index, hidden=hidden, device=device)
    return attempt.encode(effort=effort, on_round=on_round)


class Attempt:
    """Planes as for `encode_planes` at a rate index: what they might cost, and their code."""

    def __init__(
        self,
        planes: Planes,
        rate_index: int,
        *,
        hidden: Hidden | None = None,
        device: str | None = None,
        like: Attempt | None = None,
    ) -> None:
        self.release = encoding_release(planes, device)
        with full_precision(self.release):
            known = None if like is None else like.encoder
            self.encoder = Encoder(self.release, planes, rate_index, hidden, known)

    def rough_cost(self) -> float:
        """Bits by the rule of thumb, and squared error on the scale of 255 at its price in bits.

        The rule is the one that block transforms are compared by, with a little for each block:
        good enough to compare two versions of an image, and much faster than coding them.
        """
        with full_precision(self.release):
            return self.encoder.rough_cost()

    def encode(self, *, effort: int = 1, on_round: Callable[[], object] | None = None) -> bytes:
        """The code, as `encode_planes`."""
        with full_precision(self.release):
            return pack(code_symbols(self.encoder, effort, on_round), self.release.tables)


def encoding_release(planes: Planes, device: str | None) -> Release:
    """The model that codes planes [C,H,W]: gray images have one of their own."""
    _, fingerprint = model_identity(gray=len(planes) == 1)
    return load(fingerprint, pick_device(device))


def code_symbols(
    encoder: Encoder, effort: int = 1, on_round: Callable[[], object] | None = None
) -> list[Pass]:
    """The passes (symbols, table indices) of `encode_planes`, in decoding order, z first."""
    run = encoder.second_run()
    if ROUNDS[effort]:
        run = refine(Refiner(encoder), run, ROUNDS[effort], on_round)
    return run.passes


def estimate_bits(
    planes: Planes, rate_index: int, *, effort: int = 1, device: str | None = None
) -> float:
    """Ideal size in bits of what `encode_planes` codes, by the model's tables."""
    release = encoding_release(planes, device)
    with full_precision(release):
        passes = code_symbols(Encoder(release, planes, rate_index), effort)
    return sum(ans.estimate_bits(*each.coded(), release.tables) for each in passes)


def decode_planes(
    payload: bytes, header: Header, *, hidden: Hidden | None = None, device: str | None = None
) -> Planes:
    """Planes [C,H,W] in 0..1 of a payload that the header's model coded.

    C is 3 if the header's photometric is RGB, else 1. hidden [H,W] as when they were coded.

    Raises ModelError for a model that is not installed, FormatError or its kin for a payload that
    is damaged or for a model that takes images of the other kind only.
    """
    planes = np.empty((planes_of(header), header.height, header.width), np.float32)
    decode_parts(payload, header, partial(put, planes), hidden=hidden, device=device)
    return planes


def decode_parts(
    payload: bytes,
    header: Header,
    take: TakePart,
    *,
    hidden: Hidden | None = None,
    device: str | None = None,
) -> None:
    """Give `take` what `decode_planes` returns, part by part: all of it may be too much memory."""
    release = decoding_release(header, device)
    size = (header.height, header.width)
    with full_precision(release):
        latent, modes = decode_symbols(release, payload, header.rate_index, size, hidden)
        # Gray samples, and coarse ones in colour, would show what bfloat16 rounds, by up to three
        # levels: other processors' would differ visibly.
        exact = header.photometric != RGB or header.rate_index < BFLOAT16_FROM
        reconstruct_parts(release, latent, modes, header.rate_index, size, take, exact=exact)


def put(whole: npt.NDArray[Any], top: int, left: int, part: npt.NDArray[Any]) -> None:
    """Put a part [C,h,w] in its place in the whole [C,H,W]."""
    _, height, width = part.shape
    whole[:, top : top + height, left : left + width] = part


def check_start(payload: bytes, header: Header, *, device: str | None = None) -> None:
    """Raise FormatError or its kin for a payload too short for the first symbols of such an image.

    These are half of the hyper-latent.

    It costs next to nothing and is to be asked before anything that takes as long as an image of
    the header's size takes, since a few bytes can claim any size.
    """
    release = decoding_release(header, device)
    size = hyper_size((header.height, header.width))
    first = release.entropy.white_hyper(header.rate_index, *size)
    Unpacker(payload, release.tables).next(to_uint8(first))


def decoding_release(header: Header, device: str | None) -> Release:
    """The model that the header names. Errors as `decode_planes`."""
    release = load(header.fingerprint, pick_device(device))
    planes = planes_of(header)
    if release.shape.planes != planes:
        kinds = {1: "gray", 3: "colour"}
        raise FormatError(
            f"the file is damaged: its image is {kinds[planes]}, but the model that it names is "
            f"for {kinds[release.shape.planes]} images"
        )
    return release


def planes_of(header: Header) -> int:
    """Planes that are coded of the image: those of gray in RGB are one."""
    return 3 if header.photometric == RGB else 1


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


@contextmanager
def full_precision(release: Release) -> Iterator[None]:
    """Networks in single precision, whatever the caller's autocast or TF32 says.

    `Release.branches` makes exceptions.

    Tensors made here can take part in gradients, in the caller's inference mode too.

    Raises MemoryError where torch has a RuntimeError of its own for that.
    """
    try:
        with (
            # Inside out: to leave inference mode turns gradients on.
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(release.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            yield
    except RuntimeError as error:
        if "out of memory" in str(error) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise


def decode_symbols(
    release: Release,
    payload: bytes,
    rate: int,
    size: tuple[int, int],
    hidden: Hidden | None = None,
) -> tuple[Tensor, Tensor]:
    """The quantised latent [1,C,h,w] at 1/16 on the 255 scale, and the modes [1,h,w]."""
    unpacker = Unpacker(payload, release.tables)

    def take(index: Tensor, second: int = 0) -> Tensor:
        symbols = unpacker.next(to_uint8(index), second)
        return torch.from_numpy(symbols).to(release.device).reshape(index.shape)

    z = release.entropy.code_hyper(rate, *hyper_size(size), lambda index, mean: take(index))
    latent, modes = release.entropy.code(
        z,
        rate,
        sites_coded(release, size, hidden),
        lambda half, index: walk_modes(index, lambda bit, table: take(table)),
        lambda part, index, mean, predicted, scores: take(index, SECOND),
    )
    unpacker.finish()
    return latent, modes


def reconstruct(
    release: Release,
    latent: Tensor,
    modes: Tensor,
    rate: int,
    size: tuple[int, int],
    *,
    exact: bool,
) -> Planes:
    """Quantised latent [1,C,h,w] and modes [1,h,w] -> planes [C,H,W] in 0..1.

    Unless `exact`, convolutions may run in bfloat16: see formats/model.md, section 9.
    """
    planes = np.empty((release.shape.planes, *size), np.float32)
    reconstruct_parts(release, latent, modes, rate, size, partial(put, planes), exact=exact)
    return planes


def reconstruct_parts(
    release: Release,
    latent: Tensor,
    modes: Tensor,
    rate: int,
    size: tuple[int, int],
    take: TakePart,
    *,
    exact: bool,
) -> None:
    """Give `take` what `reconstruct` returns, part by part.

    Parts are stripes of rows, from top to bottom; a wide image is cut into bands of columns first,
    which overlap by all that their samples depend on.
    """
    rates = torch.tensor([rate], device=release.device)
    rows, columns = modes.shape[1:]
    whole = release.device.type != "cpu" or rows * columns <= STRIPE
    width = columns if whole else BAND
    for left in range(0, columns, width):
        synthesis = StripedSynthesis(release.synthesis, rates)
        start, end = max(0, left - synthesis.reach), min(columns, left + width + synthesis.reach)
        height = rows if whole else max(STRIPE // (end - start), 2 * synthesis.reach)
        inner = slice(BLOCK * (left - start), BLOCK * (left - start + width))
        top = 0
        for first in range(0, rows, height):
            stripe = slice(first, first + height)
            restored = restore(
                release,
                synthesis,
                latent[:, :, stripe, start:end],
                modes[:, stripe, start:end],
                last=first + height >= rows,
                exact=exact,
            )
            seen = restored[..., inner][0, :, : size[0] - top, : size[1] - BLOCK * left]
            take(top, BLOCK * left, seen.clamp(0, 1).cpu().numpy())
            top += restored.shape[2]


def restore(
    release: Release,
    synthesis: StripedSynthesis,
    latent: Tensor,
    modes: Tensor,
    *,
    last: bool,
    exact: bool,
) -> Tensor:
    """The next rows of a latent and of modes -> the next rows of planes [1,P,H,W], not clamped."""
    coefficients = release.blocks.inverse(latent, modes)
    with nullcontext() if exact else release.branches():
        rotated = synthesis(coefficients, modes, last=last)
    return restore_colour(rotated)
