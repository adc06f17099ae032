"""What more effort buys: symbols that cost less, which every decoder reads."""

import copy

import codec
import numpy as np
import pytest
import torch
from slow import first_is_quick
from small_model import picture

from mvmic_codec.bitstream import ans
from mvmic_codec.bitstream.symbols import pack
from mvmic_codec.decoder import decode, reconstruct
from mvmic_codec.encoder import refine
from mvmic_codec.encoder.decoded import FINE
from mvmic_codec.encoder.encode import Encoder
from mvmic_codec.encoder.refine import ROUNDS, Refiner, only
from mvmic_codec.model import loaded
from mvmic_codec.model.definition import FRACTION
from mvmic_codec.model.device import full_precision
from mvmic_codec.model.identity import model_identity
from mvmic_codec.model.layers import pixel_unshuffle
from mvmic_codec.model.schedule import SCHEDULE
from mvmic_codec.model.transforms import dequantised, rotate_colour

RATES = [5, 31, 60]


def planes_of(channels, size=(130, 200)):
    return picture(*size, channels, seed=6, edge=0.4)


def refiner_of(released, planes, rate, hidden=None):
    return Refiner(Encoder(released, planes, rate, hidden))


def cost_of_file(released, planes, rate, effort, hidden=None):
    """Bits of what is written, and error of what is decoded and seen at its price in bits."""
    candidate = codec.candidate_of(planes, rate, hidden=hidden, device="cpu")
    passes = candidate.code_symbols(effort).passes
    payload, size = pack(passes, released.tables), planes.shape[1:]
    model = released.decoding
    latent, modes = decode.decode_symbols(model, payload, rate, size, hidden)
    decoded = reconstruct.reconstruct(model.synthesis, latent, modes, rate, size, FINE)
    error = np.square(255 * (decoded.transpose(2, 0, 1) / FINE.hi - planes))
    if hidden is not None:
        error = error[:, ~hidden]
    bits = sum(ans.estimate_bits(*each.coded(), released.tables) for each in passes)
    return bits + refine.lambda_of(rate) / len(planes) * error.sum()


def corner(size=(130, 200)):
    """Pixels hidden: whole blocks, and the parts of others."""
    hidden = np.zeros(size, bool)
    hidden[20:, 90:] = True
    return hidden


