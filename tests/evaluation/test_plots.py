import io
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from report_rows import rows, table

from mvmic_codec.evaluation.palette import styles
from mvmic_codec.evaluation.plots import plot
from mvmic_codec.evaluation.views import views

pytest.importorskip("matplotlib")


def texts_of(svg):
    return [
        " ".join(e.itertext()).strip()
        for e in ElementTree.fromstring(svg).iter()
        if e.tag[-4:] == "text"
    ]


def test_a_plot_is_as_wide_as_two_columns_and_names_its_codecs():
    view = views(table(), "mvm")[1]
    files = plot(view, "mvm")
    image = Image.open(io.BytesIO(files[".png"])).convert("RGB")
    assert image.width == 2100
    seen = {tuple(colour) for colour in np.asarray(image).reshape(-1, 3)}
    for style in styles(["mvm", "jpeg", "vvc"], "mvm").values():
        assert tuple(bytes.fromhex(style.light[1:])) in seen
    texts = texts_of(files[".svg"])
    assert {"mvm", "jpeg", "vvc", "PSNR, dB", "MS-SSIM, dB", "bits per pixel"} <= {*texts}
    assert "chest, mean over 1 image" in texts


def test_the_same_rows_give_the_same_files():
    view = views(table(), "mvm")[0]
    files = plot(view, "mvm")
    assert files == plot(view, "mvm") and b"dc:date" not in files[".svg"]


def test_names_are_no_formulas():
    (view,) = views(rows("mvm", "$x_1$", "i") + rows("_$\\frac$", "$x_1$", "i"), "mvm")
    texts = texts_of(plot(view, "mvm")[".svg"])
    assert "$x_1$, mean over 1 image" in texts and "_$\\frac$" in texts


def test_only_what_there_are_figures_of():
    (view,) = views(rows("mvm", "s", "i", ms_ssim=False), "mvm")
    assert "MS-SSIM, dB" not in texts_of(plot(view, "mvm")[".svg"])
    nothing = [replace(row, psnr=float("inf")) for row in rows("mvm", "s", "i", ms_ssim=False)]
    assert plot(views(nothing, "mvm")[0], "mvm") == {}
