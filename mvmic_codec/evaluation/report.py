"""Comparisons of codecs as Markdown, and as plain objects for JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.curves import LEAST_OVERLAP_DB, Comparison, compare, mean
from mvmic_codec.evaluation.rows import Row

_RULE = (
    "BD-rate of {test} against each codec: bits at equal PSNR, so that -30% is 30% fewer. PCHIP "
    "interpolation of log rate over the range of PSNR that both codecs reach on an image, points "
    "that a cheaper one equals or beats left out; whole files are counted. The first figure is "
    "the mean over images, the second is taken on the curves of mean bpp and mean PSNR. An image "
    "where the two share less than {least:g} dB is not in the mean and is named below the table. "
    "BD-PSNR is the gain at equal bits, and BD-rate on MS-SSIM counts bits at equal MS-SSIM, "
    "-10 log10(1 - MS-SSIM) in dB; both are means over images."
)


def markdown(rows: Sequence[Row], test: str) -> str:
    """A page with the comparisons of `test` and its mean rate and distortion at each setting.

    Raises InputError if there are no rows of `test`.
    """
    lines = [comparison_table(rows, test), f"Means of {test} over the images of each set:", ""]
    lines += [
        "| set | setting | images | bpp | PSNR, dB | MS-SSIM |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += _means([row for row in rows if row.codec == test])
    return "\n".join(lines) + "\n"


def comparison_table(rows: Sequence[Row], test: str) -> str:
    """The comparisons of `test` with every other codec in the rows, what they mean, and notes.

    Raises InputError if there are no rows of `test`.
    """
    comparisons = _compare(rows, test)
    lines = [*wrap(_RULE.format(test=test, least=LEAST_OVERLAP_DB), 100), ""]
    lines += [
        "| set | against | BD-rate, mean over images | on curve of means | images "
        "| common range, dB | BD-PSNR, dB | BD-rate on MS-SSIM |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_line(comparison) for comparison in comparisons]
    notes = [note for comparison in comparisons for note in _notes(comparison, test)]
    absent = {row.set for row in rows} - {row.set for row in rows if row.codec == test}
    if absent:
        notes.append(f"- without rows of {test}: {', '.join(sorted(absent))}")
    if notes:
        lines += ["", *notes]
    return "\n".join(lines) + "\n"


def objects(rows: Sequence[Row], test: str) -> list[dict[str, Any]]:
    """What `comparison_table` shows and the figures of single images, for JSON.

    Raises InputError if there are no rows of `test`.
    """
    return [
        {
            "set": comparison.set,
            "test": test,
            "anchor": comparison.anchor,
            "bd_rate": mean(comparison.bd_rates),
            "bd_rate_of_means": comparison.of_means,
            "bd_psnr": mean(comparison.bd_psnrs),
            "bd_rate_ms_ssim": mean(comparison.ms_ssim_rates),
            "common_db": comparison.common,
            "images": {
                "bd_rate": comparison.bd_rates,
                "bd_psnr": comparison.bd_psnrs,
                "bd_rate_ms_ssim": comparison.ms_ssim_rates,
            },
            "apart": comparison.apart,
            "unmatched": comparison.unmatched,
        }
        for comparison in _compare(rows, test)
    ]


def _compare(rows: Sequence[Row], test: str) -> list[Comparison]:
    if not any(row.codec == test for row in rows):
        raise InputError(f"the tables hold no rows of {test}")
    return compare(rows, test)


def _line(comparison: Comparison) -> str:
    images = len(comparison.bd_rates)
    count = f"{images}" if not comparison.apart else f"{images} of {images + len(comparison.apart)}"
    common, gain = comparison.common, mean(comparison.bd_psnrs)
    cells = (
        comparison.set,
        comparison.anchor,
        _percent(mean(comparison.bd_rates)),
        _percent(comparison.of_means),
        count,
        "-" if common is None else f"{common[0]:.1f} to {common[1]:.1f}",
        "-" if gain is None else f"{gain:+.2f}",
        _percent(mean(comparison.ms_ssim_rates)),
    )
    return f"| {' | '.join(cells)} |"


def _notes(comparison: Comparison, test: str) -> list[str]:
    notes = []
    if comparison.apart:
        notes.append(
            f"- {comparison.set}, {comparison.anchor}: no common range on "
            f"{len(comparison.apart)} image(s): {', '.join(comparison.apart)}"
        )
    if comparison.unmatched:
        notes.append(
            f"- {comparison.set}, {comparison.anchor}: {len(comparison.unmatched)} image(s) have "
            f"rows of only one of {test} and {comparison.anchor}"
        )
    images = len(comparison.bd_rates) + len(comparison.apart)
    for name, values in (
        ("BD-PSNR", comparison.bd_psnrs),
        ("BD-rate on MS-SSIM", comparison.ms_ssim_rates),
    ):
        # None at all shows in the table, as a dash.
        if values and len(values) != len(comparison.bd_rates):
            notes.append(
                f"- {comparison.set}, {comparison.anchor}: {name} is the mean of "
                f"{len(values)} of {images} images"
            )
    return notes


def _means(rows: Sequence[Row]) -> list[str]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.setting.partition("/")[0]].append(row)
    lines = []
    for (name, setting), group in groups.items():
        known = [row.ms_ssim for row in group if row.ms_ssim is not None]
        cells = (
            name,
            setting,
            str(len(group)),
            f"{sum(row.bpp for row in group) / len(group):.4f}",
            f"{sum(row.psnr for row in group) / len(group):.2f}",
            f"{sum(known) / len(known):.4f}" if known else "-",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}%"
