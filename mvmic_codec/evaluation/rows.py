"""One measurement as a row of a CSV table."""

from __future__ import annotations

import csv
import io
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
    ms_ssim    0 to 1, or None where the source of the row has none
    max_error  largest absolute difference of a sample, or None
    enc_s, dec_s  seconds of wall clock
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
    ms_ssim: float | None
    max_error: int | None
    enc_s: float
    dec_s: float


COLUMNS = tuple(field.name for field in fields(Row))
_OPTIONAL = ("ms_ssim", "max_error")


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file; ms_ssim and max_error may be absent. Raises InputError naming the line.

    Other columns are ignored.
    """
    with open(path, newline="", encoding="utf-8") as file:
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
                "" if row.ms_ssim is None else f"{row.ms_ssim:.5f}",
                "" if row.max_error is None else row.max_error,
                f"{row.enc_s:.3f}",
                f"{row.dec_s:.3f}",
            )
        )
    return text.getvalue()


def _parse(line: dict[str, str]) -> Row:
    ms_ssim = line.get("ms_ssim")
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
        bpp=float(line["bpp"]),
        psnr=float(line["psnr"]),
        ms_ssim=float(ms_ssim) if ms_ssim else None,
        max_error=int(max_error) if max_error else None,
        enc_s=float(line["enc_s"]),
        dec_s=float(line["dec_s"]),
    )
