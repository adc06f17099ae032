"""Files of tuned encoders: what they change, who may use them, and bad ones in one sentence."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from small_model import picture

import mvmic_codec
from mvmic_codec.cli import main
from mvmic_codec.encoder.image_encoder import ImageEncoder
from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.image.samples import from_input
from mvmic_codec.model.identity import COLOUR_MODEL, GRAY_MODEL, model_identity
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.tuned import EncoderCard, load_encoder, save_encoder

SIZE = (90, 130)


def image_of(channels):
    pixels = np.rint(255 * picture(*SIZE, channels)).astype(np.uint8)
    return Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))


def write_encoder(weights, path, channels=3, change=0.1, rates=(0, 63)):
    """An encoder of the small model with other analysis, or the same."""
    name = GRAY_MODEL if channels == 1 else COLOUR_MODEL
    model = model_of(weights / f"{name}.safetensors")
    torch.manual_seed(1)
    with torch.no_grad():
        for net in (model.analysis, model.hyper_analysis):
            for parameter in net.parameters():
                parameter.add_(change * torch.randn_like(parameter))
    fingerprint = model_identity(gray=channels == 1)[1].hex()
    save_encoder(model, EncoderCard(fingerprint, 0.5, list(rates), "made up", "none", ""), path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_every_decoder_reads_what_a_tuned_encoder_writes(weights, tmp_path, channels):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors", channels)
    image = image_of(channels)
    plain = mvmic_codec.encode(image, rate_index=30, device="cpu")
    tuned = mvmic_codec.encode(image, rate_index=30, encoder=path, device="cpu")
    assert tuned != plain
    assert mvmic_codec.read_header(tuned) == mvmic_codec.read_header(plain)
    # As the encoder knows it, by the released decoder alone.
    file = ImageEncoder([from_input(image)], {}, tuned=load_encoder(path), device="cpu").file_at(30)
    assert file.data == tuned
    decoded = from_input(mvmic_codec.decode(tuned, device="cpu")).planes
    assert np.abs(decoded - file.decoded_planes()).max() < 1 / 254
    # Pillow and the next call have the released encoder again.
    image.save(tmp_path / "x.mvm", rate_index=30, encoder=str(path))
    assert (tmp_path / "x.mvm").read_bytes() == tuned
    assert mvmic_codec.encode(image, rate_index=30, device="cpu") == plain


@pytest.mark.parametrize("effort", [1, 2])
def test_an_encoder_with_the_released_weights_changes_nothing(weights, tmp_path, effort):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors", change=0)
    options = {"rate_index": 30, "effort": effort, "device": "cpu"}
    plain = mvmic_codec.encode(image_of(3), **options)
    assert mvmic_codec.encode(image_of(3), encoder=path, **options) == plain


@pytest.mark.parametrize("part", ["analysis", "hyper_analysis"])
def test_both_networks_are_used_by_all_candidates(weights, tmp_path, part, monkeypatch):
    """With flat areas and without: the released ones are never asked."""
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors")
    image = np.asarray(image_of(3)).copy()
    image[:, :48] = 0
    encoder = ImageEncoder([from_input(image)], {}, tuned=load_encoder(path), device="cpu")
    (tile,) = encoder.tiles()
    candidates = tile.flat_candidates.at(30, "cpu")
    model = encoder.options.model
    net = getattr(model, part)
    arrays = load_encoder(path).arrays
    for name, value in net.state_dict().items():
        assert torch.equal(value, arrays[f"{part}.{name}"].float()), name
    assert all(getattr(each.model, part) is net for each in candidates)
    assert encoder.plain_file_at(30).coded.model is model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(weights, tmp_path, value):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors", change=value)
    with pytest.raises(ModelError, match="has weights that are no numbers"):
        load_encoder(path)


def test_targets_are_met_with_it(weights, tmp_path):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors", change=0.02)
    data = mvmic_codec.encode(image_of(3), max_bytes=700, encoder=load_encoder(path), device="cpu")
    assert len(data) <= 700


def test_rates_that_it_was_not_tuned_at_give_a_warning(weights, tmp_path):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors", rates=(18, 27))
    with pytest.warns(UserWarning, match="tuned at rate indices 18 to 27.* at 30") as caught:
        mvmic_codec.encode(image_of(3), rate_index=30, encoder=path, device="cpu")
    assert caught[0].filename == __file__
    mvmic_codec.encode(image_of(3), rate_index=27, encoder=path, device="cpu")


def test_an_encoder_of_the_other_kind_or_another_model_is_refused(weights, tmp_path):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors")
    with pytest.raises(InputError, match="takes colour images, and this one is gray"):
        mvmic_codec.encode(image_of(1), encoder=path, device="cpu")
    model = model_of(weights / f"{COLOUR_MODEL}.safetensors")
    save_encoder(model, EncoderCard("00" * 8, 0.5, [0, 63], "", "", ""), path)
    with pytest.raises(InputError, match="is for model 0000000000000000, and this version"):
        mvmic_codec.encode(image_of(3), encoder=path, device="cpu")


def test_bad_files_are_one_sentence_each(weights, tmp_path):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors")
    whole = path.read_bytes()

    def refused(error, match):
        with pytest.raises(error, match=match):
            mvmic_codec.encode(image_of(3), encoder=path, device="cpu")

    path.write_bytes(whole[:-1])
    refused(ModelError, "is not an encoder, or is damaged")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(ModelError, "is damaged: get it again")
    path.write_bytes(whole)
    arrays = load_file(path)
    save_file(arrays, path)
    refused(ModelError, "is not an encoder: give a file")
    save_file({"logits.weight": torch.zeros(1)}, path, {"card": "{}"})
    refused(ModelError, "is not an encoder: give a file")
    path.unlink()
    refused(InputError, "there is no encoder")
    with pytest.raises(InputError, match="must be the path of a file.*got int"):
        mvmic_codec.encode(image_of(3), encoder=7, device="cpu")


def test_the_command_line_takes_an_encoder(weights, tmp_path):
    path = write_encoder(weights, tmp_path / "x.tuned.safetensors")
    image_of(3).save(tmp_path / "x.png")

    def encode(encoder):
        options = ["--rate-index", "30", "--device", "cpu", "--force", "--encoder", str(encoder)]
        return CliRunner().invoke(main, ["encode", str(tmp_path / "x.png"), *options])

    assert encode(path).exit_code == 0
    expected = mvmic_codec.encode(image_of(3), rate_index=30, encoder=path, device="cpu")
    assert (tmp_path / "x.mvm").read_bytes() == expected
    missing = encode(tmp_path / "none")
    assert missing.exit_code == 1 and "there is no encoder" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1


def test_nothing_half_written_is_left(weights, tmp_path, monkeypatch):
    from mvmic_codec.model import tuned

    monkeypatch.setattr(tuned.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError, match="full"):
        write_encoder(weights, tmp_path / "x.tuned.safetensors")
    assert set(tmp_path.iterdir()) == before
