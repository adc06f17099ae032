"""Whether every way to evaluate the entropy model takes the same symbols out of real files.

    PYTHONPATH=formats/reference python benchmarks/exactness.py TEST_FOLDER...

Each image is encoded at a rate index of its own, 0 to 63 in turn, and its symbols are decoded by
doubles through torch (one and two threads), by every path of csrc/common/intnet.c that this
processor has, and by the reference decoder: numpy's int64 and constriction, ten seconds a megapixel
and therefore only on images under 600,000 pixels. Prints on how many images each way took what the
first one took; the exit code is 1 if one did not.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import decode as reference
import numpy as np
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from mvmic_codec import api
from mvmic_codec.bitstream import container, flat
from mvmic_codec.bitstream.symbols import Unpacker
from mvmic_codec.decoder import decode
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.identity import find_identity, model_identity
from mvmic_codec.model.integer import IntegerEntropy
from mvmic_codec.model.intnet import usable_paths
from mvmic_codec.model.loaded import ENTROPY, LoadedModel
from mvmic_codec.model.loaded import load as load_release
from mvmic_codec.model.native import NativeEntropy
from mvmic_codec.rate import RATES

REFERENCE_PIXELS = 600_000

Hash = Callable[[bytes], bytes | None]


class Recorder(Unpacker):
    """An unpacker that keeps a hash of all that was taken out of it."""

    digest = hashlib.sha256()  # anew for each file; encoders decode, too

    def next(self, indices: np.ndarray, second: int = 0) -> np.ndarray:
        symbols = super().next(indices, second)
        self.digest.update(symbols.astype("<i2").tobytes())
        return symbols


def by_package(release: LoadedModel, threads: int) -> Hash:
    def run(data: bytes) -> bytes | None:
        whole = container.read(data)
        header = whole.header
        areas = None if whole.flat is None else flat.from_payload(whole.flat, header)
        Recorder.digest = hashlib.sha256()
        torch.set_num_threads(threads)
        with full_precision(release.device):
            decode.decode_symbols(
                release,
                whole.payload,
                header.rate_index,
                (header.height, header.width),
                None if areas is None else areas.hidden,
            )
        return Recorder.digest.digest()

    return run


def by_reference(model: reference.Model) -> Hash:
    def run(data: bytes) -> bytes | None:
        head, _, flat_payload, coded = reference.read_file(data)
        if head.width * head.height > REFERENCE_PIXELS:
            return None
        hidden = None
        if flat_payload is not None:
            hidden = reference.decode_flat(head, flat_payload).hidden()
        payload = reference.Payload(coded, model.tables)
        size = (head.height, head.width)
        reference.decode_latent(
            model.arrays, model.shape, head.rate_index, size, payload.take, hidden
        )
        payload.close()
        digest = hashlib.sha256()
        for symbols in payload.passes:
            digest.update(symbols.astype("<i2").tobytes())
        return digest.digest()

    return run


def ways(gray: bool) -> dict[str, Hash]:
    """Every way to decode by the model of gray or colour images."""
    _, fingerprint = model_identity(gray)
    _, weights = find_identity(fingerprint)
    release = load_release(fingerprint, "cpu")
    arrays = {
        name[len(ENTROPY) :]: array
        for name, array in load_file(weights).items()
        if name.startswith(ENTROPY)
    }
    rotate = release.shape.rotate
    doubles = replace(release, entropy=IntegerEntropy(arrays, rotate, release.device))
    out = {f"doubles, {n} thread(s)": by_package(doubles, n) for n in (1, 2)}
    for path in usable_paths():
        native = replace(release, entropy=NativeEntropy(arrays, rotate, path))
        out[f"C, {path}"] = by_package(native, 1)
    out["reference: numpy int64, constriction"] = by_reference(reference.load_model(weights))
    return out


def main(folders: list[Path]) -> int:
    decode.Unpacker = Recorder  # type: ignore[misc]
    files = [path for folder in folders for path in files_of(folder)]
    gray_hashes, colour_hashes = ways(gray=True), ways(gray=False)
    same, asked = dict.fromkeys(gray_hashes, 0), dict.fromkeys(gray_hashes, 0)
    every = hashlib.sha256()
    for number, path in enumerate(tqdm(files, unit="image", disable=None)):
        torch.set_num_threads(1)
        data = api.encode(load(path), rate_index=number * 11 % RATES, device="cpu")
        colour = api.read_header(data).photometric == container.RGB
        hashes = colour_hashes if colour else gray_hashes
        found = {name: run(data) for name, run in hashes.items()}
        first = next(iter(found.values()))
        assert first is not None
        every.update(first)
        for name, each in found.items():
            if each is None:
                continue
            asked[name] += 1
            same[name] += each == first
            if each != first:
                print(f"{path}: {name} takes other symbols", file=sys.stderr)
    print(f"{len(files)} images, SHA-256 of all symbols {every.hexdigest()}")
    print("\n| way | images | the same symbols |\n|---|---:|---:|")
    for name in asked:
        print(f"| {name} | {asked[name]} | {same[name]} |")
    return 0 if same == asked else 1


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
