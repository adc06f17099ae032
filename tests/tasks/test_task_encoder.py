"""benchmarks/task_encoder.py: equal bits, paired differences, and a table that goes on."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from task_files import picture

from mvmic_codec.errors import InputError
from mvmic_codec.model.identity import default_identity, find_identity
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.tuned import EncoderCard, load_encoder, save_encoder
from mvmic_codec.tasks.heads import Card, Head, make_network, save_head
from mvmic_codec.tasks.layouts import folder_of_masks

SCRIPT = Path(__file__).parents[2] / "benchmarks/task_encoder.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("task_encoder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["task_encoder"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["task_encoder"]


@pytest.fixture
def study(tmp_path):
    """Two images with masks, and the files of three heads."""
    for seed in range(2):
        pixels, disc = picture(seed)
        for name, values in (("images", pixels[:64, :96]), ("masks", 255 * disc[:64, :96])):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / name / f"{seed}.png")
    for seed in range(3):
        torch.manual_seed(seed)
        fingerprint = default_identity(False).fingerprint
        card = Card("", "fpn", fingerprint, {"s16": 224}, ["disc"], 12, [0, 63], "", "", {})
        save_head(Head(card, make_network(card).eval()), tmp_path / f"{seed}.safetensors")
    return tmp_path


def heads(script, study):
    paths = [study / f"{seed}.safetensors" for seed in range(3)]
    head, *judges = script.heads_of(paths, "cpu").items()
    return head[1], dict(judges)


def test_equal_bits_are_those_that_all_ways_have(script):
    plain = [(100, 0.0), (10000, 2.0)]  # log10 of the size, less 2
    better = [(1000, 1.5), (100000, 3.5)]
    found = script.at_equal_bits({"plain": plain, "map": better})
    assert found["map"] - found["plain"] == pytest.approx(0.5)
    assert found["plain"] == pytest.approx(1.5)
    assert script.at_equal_bits({"plain": plain, "map": [(20000, 1), (30000, 2)]}) is None


def row(script, image, way, step, judge, gain):
    # At the same index a map takes more bytes: that is no gain.
    size = round(1000 * 2**step * (1.5 if way == "map" else 1))
    iou = 0.1 * np.log2(size / 1000) + 0.2 + gain
    return script.Row("x", image, way, 6 * step, size, 30 + step, judge, iou)


def test_differences_are_paired_and_at_equal_bits(script):
    gains = {"plain": (0, 0), "map": (0.1, 0.3), "mirrored": (0.1, 0.1)}
    rows = [
        row(script, image, way, step, judge, gains[way][image == "b"] * (judge == "J"))
        for image in "ab" for way in gains for step in range(3) for judge in "JK"
    ]  # fmt: skip
    lines = script.table(rows).splitlines()
    assert lines[0] == "| score | map - plain | mirrored - plain | map - mirrored |"
    assert lines[3] == "| IoU, J | +0.2000 (0.1000) | +0.1000 (0.0000) | +0.1000 (0.1000) |"
    assert lines[4] == "| IoU, K | +0.0000 (0.0000) | +0.0000 (0.0000) | +0.0000 (0.0000) |"
    assert lines[5].startswith("| IoU, mean of judges | +0.1000 (0.0500) |")
    # Equal PSNR at one and a half times the bytes is a loss.
    assert lines[2].startswith("| PSNR in dB | -0.58")
    assert lines[-1] == "2 images"
    with pytest.raises(InputError, match="at least 2 images"):
        script.table([each for each in rows if each.image == "a"])


def test_the_table_goes_on_where_it_stopped(script, study, monkeypatch):
    head, judges = heads(script, study)
    items = folder_of_masks(study / "images", study / "masks").items
    measured = []

    def rows_of(item, study, judges, indices, device):
        measured.append(item.name)
        return [
            script.Row(study.setting, item.name, way, index, 100 + index, 1 / 3, judge, 2 / 3)
            for index in indices for way in study.ways for judge in judges
        ]  # fmt: skip

    monkeypatch.setattr(script, "rows_of", rows_of)
    path = study / "x.csv"

    def measure(judges, power=0.25):
        study = script.Study(head, power, {})
        return script.measure(items, study, judges, (12, 24), path, "cpu")

    first, second = ({name: each} for name, each in judges.items())
    expected = measure(first)
    assert measured == ["0", "1"] and len(expected) == 2 * 2 * 3
    whole = path.read_bytes()
    assert measure(first) == expected and measured == ["0", "1"]
    # Killed in the middle of a number.
    path.write_bytes(whole[:-5])
    assert measure(first) == expected and measured == ["0", "1", "1"]
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    # Another judge leaves the rows of the first.
    measure(second)
    assert measure(first) == expected and len(measured) == 5
    with pytest.raises(InputError, match="of another head, power or encoder"):
        measure(first, power=0.5)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is not a table of this program"):
        measure(first)


def test_judges_must_differ(script, study):
    paths = [study / "0.safetensors", study / "0.safetensors"]
    with pytest.raises(InputError, match="given twice"):
        script.heads_of(paths, "cpu")


@pytest.mark.slow
def test_the_whole_experiment(script, study):
    head, judges = heads(script, study)
    items = folder_of_masks(study / "images", study / "masks").items
    ways = script.Study(head, 0.5, {})
    rows = script.measure(items, ways, judges, (12, 36), study / "x.csv", "cpu")
    assert len(rows) == 2 * 3 * 2 * 2 and script.read_rows(study / "x.csv") == rows
    files = {(r.image, r.way, r.index): (r.bytes, r.psnr) for r in rows}
    assert len(set(files.values())) > len(files) * 2 / 3
    assert "2 images" in script.table(rows)


def tuned_encoder(path, change):
    """An encoder of the installed model, changed a little."""
    identity, weights = find_identity(bytes.fromhex(default_identity(False).fingerprint))
    model = model_of(weights)
    with torch.no_grad():
        model.analysis.leave.bias.add_(change)
    save_encoder(model, EncoderCard(identity.fingerprint, 0.5, [0, 63], "", "", ""), path)
    return load_encoder(path)


def test_encoders_are_ways_of_their_own(script, study):
    """Without a head of a map, and with one."""
    (item, *_) = folder_of_masks(study / "images", study / "masks").items
    head, judges = heads(script, study)
    path = study / "x.tuned.safetensors"
    encoders = {way: tuned_encoder(path, k) for k, way in enumerate(("untasked", "tuned"))}
    ways = script.Study(None, 0.25, encoders)
    assert ways.ways == ["plain", "tuned", "untasked"]
    assert script.Study(head, 0.25, encoders).ways == list(script.WAYS)
    settings = {script.Study(each, 0.25, some).setting for each in (None, head)
                for some in ({}, encoders, {"tuned": encoders["untasked"]})}  # fmt: skip
    assert len(settings) == 6
    first = dict([judges.popitem()])
    sizes = {
        row.way: (row.bytes, row.psnr) for row in script.rows_of(item, ways, first, (18,), "cpu")
    }
    assert sizes["untasked"] == sizes["plain"] != sizes["tuned"]


def test_differences_of_encoders_are_shown_where_they_were_measured(script):
    gains = {"plain": (0, 0), "untasked": (0.1, 0.1), "tuned": (0.1, 0.3)}
    rows = [
        row(script, image, way, step, "J", gains[way][image == "b"])
        for image in "ab" for way in gains for step in range(3)
    ]  # fmt: skip
    lines = script.table(rows).splitlines()
    assert lines[0] == "| score | tuned - plain | untasked - plain | tuned - untasked |"
    assert lines[3] == "| IoU, J | +0.2000 (0.1000) | +0.1000 (0.0000) | +0.1000 (0.1000) |"


def test_a_study_needs_another_way(script, study):
    options = ["--judge", str(study / "0.safetensors"), "--csv", str(study / "x.csv")]
    folders = [str(study / "images"), str(study / "masks")]
    result = CliRunner().invoke(script.main, [*folders, *options])
    assert result.exit_code == 2 and "give --head, --encoder or --untasked" in result.output
    head = str(study / "1.safetensors")
    result = CliRunner().invoke(script.main, [*folders, *options, "--encoder", head])
    assert result.exit_code == 1 and "is not an encoder" in result.output
