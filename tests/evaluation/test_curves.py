import math
from dataclasses import replace

import pytest

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.curves import bd_rate, common_range, compare, frontier
from mvmic_codec.evaluation.report import markdown
from mvmic_codec.evaluation.rows import Row

ANCHOR = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]


def row(codec, image, setting, bpp, psnr):
    return Row("set", image, codec, setting, 8, 8, 1, 10, bpp, psnr, None, None, 0.0, 0.0)


def rows(codec, image, curve, variant=""):
    return [row(codec, image, f"{i}{variant}", *point) for i, point in enumerate(curve)]


def scaled(factor):
    return [(factor * rate, quality) for rate, quality in ANCHOR]


def test_a_constant_factor_is_its_bd_rate():
    assert bd_rate(ANCHOR, scaled(0.7)) == pytest.approx(-30)
    assert bd_rate(ANCHOR, scaled(2)) == pytest.approx(100)
    assert bd_rate(ANCHOR, scaled(0.5)[1:]) == pytest.approx(-50)


def test_the_order_of_points_does_not_matter():
    assert bd_rate(ANCHOR[::-1], scaled(0.7)) == pytest.approx(-30)


def test_frontier_drops_what_a_cheaper_point_beats():
    points = [(1.0, 30.0), (2.0, 29.0), (3.0, 31.0), (3.0, 30.5), (4.0, 31.0), (5.0, math.inf)]
    assert frontier(points) == [(1.0, 30.0), (3.0, 31.0)]


def test_curves_apart_have_no_bd_rate():
    far = [(rate, quality + 9) for rate, quality in ANCHOR]
    near = [(rate, quality + 8.5) for rate, quality in ANCHOR]
    assert common_range(ANCHOR, near) is None
    assert bd_rate(ANCHOR, far) is None
    assert bd_rate(ANCHOR, ANCHOR[:1]) is None


def test_compare_counts_and_names():
    table = (
        rows("jpeg", "a", ANCHOR, "/4:4:4")
        + rows("jpeg", "b", ANCHOR, "/4:2:0")
        + rows("jpeg", "c", [(rate, quality + 20) for rate, quality in ANCHOR])
        + rows("jpeg", "d", ANCHOR)
        + rows("mvm", "a", scaled(0.5))
        + rows("mvm", "b", scaled(0.7))
        + rows("mvm", "c", scaled(0.7))
    )
    (comparison,) = compare(table, "mvm")
    assert comparison.bd_rates == pytest.approx({"a": -50, "b": -30})
    assert comparison.mean == pytest.approx(-40)
    assert comparison.apart == ["c"] and comparison.unmatched == ["d"]
    assert comparison.common == (30, 39)
    page = markdown(table, "mvm")
    assert "| set | jpeg | -40.0% | " in page and "| 2 of 3 | 30.0 to 39.0 |" in page
    assert "no common range on 1 image(s): c" in page


def test_curve_of_means():
    table = (
        rows("jpeg", "a", ANCHOR, "/4:4:4")
        + rows("jpeg", "b", scaled(3), "/4:2:0")
        + rows("mvm", "a", scaled(0.5))
        + rows("mvm", "b", scaled(1.5))
    )
    (comparison,) = compare(table, "mvm")
    assert comparison.of_means == pytest.approx(-50)


def test_a_row_given_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        compare(rows("jpeg", "a", ANCHOR) * 2 + rows("mvm", "a", ANCHOR), "mvm")


def test_no_rows_of_the_codec():
    with pytest.raises(InputError, match="no rows of mvm"):
        markdown(rows("jpeg", "a", ANCHOR), "mvm")


def test_sets_without_rows_of_the_codec_are_named():
    other = [replace(line, set="other") for line in rows("jpeg", "a", ANCHOR)]
    page = markdown(other + rows("jpeg", "a", ANCHOR) + rows("mvm", "a", ANCHOR), "mvm")
    assert "without rows of mvm: other" in page
