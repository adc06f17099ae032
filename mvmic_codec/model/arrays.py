"""The arrays of a weights file: read, hashed and checked by formats/model.md, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.errors import ModelError
from mvmic_codec.model.definition import (
    AREA,
    CLASSES,
    COMPAND_ENTRIES,
    COMPANDED_MAX,
    EXACT,
    FRACTION,
    INPUT_MAX,
    INPUTS_MAX,
    LAYERS,
    LINEAR_BITS,
    MEAN_MAX,
    MODES,
    NARROWED_MAX,
    NODES,
    SECOND,
    SHIFT_MAX,
    SUM1_MAX,
    SUM3_MAX,
    SUM_LIMIT,
    TABLES,
    V_MAX,
)
from mvmic_codec.model.identity import Identity
from mvmic_codec.model.schedule import GROUPS, SCHEDULE, SPATIAL_STEPS
from mvmic_codec.model.shape import Shape
from mvmic_codec.rate import RATES

# How the names of arrays begin. Those of the first two are all that a decoder needs.
ENTROPY, SYNTHESIS = "entropy.", "synthesis."

Arrays = Mapping[str, npt.NDArray[Any]]
Each = TypeVar("Each")


def read_arrays(identity: Identity, path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of NAME.safetensors. Raises ModelError unless they are those of this card."""
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # numpy has no name for some types of torch.
    except (OSError, SafetensorError, TypeError) as error:
        raise ModelError(f"the weights in {path.name} cannot be read: {error}") from error
    if fingerprint(arrays, identity.shape).hex() != identity.fingerprint:
        raise ModelError(f"the weights in {path.name} are damaged: install mvmic_codec again")
    return arrays


@contextmanager
def refusing_other_arrays(path: Path) -> Iterator[None]:
    """Within it arrays of NAME.safetensors that do not fit a model raise ModelError."""
    try:
        yield
    except (LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"the weights in {path.name} are not those of a model: {error}") from error


def entropy_arrays(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the entropy model, by their names without `entropy.`."""
    return without_prefix(arrays, ENTROPY)


def synthesis_arrays(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays of synthesis, by their names without `synthesis.`."""
    return without_prefix(arrays, SYNTHESIS)


def without_prefix(arrays: Mapping[str, Each], prefix: str) -> dict[str, Each]:
    """The arrays whose names begin so, by the rest of their names."""
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}


