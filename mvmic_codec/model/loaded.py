"""A released model for encoders, with gradients and on any device: networks in torch.

`decoding.DecodingModel` is the part of it that decoding symbols needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from mvmic_codec.bitstream import ans
from mvmic_codec.model import encoder_file
from mvmic_codec.model.analysis import Analysis, HyperAnalysis
from mvmic_codec.model.arrays import (
    Arrays,
    entropy_arrays,
    read_arrays,
    refusing_other_arrays,
    synthesis_arrays,
    without_prefix,
)
from mvmic_codec.model.decoding import DecodingModel, made_of
from mvmic_codec.model.identity import Identity, find_identity
from mvmic_codec.model.integer import IntegerEntropy
from mvmic_codec.model.integerise_synthesis import restore_synthesis
from mvmic_codec.model.model import make_transforms
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.native_analysis import NativeAnalysis
from mvmic_codec.model.native_tensors import NativeTensors
from mvmic_codec.model.shape import Shape
from mvmic_codec.model.synthesis import Synthesis
from mvmic_codec.model.synthnet import usable_paths
from mvmic_codec.model.tables import magnitude_bits, whole_step_bits
from mvmic_codec.model.transforms import BlockTransform


@dataclass
class LoadedModel:
    """A released model, ready to encode: float networks and the exact entropy model.

    decoding   the part of it that decoding needs, with synthesis in integers
    synthesis  in floating point, for gradients
    """

    decoding: DecodingModel
    analysis: Analysis
    blocks: BlockTransform
    hyper_analysis: HyperAnalysis
    synthesis: Synthesis
    entropy: IntegerEntropy | NativeTensors
    bits: Tensor  # [T,M] of a coded number, by table and magnitude; see tables.magnitude_bits
    rough_bits: Tensor  # [TABLES,M] of a whole step; see symbol_bits
    device: torch.device

    @property
    def identity(self) -> Identity:
        """The model's card."""
        return self.decoding.identity

    @property
    def shape(self) -> Shape:
        """The sizes of the model."""
        return self.decoding.shape

    @property
    def tables(self) -> ans.Tables:
        """The frequency tables."""
        return self.decoding.tables

    @cached_property
    def analysis_branch(self) -> Callable[[Tensor, int], Tensor]:
        """What analysis adds to its linear path: [1,256P,h,w] of rotated planes at a rate index."""
        if self.device.type == "cpu":
            return NativeAnalysis(self.analysis, usable_paths()[-1])
        return lambda rotated, rate: self.analysis.branch(
            rotated, torch.tensor([rate], device=rotated.device)
        )

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
    """The model with this card, from NAME.safetensors and the encoder's file beside it.

    Raises ModelError if one is damaged.
    """
    arrays = read_arrays(identity, path)
    with refusing_other_arrays(path):
        decoding = made_of(identity, arrays)
    of_encoder = encoder_file.read(path, identity.fingerprint)
    with refusing_other_arrays(encoder_file.path_of(path)):
        # Fresh networks draw random weights. That must not move the caller's random state.
        with torch.random.fork_rng(devices=[]):
            analysis, blocks, synthesis, hyper_analysis = make_transforms(decoding.shape)
        for prefix, net in zip(encoder_file.NETWORKS, (analysis, hyper_analysis), strict=True):
            part = without_prefix(of_encoder, prefix)
            net.load_state_dict({name: array.float() for name, array in part.items()})
        restore_synthesis(
            synthesis,
            blocks,
            {k: torch.from_numpy(v) for k, v in synthesis_arrays(arrays).items()},
            without_prefix(of_encoder, encoder_file.UNITS),
        )
    integers = entropy_arrays(arrays)
    bits = magnitude_bits(integers["table_half"], integers["table_cdf"])
    for net in (analysis, blocks, synthesis, hyper_analysis):
        net.to(device).eval().requires_grad_(False)
    return LoadedModel(
        decoding=decoding,
        analysis=analysis,
        blocks=blocks,
        hyper_analysis=hyper_analysis,
        synthesis=synthesis,
        entropy=make_entropy(decoding.entropy, integers, device),
        bits=torch.from_numpy(bits).to(device),
        rough_bits=torch.from_numpy(whole_step_bits(bits)).to(device),
        device=device,
    )


def make_entropy(
    native: NativeEntropy, arrays: Arrays, device: torch.device
) -> IntegerEntropy | NativeTensors:
    """The entropy model on a device: in C on the CPU, in float64 elsewhere."""
    if device.type == "cpu":
        return NativeTensors(native)
    return IntegerEntropy(arrays, native.rotate, device)
