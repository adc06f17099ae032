"""Plots of scores."""

import pytest

from mvmic_codec.tasks.score_plot import Curve, draw_scores

CURVES = [
    Curve("mvm, features s16", [(0.12, 0.8, 0.02), (0.03, 0.6, 0.05)]),
    Curve("original, pixels", [(None, 0.7, 0.04)]),
]


def test_a_plot_says_what_it_shows():
    text = draw_scores(CURVES, "mIoU", "frames", "svg").decode()
    for word in ("bits per pixel", "mIoU", "frames", *(curve.label for curve in CURVES), "0.05"):
        assert f">{word}<" in text
    assert draw_scores(CURVES, "mIoU", "frames", "svg").decode() == text


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_other_forms(form, magic):
    assert draw_scores(CURVES, "mIoU", "frames", form).startswith(magic)


def test_nothing_to_draw():
    assert b"<svg" in draw_scores([], "mIoU", "frames", "svg")
