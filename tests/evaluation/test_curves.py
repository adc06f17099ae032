import math
from dataclasses import replace

import pytest

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.curves import (
    bd_psnr,
    bd_rate,
    common_range,
    compare,
    frontier,
    in_db,
    mean,
)
from mvmic_codec.evaluation.report import markdown, objects
from mvmic_codec.evaluation.rows import Row

ANCHOR = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]


def row(codec, image, setting, bpp, psnr):
    return Row("set", image, codec, setting, 8, 8, 1, 10, bpp, psnr, None, None, None, 0.0, 0.0)


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
    assert mean(comparison.bd_rates) == pytest.approx(-40)
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


def test_a_constant_gain_is_its_bd_psnr():
    better = [(rate, quality + 0.7) for rate, quality in ANCHOR]
    assert bd_psnr(ANCHOR, better) == pytest.approx(0.7)
    assert bd_psnr(better, ANCHOR[::-1]) == pytest.approx(-0.7)


def test_rates_apart_have_no_bd_psnr():
    assert bd_psnr(ANCHOR, scaled(8)) is None
    assert bd_psnr(ANCHOR, scaled(7)) is None  # a seventh more than the highest rate
    assert bd_psnr(ANCHOR, scaled(6)) is not None
    assert bd_psnr(ANCHOR, ANCHOR[:1]) is None


def test_ms_ssim_in_db():
    assert in_db(0.9) == pytest.approx(10)
    assert in_db(0.999) == pytest.approx(30)
    assert in_db(1.0) == in_db(1.0 + 1e-7) == math.inf


def test_bd_rate_on_ms_ssim_counts_the_images_that_have_it():
    def with_ms_ssim(lines, gain):
        return [replace(line, ms_ssim=1 - 10 ** -((line.psnr - 20 + gain) / 10)) for line in lines]

    table = (
        with_ms_ssim(rows("jpeg", "a", ANCHOR), 0)
        + rows("jpeg", "b", ANCHOR)
        + with_ms_ssim(rows("mvm", "a", [(0.5 * rate, quality) for rate, quality in ANCHOR]), 0)
        + with_ms_ssim(rows("mvm", "b", ANCHOR), 0)
    )
    (comparison,) = compare(table, "mvm")
    assert comparison.ms_ssim_rates == pytest.approx({"a": -50})
    assert comparison.bd_psnrs == pytest.approx({"a": 3, "b": 0})
    page = markdown(table, "mvm")
    assert "| 30.0 to 39.0 | +1.50 | -50.0% |" in page
    assert "BD-rate on MS-SSIM is the mean of 1 of 2 images" in page
    assert "BD-PSNR is the mean of" not in page


def test_without_ms_ssim_there_is_a_dash():
    table = rows("jpeg", "a", ANCHOR) + rows("mvm", "a", scaled(0.5))
    assert "| 30.0 to 39.0 | +3.00 | - |" in markdown(table, "mvm")


def test_objects_hold_what_the_table_shows():
    table = rows("jpeg", "a", ANCHOR) + rows("jpeg", "d", ANCHOR) + rows("mvm", "a", scaled(0.5))
    (comparison,) = objects(table, "mvm")
    assert (comparison["set"], comparison["anchor"], comparison["test"]) == ("set", "jpeg", "mvm")
    assert comparison["bd_rate"] == comparison["bd_rate_of_means"] == pytest.approx(-50)
    assert comparison["bd_psnr"] == pytest.approx(3) and comparison["bd_rate_ms_ssim"] is None
    assert comparison["images"]["bd_rate"] == pytest.approx({"a": -50})
    assert comparison["unmatched"] == ["d"] and comparison["common_db"] == (30, 39)
    with pytest.raises(InputError, match="no rows of heic"):
        objects(table, "heic")
