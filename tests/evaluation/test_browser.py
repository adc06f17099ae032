"""The page of a report in a real browser, from a file and without a network.

Needs the package playwright and a Chromium: the program that MVMIC_BROWSER names, or one on PATH.
"""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from report_rows import picture, table

from mvmic_codec.evaluation.page import page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
BROWSER = os.environ.get("MVMIC_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
if BROWSER is None:
    pytest.skip("no Chromium: MVMIC_BROWSER names none, PATH has none", allow_module_level=True)


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("a report?") / "index.html"
    path.write_text(page(table(), "mvm", "maker", [picture("one.png"), picture("two.png")]))
    return path


@pytest.fixture
def opened(chromium, report):
    """Opens the page; at the end it must have had no trouble and asked for nothing but itself."""
    contexts, trouble = [], []

    def open_page(width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("request", lambda request: trouble.append(request.url) if foreign(request) else None)
        tab.goto(report.as_uri())
        return tab

    def foreign(request):
        return request.url != report.as_uri() and not request.url.startswith("data:")

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def pixels(element):
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("L")).astype(int)


def level(shot, x, y=0.1):
    """Gray level at a share of a screenshot's width, away from the divider's knob."""
    return shot[int(y * shot.shape[0]), int(x * shot.shape[1])]


# Levels of the decodes that the viewer opens with, see report_rows.picture.
OURS, THEIRS = 51, 201


def stage_of(tab, number=0):
    stage = tab.locator(".stage").nth(number)
    stage.scroll_into_view_if_needed()
    return stage


def test_arrow_keys_move_the_divider(opened):
    tab = opened()
    stage = stage_of(tab)
    divider = stage.get_by_role("slider")
    before = pixels(stage)
    assert (level(before, 0.45), level(before, 0.6)) == (OURS, THEIRS)
    divider.focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    after = pixels(stage)
    assert (level(after, 0.6), level(after, 0.8)) == (OURS, THEIRS)
    assert divider.get_attribute("aria-valuenow") == "70"
    assert "mvm, at 1" in divider.get_attribute("aria-valuetext")
    tab.keyboard.press("Home")
    assert level(pixels(stage), 0.1) == THEIRS
    tab.keyboard.press("End")
    assert level(pixels(stage), 0.9) == OURS
    tab.keyboard.press("PageDown")
    assert divider.get_attribute("aria-valuenow") == "90"


def test_the_mouse_drags_the_divider(opened):
    tab = opened()
    stage = stage_of(tab)
    box, handle = stage.bounding_box(), stage.locator(".divider").bounding_box()
    tab.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 50, steps=5)
    assert level(pixels(stage), 0.55) == OURS, "it moves with the mouse"
    tab.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 50, steps=5)
    tab.mouse.up()
    moved = stage.locator(".divider").bounding_box()
    middle = (moved["x"] + moved["width"] / 2 - box["x"]) / box["width"]
    assert middle == pytest.approx(0.2, abs=0.01)
    shot = pixels(stage)
    assert (level(shot, 0.1), level(shot, 0.35)) == (OURS, THEIRS)
    tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 50)
    assert level(pixels(stage), 0.35) == THEIRS, "nothing is held any more"


def test_a_finger_drags_the_divider(opened):
    tab = opened(width=375, has_touch=True, is_mobile=True)
    stage = stage_of(tab)
    box = stage.bounding_box()
    tab.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 40)
    assert level(pixels(stage), 0.7) == OURS


def test_one_viewer_leaves_the_other_alone(opened):
    tab = opened()
    stage_of(tab, 1).get_by_role("slider").press("End")
    assert level(pixels(stage_of(tab, 1)), 0.6) == OURS
    assert level(pixels(stage_of(tab, 0)), 0.6) == THEIRS


def choose(tab, group, option):
    viewer = tab.locator(".viewer").first
    viewer.get_by_role("group", name=group, exact=True).get_by_label(option, exact=True).click()


