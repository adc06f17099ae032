"""The tiles of a file -> samples and feature maps by torch, such as on CUDA.

The integers are those of C. All that a window needs is computed at once.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.grid import BLOCK, Box, block_size
from mvmic_codec.bitstream.header import Header
from mvmic_codec.decoder.decode import check_kind, levels_of
from mvmic_codec.decoder.reconstruct import EmitMapPart, EmitPart, blocks_needed
from mvmic_codec.decoder.stripes import PLANES, reach_of
from mvmic_codec.decoder.tiles import EmitOverlays, TileOf, decode_tile, tiling_of
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
        self.reach = reach_of(decoding.synthesis)
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


def decode_blocks(
    model: DeviceModel, header: Header, tile_of: TileOf, blocks: Box, emit_overlays: EmitOverlays
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latent [1,h,w,C] and the modes [1,h,w] of some of the blocks, from all their tiles."""
    tiling = tiling_of(header)
    rows, columns = tiling.covering(Box(*(BLOCK * each for each in blocks)))
    latents, modes = [], []
    for row in rows:
        tiles = []
        for column in columns:
            one = decode_tile(model, header, tile_of(row, column), row, column)
            emit_overlays(tiling.box(row, column), one.overlays)
            inside = (slice(None), *one.blocks.overlap(blocks).within(one.blocks))
            tiles.append((one.latent[inside], one.modes[inside]))
        latents.append(torch.cat([latent for latent, _ in tiles], 2))
        modes.append(torch.cat([mode for _, mode in tiles], 2))
    return torch.cat(latents, 1), torch.cat(modes, 1)


def decode_parts(
    header: Header,
    tile_of: TileOf,
    emit: EmitPart,
    device: str,
    *,
    window: Box,
    emit_overlays: EmitOverlays,
    emit_map: EmitMapPart | None,
    until: str,
) -> None:
    """As `parts.decode_parts`. Parts of feature maps are tensors on the device."""
    model = model_on(header.fingerprint, pick_device(device))
    check_kind(model.shape, header)
    rate, net = header.rate_index, model.synthesis
    blocks = blocks_needed(window, block_size(tiling_of(header).size), model.reach)
    pixels = Box(*(BLOCK * each for each in blocks))

    def done(name: str, x: torch.Tensor) -> bool:
        if emit_map is not None:
            emit_map(name, 0, 0, x[0].permute(1, 2, 0).float())
        return name == until

    with full_precision(model.device):
        latent, modes = decode_blocks(model, header, tile_of, blocks, emit_overlays)
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
        planes = net.retouch(net.leave8(stream, linear), rate)
        planes = planes[(..., *window.within(pixels))]
        levels = levels_of(header)
        samples = samples_of(planes, levels.lo, levels.hi).permute(1, 2, 0)
    assert until == PLANES
    emit(0, 0, samples.cpu().numpy().astype(levels.type))
