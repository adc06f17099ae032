"""A released model: one safetensors file with float transforms and the integer entropy model.

The fingerprint is the first 8 bytes of SHA-256 over the model's shape and every array: its name,
type, sizes and bytes. Two files with equal fingerprints hold the same model, whatever their names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mvmic_codec.bitstream import ans
from mvmic_codec.errors import ModelError
from mvmic_codec.model.analysis import Analysis, HyperAnalysis
from mvmic_codec.model.identity import Identity, find_identity
from mvmic_codec.model.integer import (
    IntegerEntropy,
    check_arrays,
)
from mvmic_codec.model.intnet import fast_paths
from mvmic_codec.model.model import Shape, make_transforms
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.synthesis import Synthesis
from mvmic_codec.model.tables import magnitude_bits, whole_step_bits
from mvmic_codec.model.transforms import BlockTransform

ENTROPY = "entropy."
TRANSFORMS = ("analysis.", "blocks.", "synthesis.", "hyper_analysis.")
# The lowest rate index at which transforms may run in bfloat16 (formats/model.md, section 9).
BFLOAT16_FROM = 18


def fingerprint(arrays: dict[str, Tensor], shape: dict[str, int | bool]) -> bytes:
    """The 8 bytes by which files name the model with these arrays and this shape."""
    digest = hashlib.sha256()
    for field in sorted(shape):
        digest.update(f"{field} {int(shape[field])}\n".encode())
    for name in sorted(arrays):
        array = arrays[name].contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()[:8]


@dataclass
class LoadedModel:
    """A released model, ready to code: networks in float32 and the exact entropy model."""

    identity: Identity
    shape: Shape
    analysis: Analysis
    blocks: BlockTransform
    hyper_analysis: HyperAnalysis
    synthesis: Synthesis
    entropy: IntegerEntropy | NativeEntropy
    tables: ans.Tables
    bits: Tensor  # [T,M] of a coded number, by table and magnitude; see tables.magnitude_bits
    rough_bits: Tensor  # [TABLES,M] of a whole step; see symbol_bits
    device: torch.device
    bfloat16: bool  # whether convolutions in bfloat16 are faster than in single precision

    def bfloat16_autocast(self) -> torch.autocast:
        """A context for analysis or synthesis: in bfloat16 as in training, if that is faster."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def symbol_bits(self, table: Tensor, magnitude: Tensor) -> Tensor:
        """About how many bits a coefficient of y costs that is so many whole steps large.

        table and magnitude are int64 of one shape. Table 0 codes nothing and costs 0. The real cost
        depends on the symbols before it.
        """
        out: Tensor = self.rough_bits[table, magnitude.clamp(max=self.rough_bits.shape[1] - 1)]
        return out


@lru_cache(maxsize=4)
def load(model_fingerprint: bytes, device_name: str) -> LoadedModel:
    """The model with this 8-byte fingerprint. Raises ModelError if it is unknown or damaged."""
    return read(*find_identity(model_fingerprint), torch.device(device_name))


# Weights outlive this call. The first caller's inference mode must not stick to them.
@torch.inference_mode(False)
def read(identity: Identity, path: Path, device: torch.device) -> LoadedModel:
    """The model with this card, from NAME.safetensors. Raises ModelError if it is damaged."""
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the weights in {path.name} cannot be read: {error}") from error
    if fingerprint(arrays, identity.shape).hex() != identity.fingerprint:
        raise ModelError(f"the weights in {path.name} are damaged: install mvmic_codec again")
    integers = {k[len(ENTROPY) :]: v for k, v in arrays.items() if k.startswith(ENTROPY)}
    try:
        shape = shape_of(identity)
        # Fresh networks draw random weights. That must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            analysis, blocks, synthesis, hyper_analysis = make_transforms(shape)
        nets = (analysis, blocks, synthesis, hyper_analysis)
        for name, array in arrays.items():
            if name.startswith(TRANSFORMS) and array.dtype != torch.float16:
                raise ModelError(f"the model's array {name} is {array.dtype}, not torch.float16")
        for prefix, net in zip(TRANSFORMS, nets, strict=True):
            part = {k[len(prefix) :]: v.float() for k, v in arrays.items() if k.startswith(prefix)}
            net.load_state_dict(part)
        check_arrays(integers, shape.latent, shape.hyper, shape.context, shape.near)
        half, cdf = integers["table_half"].numpy(), integers["table_cdf"].numpy()
        tables = ans.Tables(half, cdf)
        entropy = make_entropy(integers, shape.rotate, device)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"the weights in {path.name} are not those of a model: {error}") from error
    bits = magnitude_bits(half, cdf)
    for net in nets:
        net.to(device).eval().requires_grad_(False)
    return LoadedModel(
        identity=identity,
        shape=shape,
        analysis=analysis,
        blocks=blocks,
        hyper_analysis=hyper_analysis,
        synthesis=synthesis,
        entropy=entropy,
        tables=tables,
        bits=torch.from_numpy(bits).to(device),
        rough_bits=torch.from_numpy(whole_step_bits(bits)).to(device),
        device=device,
        bfloat16=device.type == "cpu" and multiplies_bfloat16(),
    )


def shape_of(identity: Identity) -> Shape:
    """The shape in a card. Raises TypeError or ValueError for fields that are wrong or missing."""
    missing = {field.name for field in fields(Shape)} - identity.shape.keys()
    if missing:
        raise ValueError(f"its shape lacks {', '.join(sorted(missing))}")
    return Shape(**identity.shape)  # type: ignore[arg-type]


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, and torch knows and uses it."""
    # Older versions of torch do not say.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    has = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return has and torch.backends.mkldnn.is_available()


def make_entropy(
    arrays: dict[str, Tensor], rotate: bool, device: torch.device
) -> IntegerEntropy | NativeEntropy:
    """The fastest exact evaluation: in C where the processor and the weights allow it."""
    if device.type == "cpu" and fast_paths():
        try:
            return NativeEntropy(arrays, rotate, fast_paths()[-1])
        except OverflowError:
            pass  # Sums need more than 32 bits; float64 holds them.
    return IntegerEntropy(arrays, rotate, device)