def test_versions_and_rates_are_chosen_by_buttons(opened):
    tab = opened()
    stage = stage_of(tab)
    captions = tab.locator(".captions").first
    assert captions.inner_text().split("\n")[:2] == [
        "mvm, at 1",
        "2,000 bytes, 0.2667 bpp, 31.00 dB",
    ]
    choose(tab, "Rate", "q = 5")
    shot = pixels(stage)
    assert (level(shot, 0.25), level(shot, 0.75)) == (OURS + 1, THEIRS + 1)
    assert "avif, at 2" in captions.inner_text() and "2,999 bytes" in captions.inner_text()
    choose(tab, "Left", "original")
    shot = pixels(stage)
    assert shot[:, : shot.shape[1] // 3].std() > 50 and level(shot, 0.75) == THEIRS + 1
    assert "12,345 bytes" in captions.inner_text()
    choose(tab, "Right", "original")
    assert pixels(stage)[20:50, -300:].std() > 50
    choose(tab, "Right", "mvm")
    assert level(pixels(stage), 0.75) == OURS + 1


def stripe_width(shot):
    """Width in pixels of a stripe of the original in a screenshot; nothing may be smoothed."""
    row = shot[2 * shot.shape[0] // 5, shot.shape[1] * 2 // 5 : shot.shape[1] * 9 // 20]
    assert {*row.tolist()} == {0, 255}
    edges = np.flatnonzero(row[1:] != row[:-1])
    return np.median(np.diff(edges))


def test_zoom_and_pan(opened):
    tab = opened()
    stage = stage_of(tab)
    image = stage.locator("img").first
    choose(tab, "Left", "original")
    fit = image.bounding_box()
    room = stage.bounding_box()
    assert fit["height"] == pytest.approx(room["height"], abs=1)
    for option, times in (("100%", 1), ("200%", 2), ("400%", 4)):
        choose(tab, "Zoom", option)
        box = image.bounding_box()
        assert (box["width"], box["height"]) == (300 * times, 200 * times)
        middle = box["x"] + box["width"] / 2 - room["x"]
        assert middle == pytest.approx(room["width"] / 2, abs=1)
        assert stripe_width(pixels(stage)) == times
    tab.mouse.move(room["x"] + 150, room["y"] + 100)
    tab.mouse.down()
    tab.mouse.move(room["x"] + 120, room["y"] + 110, steps=3)
    tab.mouse.up()
    panned = image.bounding_box()
    assert (panned["x"] - box["x"], panned["y"] - box["y"]) == (-30, 10)
    assert stage.get_by_role("slider").get_attribute("aria-valuenow") == "50"
    stage.focus()
    tab.keyboard.press("ArrowLeft")
    assert image.bounding_box()["x"] == panned["x"] + 60
    for _ in range(40):
        tab.keyboard.press("ArrowRight")
    edge = image.bounding_box()
    assert edge["x"] + edge["width"] == pytest.approx(room["x"] + room["width"], abs=1)
    assert stage.get_by_role("slider").get_attribute("aria-valuenow") == "50"
    choose(tab, "Zoom", "fit")
    assert image.bounding_box() == fit


def test_values_are_read_from_a_chart_by_mouse_and_keys(opened):
    tab = opened()
    chart, tip = tab.locator(".chart").first, tab.locator("#tip")
    chart.scroll_into_view_if_needed()
    # A page hides the text when it scrolls, and hears of that with the next picture at the latest.
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert not tip.is_visible()
    mark = chart.locator(".c0 .mark").nth(1)
    place = mark.bounding_box()
    tab.mouse.move(place["x"] + 3, place["y"] + 3)
    assert tip.inner_text() == "mvm, setting 1: 0.4000 bpp, 33.00 dB"
    box = tip.bounding_box()
    assert box["y"] + box["height"] < place["y"] + 4 and box["x"] > 0
    tab.mouse.move(2, 2)
    assert not tip.is_visible()
    chart.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tip.inner_text() == "mvm, setting 1: 0.4000 bpp, 33.00 dB"
    tab.keyboard.press("ArrowDown")
    assert tip.inner_text().startswith("jpeg, setting ")
    tab.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_legend_hides_a_codec_in_every_chart(opened):
    tab = opened()
    button = tab.get_by_role("button", name="jpeg")
    lines = tab.locator("figure .codec.c1")
    shown = pixels(tab.locator(".chart").first)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not any(line.is_visible() for line in lines.all()) and lines.count() == 4
    assert (pixels(tab.locator(".chart").first) != shown).any()
    button.click()
    assert lines.first.is_visible()


FOCUSED = """() => {
  const element = document.activeElement;
  const shown = [element, element.nextElementSibling, element.firstElementChild].filter(Boolean);
  return [
    element.tagName + "." + (element.classList[0] || element.name || element.textContent),
    shown.some((each) => getComputedStyle(each).outlineStyle !== "none"),
  ];
}"""


def test_tab_reaches_everything_and_shows_where_it_is(opened):
    tab = opened()
    reached = []
    for _ in range(80):
        tab.keyboard.press("Tab")
        name, outlined = tab.evaluate(FOCUSED)
        if name.startswith("BODY"):
            break
        assert outlined, name
        reached.append(name)
    text = "\n".join(reached)
    for number in (0, 1):
        for group in ("left", "right", "rate", "zoom"):
            assert f"INPUT.{group}-{number}" in reached
    assert reached.count("DIV.divider") == reached.count("DIV.stage") == 2
    assert reached.count("svg.chart") >= 4 and text.count("BUTTON.") == 4
    assert text.count("A.") == 4 and text.count("SUMMARY.") >= 6


def test_arrow_keys_choose_within_a_group(opened):
    tab = opened()
    stage = stage_of(tab)
    tab.locator('input[name="rate-0"]:checked').focus()
    tab.keyboard.press("ArrowRight")
    assert level(pixels(stage), 0.25) == OURS + 1


@pytest.mark.parametrize(("scheme", "paper"), [("light", 255), ("dark", 24)])
def test_light_and_dark(opened, scheme, paper):
    tab = opened(color_scheme=scheme)
    shot = pixels(tab)
    assert shot[2, 2] == pytest.approx(paper, abs=8)
    colours = [
        tab.locator(f".legend .c{k} .mark").evaluate("e => getComputedStyle(e).fill")
        for k in range(4)
    ]
    assert len({*colours}) == 4


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_sticks_out_sideways(opened, width):
    tab = opened(width=width)
    for details in tab.locator("details").all():
        details.evaluate("e => e.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    box = stage_of(tab).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width


def test_reduced_motion_is_respected(opened):
    for wish, scroll in (("reduce", "auto"), ("no-preference", "smooth")):
        tab = opened(reduced_motion=wish)
        style = "getComputedStyle(document.documentElement).scrollBehavior"
        assert tab.evaluate(style) == scroll
        moving = tab.locator(".legend button").first.evaluate(
            "e => getComputedStyle(e).transitionDuration"
        )
        assert (moving == "0s") == (wish == "reduce")


def test_without_scripts_there_is_still_a_report(opened):
    tab = opened(java_script_enabled=False)
    assert tab.locator(".chart").first.is_visible()
    shot = pixels(stage_of(tab))
    assert (level(shot, 0.25), level(shot, 0.75)) == (OURS, THEIRS)
