"""A released model in its float form: to continue training, and for gradients in an encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mvmic_codec.errors import InputError
from mvmic_codec.model.entropy import FRACTION, EntropyModel, IntegerConv
from mvmic_codec.model.identity import Identity
from mvmic_codec.model.integer import COARSER, LAYERS, LINEAR_BITS, STEP_BITS
from mvmic_codec.model.loaded import ENTROPY, TRANSFORMS, shape_of
from mvmic_codec.model.model import Model


@torch.no_grad()
def model_of(path: Path) -> Model:
    """The float model of a release file, from which training can go on. Inverts `export`.

    Raises InputError if the file lacks part of such a model.
    """
    with safe_open(path, "pt") as stream:
        identity = Identity.from_json(stream.metadata()["identity"])
    arrays = load_file(path)
    another = "it is the model of another version of mvmic_codec; start from one of this version"
    try:
        model = Model(shape_of(identity))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}: {another}") from error
    state = model.state_dict()
    missing = [k for k in state if k.startswith(TRANSFORMS) and k not in arrays]
    if missing:
        raise InputError(f"{path} has no {missing[0]}: {another}")
    state |= {k: v.float() for k, v in arrays.items() if k.startswith(TRANSFORMS)}
    model.load_state_dict(state)
    restore_entropy(
        model.entropy, {k[len(ENTROPY) :]: v for k, v in arrays.items() if k.startswith(ENTROPY)}
    )
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
