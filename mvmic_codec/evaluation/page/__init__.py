"""A report as one HTML page that needs nothing but a browser: no server, no network, no fonts.

page.css and page.js lie beside this module and are put into the page. Its only scripts are those:
the page's own policy lets no other run and nothing be loaded, whatever a file name holds.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files

from PIL import Image, features

from mvmic_codec.evaluation import chart
from mvmic_codec.evaluation.curves import LEAST_OVERLAP_DB, Comparison, compare, mean
from mvmic_codec.evaluation.metrics import Pixels
from mvmic_codec.evaluation.palette import Style, styles
from mvmic_codec.evaluation.pictures import QUALITIES, Coded, Picture
from mvmic_codec.evaluation.rows import Row
from mvmic_codec.evaluation.views import (
    FIGURES,
    Cost,
    View,
    codecs_of,
    costs,
    frame,
    sets_of,
    views,
)

# The rate that a viewer opens with, by place in QUALITIES.
_OPENING = 1
# Neither side of a WebP may be longer.
_WEBP_SIDE = 16383


def page(rows: Sequence[Row], test: str, maker: str, pictures: Sequence[Picture] = ()) -> str:
    """The whole page: `test` against the other codecs in the rows, then the pictures.

    maker  who made it: version and model, for the heading
    """
    codecs = codecs_of(rows, test)
    looks = styles(codecs, test)
    style, script = _asset("page.css") + _colours(looks), _asset("page.js")
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections = [
        ("rates", "Bits at equal quality", _rates(rows, test, codecs)),
        ("curves", "Rate and distortion", _curves(rows, test, looks)),
        ("pictures", "Side by side", _pictures(pictures)),
        ("speed", "Speed and memory", _speed(rows, test)),
    ]
    sections = [section for section in sections if section[2]]
    others = [codec for codec in codecs if codec != test]
    images = len({(row.set, row.image) for row in rows})
    title = f"{test} against {_listed(others)}" if others else f"Rates and distortions of {test}"
    summary = f"{images} images in {len(sets_of(rows))} sets, {len(codecs)} codecs"
    links = "".join(f'<a href="#{name}">{escape(head)}</a>' for name, head, _ in sections)
    body = "\n".join(
        f'<section id="{name}" aria-labelledby="{name}-head"><h2 id="{name}-head">{escape(head)}'
        f"</h2>\n{content}\n</section>"
        for name, head, content in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'sha256-{checksum}'">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<p class="maker">{escape(maker)}</p>
<h1>{escape(title)}</h1>
<p class="summary">{escape(summary)}</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{body}
</main>
<div id="tip" role="status" hidden></div>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _colours(looks: dict[str, Style]) -> str:
    light = "".join(f".c{k}{{--c:{look.light}}}" for k, look in enumerate(looks.values()))
    dark = "".join(f".c{k}{{--c:{look.dark}}}" for k, look in enumerate(looks.values()))
    return f"{light}\n@media (prefers-color-scheme: dark) {{{dark}}}\n"


# Bits at equal quality


def _rates(rows: Sequence[Row], test: str, codecs: Sequence[str]) -> str:
    comparisons = {(found.set, found.anchor): found for found in compare(rows, test)}
    if not comparisons:
        return ""
    anchors = [codec for codec in codecs if any(anchor == codec for _, anchor in comparisons)]
    sets = [name for name in sets_of(rows) if any(of == name for of, _ in comparisons)]
    return "\n".join(
        [
            f"<p>Bits that {escape(test)} takes more (+) or fewer (−) than each codec at the same "
            "PSNR: BD\u2011rate, mean over images. Whole files are counted.</p>",
            _table(
                ["set", *anchors],
                [
                    [_text(name), *(_rate(comparisons.get((name, a))) for a in anchors)]
                    for name in sets
                ],
                "bd",
            ),
            "<details><summary>All figures, and how they are taken</summary>",
            "<p>Interpolated by PCHIP on log rate over the range of PSNR that both codecs reach on "
            "an image; points that a cheaper one equals or beats are left out. The first figure is "
            "the mean over images, the second is taken on the curves of mean bpp and mean PSNR. An "
            f"image where the two share less than {LEAST_OVERLAP_DB:g} dB counts in neither the "
            "mean nor the images. Unmatched images have rows of one of the two codecs only. "
            "BD\u2011PSNR is the gain at equal bits, the last figure counts bits at equal MS-SSIM "
            "in dB; both are means over images.</p>",
            _table(
                ["set", "against", "mean over images", "on curve of means", "images", "apart"]
                + ["unmatched", "common range, dB", "BD-PSNR, dB", "on MS-SSIM"],
                [
                    _comparison(comparisons[name, anchor])
                    for name in sets
                    for anchor in anchors
                    if (name, anchor) in comparisons
                ],
                "bd long",
                texts=2,
            ),
            "</details>",
        ]
    )


def _rate(comparison: Comparison | None) -> str:
    if comparison is None:
        return "<td>–</td>"
    note = ""
    if comparison.unmatched or comparison.apart:
        note = f" <small>{_count(len(comparison.bd_rates))}</small>"
    return _percent(mean(comparison.bd_rates), note)


def _comparison(found: Comparison) -> list[str]:
    common = "–" if found.common is None else f"{found.common[0]:.1f} to {found.common[1]:.1f}"
    gain = mean(found.bd_psnrs)
    return [
        _text(found.set),
        _text(found.anchor),
        _percent(mean(found.bd_rates)),
        _percent(found.of_means),
        _cell(str(len(found.bd_rates))),
        _cell(str(len(found.apart))),
        _cell(str(len(found.unmatched))),
        _cell(common),
        _cell("–" if gain is None else _signed(gain, 2)),
        _percent(mean(found.ms_ssim_rates)),
    ]


def _percent(value: float | None, note: str = "") -> str:
    if value is None:
        return "<td>–</td>"
    text = _signed(value, 1)
    return f'<td class="{"fewer" if value < 0 else "more"}">{text}%{note}</td>'


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


# Rate and distortion


def _curves(rows: Sequence[Row], test: str, looks: dict[str, Style]) -> str:
    numbers = {codec: number for number, codec in enumerate(looks)}
    sizes = {name: _images(rows, name) for name in sets_of(rows)}
    parts = [
        "<p>Means over images at each setting. MS-SSIM is in dB, −10 log<sub>10</sub>(1 − "
        "MS-SSIM). A curve is drawn only beside curves of the same images, and cut where it leaves "
        f"the reach of {escape(test)}. Point at a chart, or focus it and use the arrow keys, to "
        "read a value.</p>",
        chart.CLIP,
        '<div class="legend" role="group" aria-label="Codecs to show">',
        *(
            f'<button type="button" class="c{number}" data-codec="c{number}" aria-pressed="true">'
            f"{_swatch(looks[codec])}{escape(codec)}</button>"
            for codec, number in numbers.items()
        ),
        "</div>",
    ]
    last = None
    for view in views(rows, test):
        figure = _figure(view, test, numbers, looks)
        if view.set != last:
            parts.append(f"<h3>{escape(view.set)}</h3>\n{figure}")
        else:
            names = _listed([line.codec for line in view.lines])
            parts.append(
                f"<details><summary>{escape(view.set)} on {_count(view.images)} of "
                f"{sizes[view.set]}: {escape(names)}</summary>\n{figure}</details>"
            )
        last = view.set
    return "\n".join(parts)


def _figure(view: View, test: str, numbers: dict[str, int], looks: dict[str, Style]) -> str:
    charts = []
    missing = []
    for head, figure in FIGURES.items():
        curves = [
            chart.Curve(
                numbers[line.codec],
                looks[line.codec].marker,
                [
                    chart.Mark(
                        point.bpp,
                        value,
                        f"{line.codec}, setting {point.setting}: {point.bpp:.4f} bpp, "
                        f"{value:.2f} dB",
                    )
                    for point in line.points
                    if (value := figure(point)) is not None
                ],
            )
            for line in view.lines
        ]
        curves = [curve for curve in curves if curve.marks]
        absent = [
            line.codec for line in view.lines if all(figure(point) is None for point in line.points)
        ]
        if absent:
            missing.append(f"no {head} in the tables for {_listed(absent)}")
        if curves:
            label = f"{head} in dB against bits per pixel, {view.set}, {_count(view.images)}"
            drawn = chart.svg(curves, *frame(view, test, figure), label)
            charts.append(f'<div><p class="axis">{head}, dB</p>\n{drawn}</div>')
    caption = "; ".join([f"Mean over {_count(view.images)}", *missing])
    table = _table(
        ["codec", "setting", "bpp", *(f"{head}, dB" for head in FIGURES)],
        [
            [
                _text(line.codec),
                _cell(point.setting),
                _cell(f"{point.bpp:.4f}"),
                *(_cell(_number(figure(point), 2)) for figure in FIGURES.values()),
            ]
            for line in view.lines
            for point in line.points
        ],
        "values",
    )
    return (
        f'<figure><div class="charts">{"".join(charts)}</div>\n'
        f"<figcaption>{escape(caption)}.</figcaption></figure>\n"
        f"<details><summary>Values</summary>{table}</details>"
    )


def _swatch(look: Style) -> str:
    return (
        '<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true"><path class="line" '
        f'd="M1 6H25"/><path class="mark" d="{chart.marker(look.marker, 13, 6)}"/></svg>'
    )


# Side by side


def _pictures(pictures: Sequence[Picture]) -> str:
    if not pictures:
        return ""
    against = pictures[0].pairs[0][1].codec
    intro = (
        f"<p>Each image by mvm and by {escape(against)} in the largest file that is not above "
        "mvm’s; its quality comes in steps, so look at the bytes too. Drag the divider or use its "
        "arrow keys; zoomed in, drag the picture.</p>"
    )
    return "\n".join([intro, *(_viewer(k, picture) for k, picture in enumerate(pictures))])


def _viewer(number: int, picture: Picture) -> str:
    source = picture.source
    height, width = source.pixels.shape[:2]
    against = picture.pairs[0][1].codec
    kind = "colour" if source.pixels.ndim == 3 else "gray"
    note = ", deeper than 8 bits: coded and shown in its rendering to 8" if source.rendered else ""
    versions = [
        _version("original", None, "original", source.pixels, _size(source.bytes, width * height))
    ]
    for k, pair in enumerate(picture.pairs):
        versions += [
            _version(role, k, f"{coded.codec}, {coded.setting}", coded.pixels, _coded_facts(coded))
            for role, coded in zip(("mvm", "other"), pair, strict=True)
        ]
    sides = [("original", "original"), ("mvm", "mvm"), ("other", against)]
    rates = [(str(k), f"q = {quality}") for k, quality in enumerate(QUALITIES)]
    zooms = [("fit", "fit"), ("1", "100%"), ("2", "200%"), ("4", "400%")]
    name = escape(source.path.name)
    choices = "".join(
        _choice(f"{what}-{number}", head, options, chosen)
        for what, head, options, chosen in (
            ("left", "Left", sides, "mvm"),
            ("right", "Right", sides, "other"),
            ("rate", "Rate", rates, str(_OPENING)),
            ("zoom", "Zoom", zooms, "fit"),
        )
    )
    facts = _table(
        ["", "setting", "bytes", "bpp", "PSNR, dB"],
        [
            [_text("original"), *_size_cells("", source.bytes, width * height), _cell("–")],
            *(
                [
                    _text(coded.codec),
                    *_size_cells(coded.setting, coded.bytes, width * height),
                    _cell(_number(coded.psnr, 2)),
                ]
                for pair in picture.pairs
                for coded in pair
            ),
        ],
        "values",
    )
    return f"""<article class="viewer" style="--w:{width};--h:{height}" data-number="{number}">
