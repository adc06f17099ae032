import math
from dataclasses import replace

import pytest

from mvmic_codec.errors import InputError
from mvmic_codec.evaluation.rows import Row, format_rows, read_rows

ROW = Row(
    *("set", "a, b.png", "jpeg", "75/4:2:0", 9, 7, 3, 63, 8.0, math.inf, 31.5, 1.0, 0),
    *(0.001, 0.002, 41.5, 0.0),
)


def test_round_trip(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(format_rows([ROW, ROW]))
    assert read_rows(path) == [ROW, ROW]


def test_what_is_not_known_stays_so(tmp_path):
    path = tmp_path / "rows.csv"
    bare = replace(ROW, psnr_y=None, ms_ssim=None, max_error=None, enc_s=None, dec_s=None)
    bare = replace(bare, enc_mib=None, dec_mib=None)
    path.write_text(format_rows([bare, ROW]))
    assert read_rows(path) == [bare, ROW]


def test_ms_ssim_keeps_what_its_db_need(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(format_rows([replace(ROW, ms_ssim=0.999987)]))
    assert read_rows(path)[0].ms_ssim == 0.999987


def test_tables_without_ms_ssim_are_read(tmp_path):
    path = tmp_path / "bpg.csv"
    path.write_text(
        "set,image,codec,setting,width,height,channels,bytes,bpp,psnr,enc_s,dec_s\n"
        "kodak,k.png,bpg,48,768,512,3,1388,0.02824,31.240,0.33,0.05\n"
    )
    (row,) = read_rows(path)
    assert (
        row.ms_ssim is None and row.max_error is None and row.psnr_y is None and row.psnr == 31.24
    )
    assert row.enc_mib is row.dec_mib is None


@pytest.mark.parametrize("text", ["", "set,image\na,b\n", format_rows([ROW]).replace("63", "x")])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="rows.csv"):
        read_rows(path)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\xff\xfe", format_rows([ROW]).encode("utf-16")])
def test_what_is_no_text_is_refused(tmp_path, data):
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match="rows.csv is not a table"):
        read_rows(path)


@pytest.mark.parametrize("name", ["bpp", "psnr"])
def test_what_is_no_number_is_refused(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_text(format_rows([replace(ROW, **{name: math.nan})]))
    with pytest.raises(InputError, match=f"line 2: {name}"):
        read_rows(path)


def test_a_spreadsheet_marks_its_encoding(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(format_rows([ROW]), encoding="utf-8-sig")
    assert read_rows(path) == [ROW]


def test_a_short_line_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    # The last two columns may be empty, but not missing.
    for length in (40, 6):
        path.write_text(format_rows([ROW])[:-length])
        with pytest.raises(InputError, match="line 2"):
            read_rows(path)
