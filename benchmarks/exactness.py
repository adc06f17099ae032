"""Whether every way to decode gives the same symbols and the same samples of real files.

    PYTHONPATH=formats/reference python benchmarks/exactness.py TEST_FOLDER...

Each image is encoded at a rate index of its own, 0 to 63 in turn, and decoded by every path of C
that this processor has, by three threads in thin stripes and narrow bands, by doubles through
torch on the CPU, on CUDA if it is there, and by the reference decoder: numpy's int64 and
constriction, a minute a megapixel and therefore only on images under 600,000 pixels. Prints on how
many images each way gave what the first one gave; the exit code is 1 if one did not.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import decode as reference
import numpy as np
import torch
from tqdm import tqdm

from mvmic_codec import api
from mvmic_codec.bitstream import ans, container, grid
from mvmic_codec.bitstream.header import RGB, Header
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder import decode, image, on_device, reconstruct, tiles
from mvmic_codec.decoder.stripes import PLANES
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.model import intnet, synthnet
from mvmic_codec.model.arrays import entropy_arrays, read_arrays, synthesis_arrays
from mvmic_codec.model.decoding import DecodingModel
from mvmic_codec.model.decoding import load as load_model
from mvmic_codec.model.identity import find_identity, model_identity
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.model.native_synthesis import NativeSynthesis
from mvmic_codec.rate import RATES

REFERENCE_PIXELS = 600_000

# The bytes of a file -> hashes of its symbols and of its samples; None if it is too large.
Hashes = Callable[[bytes], tuple[bytes, bytes] | None]


class Recorder(Unpacker):
    """An unpacker that keeps a hash of all that was taken out of it."""

    digest = hashlib.sha256()

    def __init__(self, payload: bytes, tables: ans.Tables) -> None:
        super().__init__(payload, tables)
        # Anew for each file. The start may have been looked at before.
        Recorder.digest = hashlib.sha256()

    def next(self, indices: np.ndarray, second: int = 0) -> np.ndarray:
        symbols = super().next(indices, second)
        self.digest.update(symbols.astype("<i2").tobytes())
        return symbols


def of_samples(samples: np.ndarray) -> bytes:
    return hashlib.sha256(samples.astype("<i4").tobytes()).digest()


def by_package(
    model: DecodingModel, threads: int = 1, stripe: int = 2048, band: int = 512
) -> Hashes:
    """By C. stripe and band are in blocks."""

    def run(data: bytes) -> tuple[bytes, bytes]:
        whole = container.Reader(data)
        with (
            mock.patch.object(decode, "load", return_value=model),
            mock.patch.object(reconstruct, "STRIPE_BLOCKS", stripe),
            mock.patch.object(reconstruct, "BAND_BLOCKS", band),
            mock.patch.dict(os.environ, {"OMP_NUM_THREADS": str(threads)}),
        ):
            samples = image.decode_samples(
                whole.header, tiles.only_tile(whole.tile()), device="cpu"
            )
        return Recorder.digest.digest(), of_samples(samples)

    return run


def by_torch(device: str) -> Hashes:
    def on_this_device(
        header: Header,
        tile_of: tiles.TileOf,
        emit: reconstruct.EmitPart,
        *,
        window: grid.Box,
        emit_overlays: tiles.EmitOverlays,
        **_: object,
    ) -> None:
        on_device.decode_parts(
            header,
            tile_of,
            emit,
            device,
            window=window,
            emit_overlays=emit_overlays,
            emit_map=None,
            until=PLANES,
        )

    def run(data: bytes) -> tuple[bytes, bytes]:
        whole = container.Reader(data)
        with mock.patch.object(image, "decode_parts", on_this_device):
            samples = image.decode_samples(
                whole.header, tiles.only_tile(whole.tile()), device=device
            )
        return Recorder.digest.digest(), of_samples(samples)

    return run


def by_reference(model: reference.Model) -> Hashes:
    def run(data: bytes) -> tuple[bytes, bytes] | None:
        header = api.read_header(data)
        if header.width * header.height > REFERENCE_PIXELS:
            return None
        decoded = reference.decode(data, {header.fingerprint: model})
        digest = hashlib.sha256()
        for symbols in decoded.passes:
            digest.update(symbols.astype("<i2").tobytes())
        return digest.digest(), of_samples(decoded.samples)

    return run


def ways(gray: bool) -> dict[str, Hashes]:
    """Every way to decode by the model of gray or colour images."""
    _, fingerprint = model_identity(gray)
    identity, weights = find_identity(fingerprint)
    arrays, released = read_arrays(identity, weights), load_model(fingerprint)
    entropy, synthesis, shape = entropy_arrays(arrays), synthesis_arrays(arrays), released.shape
    out = {}
    for path in dict.fromkeys((*intnet.usable_paths(), *synthnet.usable_paths())):
        # Not every path is there for both.
        for_entropy, for_synthesis = (
            path if path in usable else usable[-1]
            for usable in (intnet.usable_paths(), synthnet.usable_paths())
        )
        model = DecodingModel(
            identity,
            shape,
            released.tables,
            NativeEntropy(entropy, shape.rotate, for_entropy),
            NativeSynthesis(synthesis, shape.near_luma, shape.near_chroma, for_synthesis),
        )
        out[f"C, {path}"] = by_package(model)
    out["C, three threads, stripes and bands"] = by_package(released, 3, 64, 16)
    out["torch, doubles"] = by_torch("cpu")
    if torch.cuda.is_available():
        out["torch, CUDA"] = by_torch("cuda")
    out["reference: numpy int64, constriction"] = by_reference(reference.load_model(weights))
    return out


def main(folders: list[Path]) -> int:
    decode.Unpacker = Recorder  # type: ignore[misc]
    files = [path for folder in folders for path in files_of(folder)]
    gray_ways, colour_ways = ways(gray=True), ways(gray=False)
    symbols, samples, asked = (dict.fromkeys(gray_ways, 0) for _ in range(3))
    every = hashlib.sha256()
    torch.set_num_threads(1)
    for number, path in enumerate(tqdm(files, unit="image", disable=None)):
        data = api.encode(load(path), rate_index=number * 11 % RATES, device="cpu")
        colour = api.read_header(data).photometric == RGB
        found = {name: run(data) for name, run in (colour_ways if colour else gray_ways).items()}
        first = next(iter(found.values()))
        assert first is not None
        every.update(b"".join(first))
        for name, each in found.items():
            if each is None:
                continue
            asked[name] += 1
            symbols[name] += each[0] == first[0]
            samples[name] += each[1] == first[1]
            if each != first:
                print(f"{path}: {name} decodes to something else", file=sys.stderr)
    print(f"{len(files)} images, SHA-256 of all hashes {every.hexdigest()}")
    print("\n| way | images | the same symbols | the same samples |\n|---|---:|---:|---:|")
    for name in asked:
        print(f"| {name} | {asked[name]} | {symbols[name]} | {samples[name]} |")
    return 0 if symbols == asked == samples else 1


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
