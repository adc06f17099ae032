"""formats/model.md says which arrays a release holds, and how they are hashed."""

import hashlib
import re
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from small_model import SMALL

from mvmic_codec.model import identity
from mvmic_codec.model.definition import EXACT, INPUTS_MAX, MEAN_MAX, SUM_LIMIT, V_MAX
from mvmic_codec.rate import RATES

TEXT = (Path(__file__).parents[2] / "formats/model.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| `entropy\.(\S+)` \| (\w+) \| ([^|]+) \| (?:k = ([\d, ]+):)?", TEXT, re.MULTILINE
)


def size_of(word, array, shape):
    """A size as the page writes it: 64, C, 16N, W+C-N; V is whatever it is."""
    sizes = {"C": shape.latent, "N": shape.near, "W": shape.context, "Z": shape.hyper}
    if word == "V":
        return array.shape[-1]
    terms = [
        re.fullmatch(r"([+-]?)(\d*)([A-Z]?)", term).groups()
        for term in re.findall(r"[+-]?[^+-]+", word)
    ]
    return sum(int(sign + (number or "1")) * sizes.get(letter, 1) for sign, number, letter in terms)


def described(arrays, shape_of_model):
    """Name -> (type, shape) by the page's table."""
    found = {}
    layers = []
    for name, kind, shape, places in ROWS:
        names = [name]
        if ".k." in name:
            names = [name.replace(".k.", f".{k}.") for k in places.split(", ")]
        if name.startswith("LAYER"):
            names = [name.replace("LAYER", layer) for layer in layers]
        for each in names:
            if each.endswith(".weight"):
                layers.append(each.removesuffix(".weight"))
            array = arrays[f"entropy.{each}"]
            if shape == "O":
                expected = (len(arrays[f"entropy.{each.rsplit('.', 1)[0]}.weight"]),)
            else:
                expected = tuple(size_of(word, array, shape_of_model) for word in shape.split(", "))
            found[f"entropy.{each}"] = (kind, expected)
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_every_array_is_described(weights_path, channels):
    arrays = load_file(weights_path)
    real = {
        name: (str(array.dtype), array.shape)
        for name, array in arrays.items()
        if name.startswith("entropy.")
    }
    assert described(arrays, SMALL[channels]) == real


def test_fingerprint_as_described(weights_path):
    digest = hashlib.sha256()
    for field, value in sorted(identity.default_identity(gray=False).shape.items()):
        digest.update(f"{field} {int(value)}\n".encode("ascii"))
    for name, array in sorted(load_file(weights_path).items()):
        sizes = ", ".join(map(str, array.shape)) + "," * (array.ndim == 1)
        digest.update(f"{name} torch.{array.dtype} ({sizes})\n".encode("ascii"))
        digest.update(array.tobytes())
    assert digest.digest()[:8] == identity.model_identity(gray=False)[1]


def test_numbers():
    assert RATES == 64
    assert f"below 2^{EXACT.bit_length() - 1}," in TEXT
    assert (
        f"is below 2^{SUM_LIMIT.bit_length() - 1},\n- no layer has more than {INPUTS_MAX} " in TEXT
    )
    assert f"V_p = clamp(v, -2^{V_MAX.bit_length() - 1}, " in TEXT
    assert f"m = clamp(m, -2^{MEAN_MAX.bit_length() - 1}, " in TEXT