<h3>{name}</h3>
<p class="sub">{width} × {height}, {kind}{note}</p>
<div class="choices">{choices}</div>
<div class="stage" tabindex="0" role="group" aria-label="{name}: zoomed in, arrow keys move it">
{"".join(versions)}
<div class="divider" role="slider" tabindex="0" aria-label="Divider between left and right" \
aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"><span></span></div>
</div>
<div class="captions"><p class="left"></p><p class="right"></p></div>
<noscript><p>Without scripts the divider stays where it is.</p></noscript>
<details><summary>All sizes</summary>{facts}</details>
</article>"""


def _version(role: str, rate: int | None, name: str, pixels: Pixels, facts: str) -> str:
    side = ""
    if rate in (None, _OPENING):
        side = {"original": "", "mvm": " left", "other": " right"}[role]
    at = "" if rate is None else f' data-rate="{rate}"'
    return (
        f'<div class="layer{side}" data-role="{role}"{at} data-name="{escape(name)}" '
        f'data-facts="{escape(facts)}"><img alt="{escape(name)}" draggable="false" '
        f'src="{_data_uri(pixels)}"></div>\n'
    )


def _choice(name: str, head: str, options: Iterable[tuple[str, str]], chosen: str) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{value}" autocomplete="off"'
        f"{' checked' if value == chosen else ''}><span>{escape(text)}</span></label>"
        for value, text in options
    )
    return f"<fieldset><legend>{head}</legend><div>{buttons}</div></fieldset>"


def _coded_facts(coded: Coded) -> str:
    height, width = coded.pixels.shape[:2]
    above = "" if coded.fits else ", its smallest file"
    return f"{_size(coded.bytes, width * height)}, {_number(coded.psnr, 2)} dB{above}"


def _size(size: int, pixels: int) -> str:
    return f"{size:,} bytes, {8 * size / pixels:.4f} bpp"


def _size_cells(setting: str, size: int, pixels: int) -> list[str]:
    return [_cell(setting), _cell(f"{size:,}"), _cell(f"{8 * size / pixels:.4f}")]


def _data_uri(pixels: Pixels) -> str:
    """Without loss as WebP, which is a quarter smaller, or as PNG where that cannot be."""
    webp = "webp" in features.get_supported() and max(pixels.shape) <= _WEBP_SIDE
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP" if webp else "PNG", lossless=True, exact=True)
    kind = "webp" if webp else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


# Speed and memory


def _speed(rows: Sequence[Row], test: str) -> str:
    found = {(cost.set, cost.codec): cost for cost in costs(rows, test)}
    codecs, sets = codecs_of(rows, test), sets_of(rows)

    def table(head: str, figure: Callable[[Cost], float | None], digits: int) -> list[str]:
        if all(figure(cost) is None for cost in found.values()):
            return []
        cells = [
            [
                _text(codec),
                *(
                    _cell(_number(None if cost is None else figure(cost), digits))
                    for cost in (found.get((name, codec)) for name in sets)
                ),
            ]
            for codec in codecs
        ]
        return [f"<h3>{head}</h3>", _table(["codec", *sets], cells, "speed")]

    seconds = table("Encoding", lambda cost: cost.encode_s, 3)
    seconds += table("Decoding", lambda cost: cost.decode_s, 3)
    memory = table("Memory to encode", lambda cost: cost.encode_mib, 0)
    memory += table("Memory to decode", lambda cost: cost.decode_mib, 0)
    if seconds:
        seconds.insert(
            0,
            "<p>Wall clock seconds per megapixel, median over all images and settings of a set, as "
            "the tables have them. They compare no better than the machines that they were taken "
            "on.</p>",
        )
    if memory:
        memory.insert(
            0,
            "<p>MiB per megapixel at the peak, above what the process held before; median over all "
            "images and settings of a set.</p>",
        )
    return "\n".join(seconds + memory)


# Small parts


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str, texts: int = 1) -> str:
    """A table of ready cells, the first `texts` columns of which are text; it scrolls sideways."""
    head = "".join(
        f'<th scope="col"{" class=text" if k < texts else ""}>{escape(name)}</th>'
        for k, name in enumerate(heads)
    )
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="Table"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _text(text: str) -> str:
    return f'<th scope="row" class="text">{escape(text)}</th>'


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _images(rows: Iterable[Row], name: str) -> int:
    return len({row.image for row in rows if row.set == name})


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
