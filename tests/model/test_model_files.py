"""The two files of a model: what a loader refuses, and that one inverts what wrote them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import crops, picture

import mvmic_codec
from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.model import decoding, encoder_file, export, identity, loaded
from mvmic_codec.model.arrays import fingerprint
from mvmic_codec.model.trainable import model_of

PICTURE = np.rint(255 * picture(40, 50, 3)).astype(np.uint8).transpose(1, 2, 0)


def changed(path, change):
    """Replace arrays of a weights file by `change`, with a card that is right. The fingerprint."""
    card = identity.read_card(path.with_suffix(".json"))
    arrays = load_file(path)
    change(arrays)
    card = replace(card, fingerprint=fingerprint(arrays, card.shape).hex())
    export.write(arrays, card, path.parent)
    return bytes.fromhex(card.fingerprint)


def refusal(print_of_model):
    """What decoders say of a model."""
    with pytest.raises(ModelError) as caught:
        decoding.load(print_of_model)
    return str(caught.value)


def test_what_is_sound_is_loaded(weights_path):
    decoding.load(changed(weights_path, lambda arrays: None))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["luma", "enter.scale", "body8.0.second.bias", "leave.weight"])
def test_arrays_of_other_kinds_are_refused(weights_path, name):
    key = f"synthesis.{name}"
    sound = load_file(weights_path)
    for other in (None, sound[key].long(), sound[key].half(), sound[key][:-1].clone()):

        def change(arrays, other=other):
            arrays.update(sound)
            del arrays[key]
            if other is not None:
                arrays[key] = other

        assert f"the model's array {key} is not torch.int" in refusal(changed(weights_path, change))


def test_an_array_more_is_refused(weights_path):
    for name in ("body16.1.first.bias", "step"):
        more = {f"synthesis.{name}": torch.zeros(3, dtype=torch.int32)}
        shutil.copy(weights_path, weights_path.with_suffix(".sound"))
        assert refusal(changed(weights_path, lambda arrays, more=more: arrays.update(more))) == (
            f"the model has an array synthesis.{name} that no model has"
        )
        shutil.copy(weights_path.with_suffix(".sound"), weights_path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("luma", 2**14 + 1),
        ("dct", 2**15 - 1),
        ("borders", 2**14),
        ("enter.bias", 2**31 - 1),
        ("enter.offset", 2**31 - 1),
        ("up.offset", -(2**31)),
        ("leave.bias", 2**31 - 1),
        ("body16.0.first.weight", 3641),
        ("body16.0.first.bias", 2**29),
        ("body8.0.second.bias", -(2**29)),
        ("retouch.enter.offset", 2**31 - 1),
        ("retouch.second.bias", 2**31 - 1),
        ("retouch.leave.bias", -(2**31)),
    ],
)
def test_numbers_beyond_the_bounds_are_refused(weights_path, name, value):
    def change(arrays):
        array = arrays[f"synthesis.{name}"]
        if name == "borders":
            array[-1] = value
        else:
            array.view(-1)[-1] = value

    with pytest.raises(ModelError, match="are not those of a model|too large for 32 bits"):
        decoding.load(changed(weights_path, change))


def test_damaged_weights_are_refused(weights_path):
    card = identity.read_card(weights_path.with_suffix(".json"))
    data = bytearray(weights_path.read_bytes())
    data[-1] ^= 1
    weights_path.write_bytes(data)
    print_of_model = bytes.fromhex(card.fingerprint)
    assert "are damaged: install mvmic_codec again" in refusal(print_of_model)
    weights_path.write_bytes(data[:1000])
    assert "cannot be read" in refusal(print_of_model)
    weights_path.unlink()
    assert "cannot be read" in refusal(print_of_model)


# --- The encoder's file ---------------------------------------------------------------------------


def of_encoder(path):
    return load_file(encoder_file.path_of(path))


def lost(path):
    encoder_file.path_of(path).unlink()


def cut(path):
    file = encoder_file.path_of(path)
    file.write_bytes(file.read_bytes()[:-1])


def flipped(path):
    file = encoder_file.path_of(path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def without_digest(path):
    save_file(of_encoder(path), encoder_file.path_of(path))


def of_another_model(path):
    encoder_file.write(path, "0" * 16, of_encoder(path))


def rewritten(change):
    def damage(path):
        arrays = of_encoder(path)
        change(arrays)
        card = identity.read_card(path.with_suffix(".json"))
        encoder_file.write(path, card.fingerprint, arrays)

    return damage


def one_of(arrays, prefix):
    return next(name for name in sorted(arrays) if name.startswith(prefix))


DAMAGES = {
    "lost": (lost, "cannot be read"),
    "cut": (cut, "cannot be read"),
    "flipped": (flipped, "is damaged: install mvmic_codec again"),
    "without digest": (without_digest, "is damaged: install mvmic_codec again"),
    "of another model": (of_another_model, "is not of the model beside it"),
    "a network less": (
        rewritten(lambda arrays: arrays.pop(one_of(arrays, "analysis."))),
        "are not those of a model",
    ),
    "an array more": (
        rewritten(lambda arrays: arrays.update({"analysis.more": torch.zeros(1).half()})),
        "are not those of a model",
    ),
    "a unit less": (
        rewritten(lambda arrays: arrays.pop("units.s16")),
        "are not those of a model",
    ),
    "another type": (
        rewritten(lambda arrays: arrays.update({"units.s16": arrays["units.s16"].half()})),
        "array units.s16 is torch.float16, not torch.float32",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_encoder_is_refused_and_decoders_do_not_mind(weights_path, name):
    file = mvmic_codec.encode(PICTURE, device="cpu")
    expected = mvmic_codec.decode(file).tobytes()
    damage, sentence = DAMAGES[name]
    damage(weights_path)
    for each in (loaded, decoding):
        each.load.cache_clear()
    with pytest.raises(ModelError, match=sentence):
        mvmic_codec.encode(PICTURE, device="cpu")
    with pytest.raises(InputError, match="start from one of this version"):
        model_of(weights_path)
    assert mvmic_codec.decode(file).tobytes() == expected


def test_the_fingerprint_does_not_cover_the_encoder(weights_path):
    """So that another encoder of a model writes files that all its decoders read."""
    before = mvmic_codec.encode(PICTURE, device="cpu")

    def change(arrays):
        for name, array in arrays.items():
            if name.startswith("analysis."):
                array.mul_(0.98)

    rewritten(change)(weights_path)
    loaded.load.cache_clear()
    after = mvmic_codec.encode(PICTURE, device="cpu")
    assert after != before
    headers = [mvmic_codec.read_header(each) for each in (before, after)]
    assert headers[0] == headers[1]
    mvmic_codec.decode(after)


# --- There and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_export_restore_export(weights_path, tmp_path, channels):
    """About the same arrays of synthesis: ranges come of other roundings, and units of ranges."""
    again = tmp_path / "again"
    name = weights_path.stem
    export.export(model_of(weights_path), again, name, "for tests", crops(channels))
    old, new = load_file(weights_path), load_file(again / f"{name}.safetensors")
    assert old.keys() == new.keys()
    for key, array in old.items():
        assert new[key].dtype == array.dtype and new[key].shape == array.shape
        if key.startswith("synthesis.") and array.numel():
            difference = (new[key].double() - array.double()).abs()
            assert difference.mean() <= 1 + 0.1 * array.double().abs().mean(), key
    old, new = (of_encoder(each / f"{name}.safetensors") for each in (weights_path.parent, again))
    assert old.keys() == new.keys()
    for key, array in old.items():
        if key.startswith("units."):
            assert torch.allclose(new[key], array, rtol=0.1), key
        else:
            assert torch.equal(new[key], array), key
