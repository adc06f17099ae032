import json

from click.testing import CliRunner
from PIL import Image

from mvmic_codec import api
from mvmic_codec.cli import main
from mvmic_codec.model import identity


def test_text(mvmic, gray):
    assert mvmic("encode", gray, "-q", "3").exit_code == 0
    result = mvmic("info", gray.with_suffix(".mvm"))
    assert result.exit_code == 0
    words = {line.split("  ")[0].strip(): line for line in result.stdout.splitlines()}
    assert words["width"].endswith("40") and words["quality"].endswith("3.0")
    assert words["range"].endswith("0 to 255") and words["metadata"].endswith("none")


def test_json(mvmic, tmp_path, fake_codec):
    path = tmp_path / "x.mvm"
    path.write_bytes(api.encode(Image.new("RGB", (5, 4)), rate_index=7, text={"who": "nobody"}))
    bad = tmp_path / "bad.mvm"
    bad.write_text("nothing")
    result = mvmic("info", path, bad, "--json")
    assert result.exit_code == 1
    (described,) = json.loads(result.stdout)
    assert described["rate_index"] == 7 and described["mode"] == "RGB"
    assert described["bytes"] == path.stat().st_size
    assert list(described["metadata"]) == ["teXT"]
    assert result.stderr == f"mvmic: {bad}: this is not an mvm file\n"


def test_files_or_the_model(mvmic, gray):
    assert mvmic("info").exit_code == 2
    assert mvmic("info", gray, "--model").exit_code == 2


def test_model(tmp_path, monkeypatch):
    run = CliRunner().invoke
    card = identity.Identity("m1", "00" * 8, {}, 123, 17.5, 18.0, "none")
    monkeypatch.setattr(identity, "WEIGHTS", tmp_path)
    empty = run(main, ["info", "--model"])
    assert empty.exit_code == 1 and "holds no model" in empty.stderr
    (tmp_path / "m1.json").write_text(card.to_json())
    result = run(main, ["info", "--model", "--json"])
    assert result.exit_code == 0
    (described,) = json.loads(result.stdout)
    assert described["name"] == "m1" and described["parameters"] == 123
    assert described["decode_kmac_per_pixel"] == 17.5 and described["rates"] == 64