@pytest.mark.parametrize("rate", first_is_quick(RATES))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("hidden", [None, corner()], ids=["seen", "hidden"])
def test_more_effort_costs_less(released, channels, rate, hidden):
    """By the bytes that are written and the pixels that come back, not by the refiner's word."""
    planes = planes_of(channels)
    costs = [cost_of_file(released, planes, rate, effort, hidden) for effort in (1, 2, 3)]
    assert costs[2] <= costs[1] <= costs[0]
    # So little is coded at the lowest rate that nothing better may be found.
    assert rate == 5 or costs[2] < costs[1] < costs[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("hidden", [None, corner()], ids=["seen", "hidden"])
def test_cost_is_that_of_the_file(released, channels, hidden):
    planes = planes_of(channels)
    refiner = refiner_of(released, planes, 31, hidden)
    with full_precision(released.device):
        told = refiner.cost(refiner.encoder.encode_two_pass())
    assert told == pytest.approx(cost_of_file(released, planes, 31, 1, hidden), rel=1e-5)


def test_the_best_run_is_kept(released, monkeypatch):
    """Of strides much too long, none ends better than it began."""
    monkeypatch.setattr(refine, "STRIDE", 30.0)
    refiner = refiner_of(released, planes_of(3), 31)
    with full_precision(released.device):
        start = refiner.encoder.encode_two_pass()
        assert refine.refine(refiner, start, 2) is start


def shipped(planes):
    """A refiner with the model that ships: synthesis of the small one has nothing to undo."""
    released = loaded.load(model_identity(gray=len(planes) == 1)[1], "cpu")
    return refiner_of(released, planes, 60)


@pytest.mark.parametrize("channels", first_is_quick([1, 3]))
def test_the_inverse_target_is_worth_several_rounds(monkeypatch, channels):
    refiner = shipped(planes_of(channels))
    with full_precision(refiner.model.device):
        ours = refiner.cost(refiner.encoder.encode_two_pass())
        monkeypatch.setattr("mvmic_codec.encoder.encode.TARGET_FROM", 64)
        start = refiner.encoder.encode_two_pass()
        assert start.target is refiner.encoder.coefficients
        assert ours < refiner.cost(refine.refine(refiner, start, 4)) <= refiner.cost(start)


@pytest.mark.parametrize("channels", [1, 3])
def test_synthesis_makes_the_picture_of_the_inverse_target(monkeypatch, channels):
    """All the way, and again from there, it comes nearer and nearer.

    The picture is gray, since not all chroma is coded.
    """
    monkeypatch.setattr("mvmic_codec.encoder.encode.TARGET_SHARE", 1 / 60)
    refiner = shipped(planes_of(1).repeat(channels, 0))
    encoder, blocks = refiner.encoder, refiner.model.blocks
    errors = []
    with full_precision(refiner.model.device):
        modes = encoder.encode_two_pass().modes
        for _ in range(3):
            shown = refiner.float_planes(blocks(encoder.coefficients, modes), modes)
            errors.append(float(refiner.error(shown)))
            encoder.coefficients = encoder.inverse_target(modes)
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.6 * errors[1]


def test_modes_are_chosen_again(released):
    refiner = refiner_of(released, planes_of(3), 50)
    with full_precision(released.device):
        start = refiner.encoder.encode_two_pass()
        few, many = (refine.refine(refiner, start, n) for n in (2, 2 * refine.MODES_EVERY))
    assert torch.equal(few.modes, start.modes) and not torch.equal(many.modes, start.modes)


def test_effort_1_is_the_second_run(released):
    planes = planes_of(3)
    with full_precision(released.device):
        expected = pack(Encoder(released, planes, 31).encode_two_pass().passes, released.tables)
    assert codec.encode_planes(planes, 31, device="cpu") == expected
    assert codec.encode_planes(planes, 31, effort=1, device="cpu") == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_refinement_goes_on_from_the_target(released, channels):
    """As if analysis had given it."""
    refiner = refiner_of(released, planes_of(channels), 50)
    encoder = refiner.encoder
    with full_precision(released.device):
        noise = torch.randn(encoder.coefficients.shape, generator=torch.manual_seed(1))
        costs, target, _ = encoder.estimated_costs, encoder.coefficients + 2 * noise, encoder.hyper
        run = encoder.run(costs, target)
        ours, gradient = refine.refine(refiner, run, 1), refiner.rd_gradient(run)
        encoder.coefficients = target
        run = encoder.run(costs)
        assert torch.equal(gradient, refiner.rd_gradient(run))
        theirs = refine.refine(refiner, run, 1)
        assert theirs is not run and torch.equal(ours.latent, theirs.latent)


@pytest.mark.parametrize("hidden", [None, corner()], ids=["seen", "hidden"])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoders_find_what_was_meant(released, channels, hidden):
    planes = planes_of(channels)
    refiner = refiner_of(released, planes, 31, hidden)
    with full_precision(released.device):
        run = refine.refine(refiner, refiner.encoder.encode_two_pass(), 4)
        latent, modes = decode.decode_symbols(
            released,
            pack(run.passes, released.tables),
            31,
            planes.shape[1:],
            hidden,
        )
    assert torch.equal(latent, run.latent) and torch.equal(modes.long(), run.modes)


@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_pixels_count_nothing(released, channels):
    """Whatever is decoded there."""
    planes, hidden = planes_of(channels), corner()
    refiner = refiner_of(released, planes, 31, hidden)
    with full_precision(released.device):
        encoder = refiner.encoder
        run = encoder.encode_two_pass()
        before, gradient, target = (
            refiner.cost(run),
            refiner.rd_gradient(run),
            encoder.inverse_target(run.modes),
        )
        noise = torch.rand(refiner.planes.shape, generator=torch.manual_seed(3))
        unseen = torch.ones(encoder.shown.shape, dtype=torch.bool)
        unseen[: hidden.shape[0], : hidden.shape[1]] = torch.from_numpy(hidden)
        refiner.planes = torch.where(unseen, noise, refiner.planes)
        encoder.rotated = rotate_colour(refiner.planes)
        assert refiner.cost(run) == before
        assert torch.equal(refiner.rd_gradient(run), gradient)
        torch.testing.assert_close(encoder.inverse_target(run.modes), target, rtol=0, atol=1e-3)
        refiner.planes = noise
        assert refiner.cost(run) > before


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pull_of_the_error_is_its_slope(released, channels):
    """Along some ways through the latent, by differences."""
    refiner = refiner_of(released, planes_of(channels), 31, corner())
    generator = torch.Generator().manual_seed(1)
    with full_precision(released.device):
        run = refiner.encoder.encode_two_pass()
        # Without bits, error is all there is.
        refiner.entropy = blank(refiner.entropy)
        gradient = refiner.rd_gradient(run)
        for _ in range(5):
            # Not just any way: where error hardly changes, rounding would be all of the difference.
            way = gradient * torch.rand(gradient.shape, generator=generator)
            way *= 0.1 / way.abs().max()
            y = dequantised(run.latent)
            shown = [refiner.float_planes(y + move * way, run.modes) for move in (1, -1)]
            up, down = (float(refiner.error(each)) for each in shown)
            slope = refiner.lambda_error * (up - down) / 2
            assert float((gradient * way).sum()) == pytest.approx(slope, rel=0.02)


def blank(entropy):
    """The same with bits that no symbol changes."""

    class Blank:
        first_features, code_modes = entropy.first_features, entropy.code_modes

        def __call__(self, *inputs):
            coded = entropy(*inputs)
            coded.bits = 0 * coded.bits
            return coded

    return Blank()


def test_the_pull_of_the_bits_is_their_slope(released):
    """By differences of the others' bits, of a model that neither rounds nor predicts means."""
    refiner = refiner_of(released, planes_of(3, (64, 130)), 45)
    refiner.encoder.shown.zero_()
    encoder = refiner.encoder
    entropy = refiner.entropy = copy.deepcopy(refiner.entropy)
    entropy.quantise = False
    for layer in entropy.means:
        layer.weight.zero_()
        layer.bias.zero_()
    for weight in (entropy.hyper_linear.weight, *(layer.weight for layer in entropy.predict)):
        weight.zero_()
    with full_precision(released.device):
        run = encoder.encode_two_pass()
        gradient = refiner.rd_gradient(run)[0] * encoder.step[:, None, None]
        exact, z = copy.deepcopy(entropy).double(), encoder.z / FRACTION
        _, features, _ = exact.code_modes(
            exact.first_features(z, refiner.encoder.rates), only(run.modes), refiner.encoder.rates
        )

        def bits(symbols):
            y, weight = torch.zeros_like(symbols), torch.ones(1, dtype=torch.float64)
            known = (y, run.modes, features, z, refiner.encoder.rates, weight)
            return exact(*known, symbols).bits[0] * encoder.inside

        places = torch.nonzero((run.coded != 0) & (gradient.abs() > 0.01))
        assert len(places) > 50
        for place in map(tuple, places[:: len(places) // 50].tolist()):
            ends = []
            for move in (1e-4, -1e-4):
                symbols = refiner.training_symbols(run).double()
                symbols[(0, *place)] += move
                each = bits(symbols)
                each[place] = 0
                ends.append(float(each.sum()))
            slope = (ends[0] - ends[1]) / 2e-4
            assert float(gradient[place]) == pytest.approx(slope, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_training_is_told_makes_the_same_latent(released, channels):
    """It knows nothing of neighbours; what it is told makes up for that."""
    refiner = refiner_of(released, planes_of(channels), 31)
    encoder, entropy, rates = refiner.encoder, refiner.entropy, refiner.encoder.rates
    with full_precision(released.device):
        run = encoder.encode_two_pass()
        z = encoder.z.float() / FRACTION
        features = entropy.first_features(z, rates)
        _, features, _ = entropy.code_modes(features, only(run.modes), rates)
        y = released.blocks(encoder.coefficients, run.modes)
        errors = []
        for symbols in (refiner.training_symbols(run), run.coded[None].float() / FRACTION):
            made = entropy(y, run.modes, features, z, rates, torch.ones(1), symbols).latent
            # Files clamp the latent to 16 bits; where nothing is coded this model predicts more.
            made = made.clamp(-(2**12), 2**12 - 1 / 8)
            error = (made - dequantised(run.latent)).abs() / encoder.step[:, None, None]
            errors.append(
                float(pixel_unshuffle(error, 2)[:, released.entropy.places(SCHEDULE[0])].mean())
            )
    # What rounding makes of it, against what neighbours do.
    assert errors[0] < 0.02 < errors[1]


@pytest.mark.parametrize("effort", first_is_quick([2, 3]))
def test_the_same_bytes_whatever_the_caller_does(weights, effort):
    planes = planes_of(3, (140, 100))

    def encode():
        return codec.encode_planes(planes, 31, effort=effort, device="cpu")

    torch.manual_seed(1)
    expected = encode()
    assert expected != codec.encode_planes(planes, 31, device="cpu")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    # What is loaded once is loaded again: fresh networks are drawn by chance.
    loaded.load.cache_clear()
    refine.trainable.cache_clear()
    assert encode() == expected
    with torch.no_grad():
        assert encode() == expected and not torch.is_grad_enabled()
    with torch.inference_mode():
        assert encode() == expected and torch.is_inference_mode_enabled()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encode() == expected
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_first_call_in_inference_mode(weights):
    """Nothing that is kept for later calls may come from there."""
    planes = planes_of(1, (70, 70))
    expected = codec.encode_planes(planes, 31, effort=2, device="cpu")
    loaded.load.cache_clear()
    refine.trainable.cache_clear()
    with torch.inference_mode():
        assert codec.encode_planes(planes, 31, effort=2, device="cpu") == expected
    assert codec.encode_planes(planes, 31, effort=2, device="cpu") == expected


def test_rounds_are_bounded(released, monkeypatch):
    counts, told = [], []
    gradient = Refiner.rd_gradient
    monkeypatch.setattr(Refiner, "rd_gradient", lambda *given: counts.append(1) or gradient(*given))
    for effort, rounds in ROUNDS.items():
        counts.clear()
        told.clear()
        codec.encode_planes(
            planes_of(1, (70, 70)), 31, effort=effort, on_round=lambda: told.append(1), device="cpu"
        )
        assert len(told) == rounds
        assert len(counts) == rounds
