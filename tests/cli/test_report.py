import numpy as np
import pytest
from PIL import Image
from report_rows import rows, table

from mvmic_codec.evaluation.rows import format_rows


@pytest.fixture
def tables(tmp_path):
    """Rows of mvm in one file, and those of the others in a folder."""
    ours, peers = tmp_path / "mvm.csv", tmp_path / "peers"
    peers.mkdir()
    # Without empty seconds: tables of other versions may not have them.
    timed = [row for row in table() if row.codec != "vvc"] + rows("vvc", "chest", "b.png", 1.5)
    ours.write_text(format_rows(row for row in timed if row.codec == "mvm"))
    for codec in ("jpeg", "avif", "vvc"):
        (peers / f"{codec}.csv").write_text(format_rows(r for r in timed if r.codec == codec))
    return ours, peers


def test_a_page_and_plots(mvmic, tables, gray, deep, tmp_path):
    ours, peers = tables
    out = tmp_path / "new" / "report"
    result = mvmic(
        *("report", out, ours, "--peers-dir", peers),
        *("--image", gray, "--image", deep, "--against", "jpeg"),
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "index.html",
        *(f"{name}{suffix}" for name in ("chest", "chest-1-images", "bowel") for suffix in PLOTS),
    }
    page = (out / "index.html").read_text()
    assert "models fake (0102030405060708) and fake" in page
    assert "gray.png" in page and "rendering to 8" in page and "avif and vvc</h1>" in page
    Image.open(out / "chest.png").verify()


PLOTS = (".png", ".svg")


def test_without_images_no_model_is_run(mvmic, fake_codec, tables, tmp_path):
    fake_codec.EncodeCandidate = None
    assert mvmic("report", tmp_path / "out", *tables[:1]).exit_code == 0


def test_another_codec_under_test(mvmic, tables, tmp_path):
    ours, peers = tables
    out = tmp_path / "out"
    assert mvmic("report", out, ours, "--peers-dir", peers, "--test", "jpeg").exit_code == 0
    assert "<h1>jpeg against avif, vvc and mvm</h1>" in (out / "index.html").read_text()


def refused(mvmic, *arguments):
    result = mvmic("report", *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("mvmic: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_errors_are_one_sentence_and_write_nothing(mvmic, tables, gray, tmp_path):
    ours, peers = tables
    out, empty = tmp_path / "out", tmp_path / "empty.csv"
    empty.write_text(format_rows([]))
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    assert refused(mvmic, out, empty) == "mvmic: the tables hold no rows\n"
    assert "no rows of hevc" in refused(mvmic, out, ours, "--test", "hevc")
    assert "'hevc' cannot be shown" in refused(mvmic, out, ours, "--against", "hevc")
    assert "bad.png" in refused(mvmic, out, ours, "--image", gray, "--image", bad)
    assert "no such file" in refused(mvmic, out, ours, "--image", tmp_path / "none.png")
    assert "no such file" in refused(mvmic, out, tmp_path / "none.csv")
    assert "holds no CSV tables" in refused(mvmic, out, ours, "--peers-dir", out)
    assert "twice" in refused(mvmic, out, ours, ours)
    assert "is not a folder" in refused(mvmic, gray, ours)
    assert not out.exists()


def test_an_image_that_cannot_be_coded_stops_the_report(mvmic, tables, gray, tmp_path, monkeypatch):
    def fail(image, file, form, **options):
        raise ValueError("not today")

    out = tmp_path / "out"
    monkeypatch.setattr(Image.Image, "save", fail)
    message = refused(mvmic, out, tables[0], "--image", gray, "--against", "jpeg")
    assert "gray.png: JPEG cannot write this image: not today" in message
    assert not out.exists()


def test_a_folder_with_files_is_only_written_by_force(mvmic, tables, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    arguments = ("report", out, tables[0])
    assert mvmic(*arguments).exit_code == 0
    (out / "index.html").write_text("earlier")
    (out / "notes.txt").write_text("mine")
    assert "--force" in refused(mvmic, *arguments[1:])
    assert (out / "index.html").read_text() == "earlier"
    assert mvmic(*arguments, "--force").exit_code == 0
    assert (out / "index.html").read_text().startswith("<!DOCTYPE html>")
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_plots_stay_in_the_folder_whatever_a_set_is_called(mvmic, tmp_path):
    names = ["../../up", "..", "/root", "a/b", "a b", "é" * 300, "index.html"]
    path, out = tmp_path / "mvm.csv", tmp_path / "deep" / "er" / "out"
    path.write_text(format_rows(row for name in names for row in rows("mvm", name, "i")))
    assert mvmic("report", out, path).exit_code == 0
    assert len(list(out.iterdir())) == 1 + 2 * len(names)
    assert not any(path.name.startswith(".") for path in out.iterdir())
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == {path, *out.iterdir()}


def test_a_missing_package_is_named_with_its_remedy(mvmic, tables, tmp_path, monkeypatch):
    monkeypatch.setattr("mvmic_codec.evaluation.find_spec", lambda name: None)
    assert "pip install 'mvmic_codec[eval]'" in refused(mvmic, tmp_path / "out", tables[0])


def test_help(mvmic):
    assert "report" in mvmic("--help").stdout
    assert "--peers-dir" in mvmic("report", "--help").stdout


def test_large_values_are_no_trouble(mvmic, tmp_path):
    path = tmp_path / "mvm.csv"
    path.write_text(format_rows(rows("mvm", "s", "i", 1e-6) + rows("jpeg", "s", "i", 1e6)))
    assert mvmic("report", tmp_path / "out", path).exit_code == 0
    assert np.asarray(Image.open(tmp_path / "out" / "s.png")).any()
