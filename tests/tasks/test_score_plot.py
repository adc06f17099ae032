"""Plots of scores."""

import re

import pytest

from mvmic_codec.tasks.score_plot import Curve, draw_scores

CURVES = [
    Curve("mvm", "features s16", [(0.12, 0.8, 0.02), (0.03, 0.6, 0.05)]),
    Curve("original", "pixels", [(None, 0.7, 0.04)]),
]


def test_a_plot_says_what_it_shows():
    text = draw_scores(CURVES, "mIoU", "frames", "svg").decode()
    for word in ("bits per pixel", "mIoU", "frames", *(curve.label for curve in CURVES), "0.05"):
        assert f">{word}<" in text
    assert draw_scores(CURVES, "mIoU", "frames", "svg").decode() == text


def test_no_two_curves_look_alike():
    """Of more curves than there are colours."""
    codecs = ("mvm", "jpeg", "jpeg2000", "avif", "heic", "bpg", "vvc")
    points = [(0.1, 0.5, 0.01), (0.2, 0.6, 0.01)]
    curves = [Curve(c, judge, points) for c in codecs for judge in ("s16", "light", "deep")]
    text = draw_scores(curves, "mIoU", "frames", "svg").decode()
    lines = set(re.findall(r'style="(fill: none; [^"]*stroke-width: (?:1.8|0.9)\b[^"]*)"', text))
    assert len(lines) == len(curves)


@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_other_forms(form, magic):
    assert draw_scores(CURVES, "mIoU", "frames", form).startswith(magic)


def test_nothing_to_draw():
    assert b"<svg" in draw_scores([], "mIoU", "frames", "svg")
