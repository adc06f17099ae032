import math
from dataclasses import replace

import pytest
from report_rows import rows, table

from mvmic_codec.evaluation.curves import bd_rate, compare
from mvmic_codec.evaluation.palette import styles
from mvmic_codec.evaluation.views import FIGURES, codecs_of, costs, frame, views


def lines_of(view):
    return [line.codec for line in view.lines]


def test_curves_stand_beside_curves_of_the_same_images_only():
    all_three, one, bowel = views(table(), "mvm")
    assert (all_three.set, all_three.images) == ("chest", 3)
    assert lines_of(all_three) == ["mvm", "jpeg"]
    assert (one.set, one.images) == ("chest", 1)
    assert lines_of(one) == ["mvm", "jpeg", "vvc"]
    assert (bowel.set, bowel.images, lines_of(bowel)) == ("bowel", 1, ["mvm", "avif"])
    # Image b alone has the mean rate of all three, so the mean is told by two of them.
    without_c = [row for row in table() if row.image != "c.png"]
    assert views(without_c, "mvm")[0].lines[0].points[0].bpp == pytest.approx(0.15)
    assert one.lines[0].points[0].bpp == pytest.approx(0.2)


def test_points_are_the_curve_of_means_that_bd_rate_is_taken_on():
    seen = {(found.set, found.anchor): found for found in compare(table(), "mvm")}
    view = views(table(), "mvm")[0]
    mvm, jpeg = ([(point.bpp, point.psnr) for point in line.points] for line in view.lines)
    assert bd_rate(jpeg, mvm) == pytest.approx(seen["chest", "jpeg"].of_means)
    assert seen["chest", "jpeg"].of_means == pytest.approx(100 * (6 / 14 - 1))


def test_images_without_rows_of_the_codec_under_test_do_not_count():
    view = views([*table(), *rows("jpeg", "chest", "z.png")], "mvm")[0]
    assert view.images == 3 and lines_of(view) == ["mvm", "jpeg"]
    overlapping = [
        *(row for image in "ab" for row in rows("jpeg", "s", image)),
        *(row for image in "bc" for row in rows("mvm", "s", image)),
    ]
    (view,) = views(overlapping, "mvm")
    assert view.images == 1 and lines_of(view) == ["mvm", "jpeg"]


def test_a_set_without_the_codec_under_test_is_drawn_all_the_same():
    (view,) = views(rows("jpeg", "other", "a") + rows("webp", "other", "a"), "mvm")
    assert lines_of(view) == ["jpeg", "webp"]


def test_settings_that_an_image_lacks_are_left_out():
    short = [row for row in table() if (row.image, row.codec, row.setting) != ("a.png", "mvm", "2")]
    mvm = views(short, "mvm")[0].lines[0]
    assert [point.setting for point in mvm.points] == ["0", "1", "3"]


def test_variants_of_a_setting_are_one_point():
    varied = [replace(row, setting=f"{row.setting}/4:{len(row.image)}") for row in table()]
    assert [p.setting for p in views(varied, "mvm")[0].lines[0].points] == ["0", "1", "2", "3"]


def test_ms_ssim_is_in_db_and_missing_or_infinite_figures_are_none():
    mvm, *_, vvc = views(table(), "mvm")[1].lines
    assert [point.ms_ssim for point in mvm.points] == pytest.approx([15, 16.5, 18, 19.5])
    assert [point.ms_ssim for point in vvc.points] == [None] * 4
    exact = [replace(row, psnr=math.inf, ms_ssim=1.0) for row in rows("mvm", "s", "i")]
    (point, *_) = views(exact, "mvm")[0].lines[0].points
    assert point.psnr is None and point.ms_ssim is None


def test_a_frame_is_the_reach_of_the_codec_under_test():
    wide = rows("mvm", "s", "i") + rows("jpeg", "s", "i", 10)
    (view,) = views(wide, "mvm")
    rates, values = frame(view, "mvm", FIGURES["PSNR"])
    assert rates == pytest.approx((0.1, 1.2)) and values == (30, 39)
    assert frame(view, "other", FIGURES["PSNR"])[0] == pytest.approx((0.1, 8))


def test_costs_are_medians_per_megapixel():
    slow = rows("mvm", "chest", "slow.png", 100)
    found = {(cost.set, cost.codec): cost for cost in costs([*table(), *slow], "mvm")}
    # The 2000 pixels of an image take 2, 4, 6 and 200 ms to encode, and 1, 2, 3 and 100 MiB.
    assert found["chest", "mvm"].encode_s == pytest.approx(2.5)
    assert found["chest", "mvm"].decode_s == pytest.approx(5.0)
    assert found["chest", "mvm"].encode_mib == pytest.approx(1250)
    assert found["chest", "mvm"].decode_mib == pytest.approx(625)
    vvc = found["chest", "vvc"]
    assert vvc.encode_s is vvc.decode_s is vvc.encode_mib is vvc.decode_mib is None


def test_codecs_in_order_with_a_look_each():
    named = [row for name in ("zz", "vvc", "aa", "jpeg", "mvm") for row in rows(name, "s", "i")]
    codecs = codecs_of(named, "mvm")
    assert codecs == ["mvm", "jpeg", "vvc", "aa", "zz"]
    assert len({style.light for style in styles(codecs, "mvm").values()}) == 5
    assert styles(["mvm", "jpeg"], "mvm")["jpeg"] == styles(codecs, "mvm")["jpeg"]


@pytest.mark.parametrize("background", ["light", "dark"])
def test_colours_stand_out_from_the_page(background):
    def luminance(colour):
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    paper = luminance({"light": "#ffffff", "dark": "#14171c"}[background])
    names = ["mvm", "jpeg", "jpeg2000", "webp", "avif", "heic", "jxl", "bpg", "vvc"]
    for name, style in styles(names, "mvm").items():
        low, high = sorted([paper, luminance(getattr(style, background))])
        assert (high + 0.05) / (low + 0.05) >= 3, name  # WCAG 1.4.11, graphics