def fingerprint(arrays: Mapping[str, npt.ArrayLike], shape: Mapping[str, int | bool]) -> bytes:
    """The 8 bytes by which files name the model with these arrays and this shape.

    Arrays may be tensors on the CPU.
    """
    digest = hashlib.sha256()
    for field in sorted(shape):
        digest.update(f"{field} {int(shape[field])}\n".encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {type_name(array)} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()[:8]


def type_name(array: npt.NDArray[Any]) -> str:
    """The type of an array as fingerprints have it."""
    return f"torch.{array.dtype}"


def check_arrays(arrays: Arrays, shape: Shape) -> None:
    """Raise ModelError unless the entropy model's arrays have the types and shapes of the page."""
    latent, hyper, width, low_freq = shape.latent, shape.hyper, shape.context, shape.near
    high_freq = latent - low_freq
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "step": ("int32", (RATES, latent)),
        "gain": ("int32", (RATES, low_freq)),
        "hyper_step": ("int32", (RATES, hyper)),
        "hyper_index": ("uint8", (RATES, hyper)),
        "hyper_near": ("int16", (RATES, hyper)),
        "hyper_shift": ("int8", (hyper, CLASSES)),
        "base": ("int16", (RATES, SPATIAL_STEPS, latent)),
        "base_mode": ("int16", (MODES, latent)),
        "mode_base": ("int16", (RATES, NODES)),
        "near_mean": ("int16", (RATES, low_freq)),
        "near_shift": ("int8", (low_freq, CLASSES)),
        "aligned": ("uint8", (MODES, low_freq)),
        "start": ("int16", (RATES, width)),
        "compand": ("uint8", (COMPAND_ENTRIES,)),
        "hyper_linear": ("int16", (4 * SPATIAL_STEPS * low_freq, hyper, 3, 3)),
        "table_half": ("uint16", (SECOND + TABLES,)),
        "table_cdf": ("uint16", (SECOND + TABLES, arrays["table_cdf"].shape[-1])),
    }
    for step in range(1, SPATIAL_STEPS):
        expected[f"predict.{step - 1}"] = ("int16", (low_freq, step * low_freq, 3, 3))
    layers = {"hyper_rise": (4 * width, hyper, 3)}
    for half in range(2):
        layers[f"mode_scores.{half}"] = (2 * NODES, width, 1)
        layers[f"mode_merge.{half}"] = (width, width + 2 * (half + 1) * MODES, 3)
    for group in SCHEDULE:
        mine, seen = (low_freq, 2 * low_freq) if group.low_freq else (high_freq, high_freq)
        layers[f"think.{group.number}"] = (width, width, 3)
        layers[f"scales.{group.number}"] = (mine, width, 1)
        if group.number < GROUPS - 1:
            layers[f"merge.{group.number}"] = (width, width + seen, 3)
        if group.low_freq:
            layers[f"means.{group.step}"] = (low_freq, width, 1)
    for name, (outputs, inputs, size) in layers.items():
        expected[f"{name}.weight"] = ("int8", (outputs, inputs, size, size))
        expected[f"{name}.bias"] = ("int32", (outputs,))
        expected[f"{name}.shift"] = ("uint8", (outputs,))
    _check_types(ENTROPY, arrays, expected)


def check_synthesis(arrays: Arrays, shape: Shape) -> None:
    """Raise ModelError unless the arrays of synthesis have the types and shapes of the page."""
    inputs, planes = AREA * shape.planes, shape.planes
    a, b, g = shape.width16, shape.width8, shape.width2
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "luma": ("int16", (MODES, AREA, AREA)),
        "chroma": ("int16", (shape.chroma, inputs - AREA)),
        "dct": ("int16", (BLOCK, BLOCK)),
        "borders": ("int16", (BLOCK, BLOCK)),
        "enter.scale": ("int32", (inputs,)),
        "enter.bias": ("int32", (MODES, a)),
        "leave.bias": ("int32", (64 * planes,)),
        "leave.multiplier": ("int32", (64 * planes,)),
        "retouch.leave.bias": ("int32", (4 * planes,)),
        "retouch.leave.multiplier": ("int32", (4 * planes,)),
    }
    for name, outputs in (("enter", a), ("up", 4 * b), ("inject", b), ("retouch.enter", g)):
        expected[f"{name}.multiplier"] = ("int32", (RATES, outputs))
    for name, outputs in (("enter", a), ("up", 4 * b), ("retouch.enter", g)):
        expected[f"{name}.offset"] = ("int32", (RATES, outputs))
    layers = {
        "enter": (a, inputs, 1),
        "up": (4 * b, a, 1),
        "inject": (b, 64 * planes, 1),
        "leave": (64 * planes, b, 1),
        "retouch.enter": (g, 4 * planes, 3),
        "retouch.leave": (4 * planes, g, 3),
    }
    blocks = [(f"body16.{k}", a) for k in range(shape.blocks16)]
    blocks += [(f"body8.{k}", b) for k in range(shape.blocks8)] + [("retouch", g)]
    for name, width in blocks:
        for part in ("first", "second"):
            layers[f"{name}.{part}"] = (width, width, 3)
            expected[f"{name}.{part}.bias"] = ("int32", (width,))
            expected[f"{name}.{part}.multiplier"] = ("int32", (width,))
    for name, (outputs, seen, size) in layers.items():
        expected[f"{name}.weight"] = ("int16", (outputs, seen, size, size))
    _check_types(SYNTHESIS, arrays, expected)


