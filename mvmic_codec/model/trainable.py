"""A released model in its float form: to continue training, and for gradients in an encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mvmic_codec.errors import InputError, ModelError
from mvmic_codec.model import encoder_file
from mvmic_codec.model.arrays import ENTROPY, SYNTHESIS, without_prefix
from mvmic_codec.model.definition import FRACTION, LAYERS, LINEAR_BITS, STEP_BITS
from mvmic_codec.model.entropy import EntropyModel, IntegerConv
from mvmic_codec.model.identity import Identity
from mvmic_codec.model.integer import COARSER
from mvmic_codec.model.integerise_synthesis import restore_synthesis
from mvmic_codec.model.model import Model
from mvmic_codec.model.shape import shape_of


@torch.no_grad()
def model_of(path: Path) -> Model:
    """The float model of NAME.safetensors, from which training can go on. Inverts `export`.

    Raises InputError if the file lacks part of such a model.
    """
    with safe_open(path, "pt") as stream:
        identity = Identity.from_json(stream.metadata()["identity"])
    arrays = load_file(path)
    another = "it is the model of another version of mvmic_codec; start from one of this version"
    try:
        model = Model(shape_of(identity))
        of_encoder = encoder_file.read(path, identity.fingerprint)
        for prefix, net in zip(
            encoder_file.NETWORKS, (model.analysis, model.hyper_analysis), strict=True
        ):
            net.load_state_dict(without_prefix(of_encoder, prefix))
        restore_synthesis(
            model.synthesis,
            model.blocks,
            without_prefix(arrays, SYNTHESIS),
            without_prefix(of_encoder, encoder_file.UNITS),
        )
        restore_entropy(model.entropy, without_prefix(arrays, ENTROPY))
    except (ModelError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}: {another}") from error
    return model


def restore_entropy(model: EntropyModel, arrays: dict[str, Tensor]) -> None:
    """Set the float parameters of `model` so that `integerise` gives nearly these arrays again."""
    knots = model.base.knots.shape[0]
    at = torch.linspace(0, arrays["step"].shape[0] - 1, knots).round().long()
    model.log_step.knots.copy_((arrays["step"][at].double() / 2**STEP_BITS).log())
    model.hyper_log_step.knots.copy_((arrays["hyper_step"][at].double() / 2**STEP_BITS).log())
    model.hyper_index.knots.copy_(arrays["hyper_index"][at].float() - COARSER)
    base = arrays["base"].float() / FRACTION
    model.base.knots.copy_(base[at, 0])
    model.base_pass.copy_((base - base[:, :1]).mean(0))
    model.base_mode.copy_(arrays["base_mode"].float() / FRACTION)
    model.mode_base.knots.copy_(arrays["mode_base"][at].float() / FRACTION)
    model.start.knots.copy_(arrays["start"][at].float())
    model.hyper_linear.weight.copy_(arrays["hyper_linear"].float() / 2**LINEAR_BITS)
    for p, predictor in enumerate(model.predict):
        assert isinstance(predictor, nn.Conv2d)
        predictor.weight.copy_(arrays[f"predict.{p}"].float() / 2**LINEAR_BITS)
    modules = dict(model.named_modules())
    for name in LAYERS:
        unit = torch.exp2(arrays[f"{name}.shift"].float())
        layer = modules[name]
        assert isinstance(layer, IntegerConv)
        layer.weight.copy_(arrays[f"{name}.weight"].float() / unit[:, None, None, None])
        layer.bias.copy_(arrays[f"{name}.bias"].float() / unit)
