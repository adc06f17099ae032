"""One measurement as a row of a CSV table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from mvmic_codec.errors import InputError


@dataclass(frozen=True)
class Row:
    """One image coded at one setting of one codec.

    set        name of the image set
    image      file name within the set
    codec      name of the codec
    setting    the codec's own quality setting; what follows a slash names the variant of the
               codec that was kept for this image
    bytes      size of the whole file
    bpp        8 * bytes / (width * height)
    psnr       dB, see `metrics.psnr`; infinite for an exact copy
    psnr_y     dB, see `metrics.luma_psnr`, or None where the source of the row has none
    ms_ssim    0 to 1, or None where the source of the row has none
    max_error  largest absolute difference of a sample, or None
    enc_s, dec_s  seconds of wall clock, or None where other work ran beside it
    enc_mib, dec_mib  MiB of memory at the peak above what the process held before, or None where
               it was not measured
    """

    set: str
    image: str
    codec: str
    setting: str
    width: int
    height: int
    channels: int
    bytes: int
    bpp: float
    psnr: float
    psnr_y: float | None
    ms_ssim: float | None
    max_error: int | None
    enc_s: float | None
    dec_s: float | None
    enc_mib: float | None = None
    dec_mib: float | None = None


COLUMNS = tuple(field.name for field in fields(Row))
_OPTIONAL = ("psnr_y", "ms_ssim", "max_error", "enc_mib", "dec_mib")


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file. Raises InputError naming the line.

    psnr_y, ms_ssim, max_error, enc_mib and dec_mib may be absent, and empty; enc_s and dec_s may be
    empty. Other columns are ignored.
    """
    try:
        return _read(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table of results: {error}") from None


def _read(path: Path) -> list[Row]:
    # Spreadsheets write a mark before the first column's name.
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        absent = [
            name
            for name in COLUMNS
            if name not in (table.fieldnames or ()) and name not in _OPTIONAL
        ]
        if absent:
            raise InputError(f"{path} has no column {absent[0]!r}; it is not a table of results")
        rows = []
        for line in table:
            try:
                rows.append(_parse(line))
            except (TypeError, ValueError) as error:
                raise InputError(f"{path}, line {table.line_num}: {error}") from None
        return rows


def format_rows(rows: Iterable[Row]) -> str:
    """Rows as CSV text with a header line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        table.writerow(
            (
                row.set,
                row.image,
                row.codec,
                row.setting,
                row.width,
                row.height,
                row.channels,
                row.bytes,
                f"{row.bpp:.5f}",
                f"{row.psnr:.3f}",
                _format(row.psnr_y, 3),
                # In dB, a rounding to five decimals would show from 30 dB on.
                _format(row.ms_ssim, 6),
                _format(row.max_error, 0),
                _format(row.enc_s, 3),
                _format(row.dec_s, 3),
                _format(row.enc_mib, 1),
                _format(row.dec_mib, 1),
            )
        )
    return text.getvalue()


def _format(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _parse(line: dict[str, str]) -> Row:
    if None in line.values():
        raise ValueError("the line ends too early")

    def number(name: str) -> float | None:
        text = line.get(name)
        return float(text) if text else None

    bpp, psnr = float(line["bpp"]), float(line["psnr"])
    if not (math.isfinite(bpp) and bpp >= 0):
        raise ValueError(f"bpp is {line['bpp']}, which cannot be")
    if math.isnan(psnr):
        raise ValueError("psnr is no number")
    max_error = line.get("max_error")
    return Row(
        set=line["set"],
        image=line["image"],
        codec=line["codec"],
        setting=line["setting"],
        width=int(line["width"]),
        height=int(line["height"]),
        channels=int(line["channels"]),
        bytes=int(line["bytes"]),
        bpp=bpp,
        psnr=psnr,
        psnr_y=number("psnr_y"),
        ms_ssim=number("ms_ssim"),
        max_error=int(max_error) if max_error else None,
        enc_s=number("enc_s"),
        dec_s=number("dec_s"),
        enc_mib=number("enc_mib"),
        dec_mib=number("dec_mib"),
    )