def check_rate_bounds(arrays: Arrays) -> None:
    """Raise ModelError unless layers of synthesis that depend on the rate keep their bounds.

    They are made when a rate is first asked for. Other layers are checked as they are made.
    """

    def check(numbers: npt.NDArray[np.int64], most: int, name: str) -> None:
        if int(numbers.max()) > most:
            raise ModelError(f"the model's layer synthesis.{name} is too large for 32 bits")

    def results(name: str, largest: int, most: int) -> npt.NDArray[np.int64]:
        """What the results of each output reach, by rate."""
        weight, factor = arrays[f"{name}.weight"], arrays[f"{name}.multiplier"]
        sums = largest * np.abs(weight.astype(np.int64)).sum((1, 2, 3))
        if name == "enter":
            sums += np.abs(arrays["enter.bias"].astype(np.int64)).max(0)
        check(sums, most, name)
        out: npt.NDArray[np.int64] = (sums * np.abs(factor.astype(np.int64)) >> 32) + 1
        return out

    of_inject = results("inject", INPUT_MAX, SUM1_MAX).repeat(4, 1)
    for name, reached in (
        ("enter", results("enter", INPUT_MAX, SUM1_MAX)),
        ("up", results("up", NARROWED_MAX, SUM1_MAX) + of_inject),
        ("retouch.enter", results("retouch.enter", INPUT_MAX, SUM3_MAX)),
    ):
        check(reached + np.abs(arrays[f"{name}.offset"].astype(np.int64)), 2**31 - 1, name)


def _check_types(
    prefix: str, arrays: Arrays, expected: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    for name, (kind, sizes) in expected.items():
        array = arrays.get(name)
        if array is None or array.dtype != kind or array.shape != sizes:
            raise ModelError(
                f"the model's array {prefix}{name} is not torch.{kind} of shape {sizes}"
            )
    for name in arrays.keys() - expected.keys():
        raise ModelError(f"the model has an array {prefix}{name} that no model has")


def check_bounds(arrays: Arrays) -> None:
    """Raise ModelError unless the entropy model's numbers keep the bounds of section 10."""

    def sums(name: str) -> npt.NDArray[np.int64]:
        """Of the magnitudes of each output's weights."""
        # int16 holds |-128| as well. hyper_linear and predict are int16 themselves.
        weight = arrays[name]
        wide = np.int16 if weight.dtype == np.int8 else np.int32
        out: npt.NDArray[np.int64] = np.abs(weight, dtype=wide).sum((1, 2, 3), dtype=np.int64)
        return out

    def largest(name: str) -> int:
        return int(np.abs(arrays[name].astype(np.int64)).max())

    whole = min(int(arrays[name].min()) for name in ("step", "hyper_step")) >= 1
    index = arrays["hyper_index"]
    indexed = bool(((index >= 1) & (index < TABLES)).all()) and largest("aligned") <= 1
    indexed &= largest("compand") <= COMPANDED_MAX
    shifted = all(largest(f"{name}.shift") <= SHIFT_MAX for name in LAYERS)
    if not (whole and indexed and shifted):
        raise ModelError("the model's steps, shifts or table indices are out of range")
    narrow = all(
        int((255 * sums(f"{name}.weight") + np.abs(arrays[f"{name}.bias"].astype(np.int64))).max())
        < SUM_LIMIT
        and arrays[f"{name}.weight"].shape[1] <= INPUTS_MAX
        for name in LAYERS
    )
    linear = int(sums("hyper_linear").max())
    linear += max(int(sums(f"predict.{step}").max()) for step in range(SPATIAL_STEPS - 1))
    means = linear * V_MAX * largest("gain") >> LINEAR_BITS
    levels = (2**15 * FRACTION + MEAN_MAX) * max(largest("step"), largest("hyper_step"))
    if not narrow or max(linear * V_MAX, means, levels) >= EXACT:
        raise ModelError("the model's weights are too large for exact arithmetic")
