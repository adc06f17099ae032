"""The payload of a DATA chunk -> samples and feature maps by torch, such as on CUDA.

The integers are those of C. The whole image is computed at once.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.container import Header
from mvmic_codec.decoder.decode import Hidden, check_kind, decode_symbols, levels_of
from mvmic_codec.decoder.reconstruct import EmitMapPart, EmitPart
from mvmic_codec.decoder.stripes import PLANES
from mvmic_codec.model.arrays import entropy_arrays, read_arrays, synthesis_arrays
from mvmic_codec.model.decoding import load
from mvmic_codec.model.device import full_precision, pick_device
from mvmic_codec.model.identity import find_identity
from mvmic_codec.model.integer import IntegerEntropy
from mvmic_codec.model.integer_synthesis import IntegerSynthesis, samples_of


class DeviceModel:
    """The integer networks of a released model in torch, on a device."""

    def __init__(self, fingerprint: bytes, device: torch.device) -> None:
        # What is wrong with a model is found there.
        decoding = load(fingerprint)
        identity, path = find_identity(fingerprint)
        arrays = read_arrays(identity, path)
        self.shape, self.device = decoding.shape, device
        self.tables: ans.Tables = decoding.tables
        self.entropy = IntegerEntropy(entropy_arrays(arrays), self.shape.rotate, device)
        synthesis = {k: torch.from_numpy(v) for k, v in synthesis_arrays(arrays).items()}
        self.synthesis = IntegerSynthesis(synthesis, device)
        luma = torch.from_numpy(self.shape.is_luma())
        # The channels of luma, then those of chroma.
        self.order = torch.cat([torch.nonzero(each)[:, 0] for each in (luma, ~luma)]).to(device)


@lru_cache(maxsize=4)
def model_on(fingerprint: bytes, device: str) -> DeviceModel:
    """The model with this 8-byte fingerprint on a device. Errors as `decoding.load`."""
    return DeviceModel(fingerprint, torch.device(device))


def decode_parts(
    payload: bytes,
    header: Header,
    emit: EmitPart,
    device: str,
    *,
    hidden: Hidden | None,
    emit_map: EmitMapPart | None,
    until: str,
) -> None:
    """As `decode.decode_parts`. Parts of feature maps are tensors on the device."""
    model = model_on(header.fingerprint, pick_device(device))
    check_kind(model.shape, header)
    size, rate, net = (header.height, header.width), header.rate_index, model.synthesis

    def done(name: str, x: torch.Tensor) -> bool:
        if emit_map is not None:
            emit_map(name, 0, 0, x[0].permute(1, 2, 0).float())
        return name == until

    with full_precision(model.device):
        latent, modes = decode_symbols(model, payload, rate, size, hidden)
        modes = modes.long()
        x = net.coefficients(latent[..., model.order], modes)
        if done("coefficients", x):
            return
        linear, stream = net.linear_planes(x), net.enter16(x, modes, rate)
        for block in net.body16:
            stream = block(stream)
        if done("s16", stream):
            return
        stream = net.enter8(stream, linear, rate)
        for block in net.body8:
            stream = block(stream)
        if done("s8", stream):
            return
        planes = net.retouch(net.leave8(stream, linear), rate)[..., : size[0], : size[1]]
        levels = levels_of(header)
        samples = samples_of(planes, levels.lo, levels.hi).permute(1, 2, 0)
    assert until == PLANES
    emit(0, 0, samples.cpu().numpy().astype(levels.type))
