"""The page of a report, read as a browser reads it but without one."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from statistics import fmean

import numpy as np
import pytest
from PIL import Image
from report_rows import picture, rows, table

from mvmic_codec.evaluation.curves import compare
from mvmic_codec.evaluation.page import page

VOID = {"meta", "link", "input", "img", "br"}
HOSTILE = "<script>alert(1)</script>\"'&amp;${x}</style><img src=x onerror=alert(2)>.png"


class Reader(HTMLParser):
    """Elements as (tag, attributes), tables as rows of texts, and the text of all else."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.texts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            self.tables[-1][-1][-1] += data
        elif not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]

    def with_class(self, name):
        return [a for _, a in self.elements if name in a.get("class", "").split()]


def read(found=None, pictures=()):
    return Reader(page(found or table(), "mvm", "mvmic_codec 1.2.3, model m", pictures))


def test_every_set_and_codec_is_there():
    seen = read()
    assert "mvmic_codec 1.2.3, model m" in seen.texts
    bd, long, *values, encoding, decoding, to_encode, to_decode = seen.tables
    assert bd[0] == ["set", "jpeg", "avif", "vvc"]
    assert [row[0] for row in bd[1:]] == ["chest", "bowel"]
    codecs = ["mvm", "jpeg", "avif", "vvc"]
    assert [row[0] for row in encoding[1:]] == [row[0] for row in decoding[1:]] == codecs
    assert [row[0] for row in to_encode[1:]] == [row[0] for row in to_decode[1:]] == codecs
    assert encoding[0] == to_encode[0] == ["codec", "chest", "bowel"]
    assert len(values) == 3 and len(seen.with_class("chart")) == 6
    legend = seen.all("button")
    assert [button["data-codec"] for button in legend] == ["c0", "c1", "c2", "c3"]
    assert {"chest", "bowel"} <= {text.strip() for text in seen.texts}
    assert any("chest on 1 image of 3: mvm, jpeg and vvc" in text for text in seen.texts)
    assert any("no MS-SSIM in the tables for vvc" in text for text in seen.texts)


def test_bd_rates_are_those_of_compare():
    bd, long, *_ = read().tables
    found = {(c.set, c.anchor): c for c in compare(table(), "mvm")}
    assert len(found) == len(long) - 1 == 3
    for name, anchor, mean, of_means, images, apart, unmatched, common, gain, similar in long[1:]:
        wanted = found[name, anchor]
        figures = [
            f"{value:+.1f}%".replace("-", "−")
            for value in (fmean(wanted.bd_rates.values()), wanted.of_means)
        ]
        assert [mean, of_means] == figures
        counts = (len(wanted.bd_rates), len(wanted.apart), len(wanted.unmatched))
        assert (int(images), int(apart), int(unmatched)) == counts
        assert common == "{:.1f} to {:.1f}".format(*wanted.common)
        assert gain == f"{fmean(wanted.bd_psnrs.values()):+.2f}".replace("-", "−")
        assert (similar == "–") == (anchor == "vvc")
        if anchor != "vvc":
            value = fmean(wanted.ms_ssim_rates.values())
            assert similar == f"{value:+.1f}%".replace("-", "−")
        (short,) = (row[bd[0].index(anchor)] for row in bd if row[0] == name)
        assert short == figures[0] + (" 1 image" if anchor == "vvc" else "")
    assert bd[2][1] == bd[2][3] == "–"


def test_points_of_charts_are_those_of_the_tables_of_values():
    seen = read()
    texts = [mark["data-text"] for mark in seen.with_class("mark") if "data-text" in mark]
    assert "mvm, setting 0: 0.2000 bpp, 30.00 dB" in texts
    assert "vvc, setting 3: 1.2000 bpp, 39.00 dB" in texts
    three = seen.tables[2]
    assert three[1] == ["mvm", "0", "0.2000", "30.00", "15.00"]
    assert ["jpeg", "0", "0.4667", "30.00", "15.00"] in three
    assert not any(row[0] == "vvc" for row in three)
    assert ["vvc", "0", "0.1500", "30.00", "–"] in seen.tables[3]


def test_seconds_per_megapixel_and_their_absence():
    *_, encoding, decoding, _, _ = read().tables
    assert encoding[1] == ["mvm", "2.000", "1.000"] and decoding[1] == ["mvm", "4.000", "2.000"]
    assert encoding[4] == ["vvc", "–", "–"]
    timeless = [replace(row, enc_s=None, dec_s=None) for row in table()]
    assert not {"Encoding", "Decoding"} & {*read(timeless).texts}
    bare = [replace(row, enc_mib=None, dec_mib=None) for row in timeless]
    assert not read(bare).all("section", id="speed")


def test_memory_per_megapixel_and_its_absence():
    *_, encode, decode = read().tables
    assert encode[1] == ["mvm", "1000", "500"] and decode[1] == ["mvm", "500", "250"]
    assert encode[4] == ["vvc", "–", "–"]
    untold = [replace(row, enc_mib=None, dec_mib=None) for row in table()]
    assert "Memory to encode" in read().texts and "Memory to encode" not in read(untold).texts


def test_nothing_is_loaded_from_anywhere():
    text = page(table(), "mvm", "maker", [picture()])
    seen = Reader(text)
    for tag, attributes in seen.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes)
    assert "http" not in re.sub("http-equiv", "", text)
    assert "@import" not in text and set(re.findall(r"url\([^)]*\)", text)) == {"url(#frame)"}
    (policy,) = (a["content"] for a in seen.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_images_are_embedded_without_loss():
    shown = picture()
    seen = read(pictures=[shown])
    embedded = []
    for image in seen.all("img"):
        kind, _, data = image["src"].partition(";base64,")
        assert kind in ("data:image/webp", "data:image/png") and image["alt"]
        embedded.append(np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("L")))
    wanted = [shown.source.pixels, *(coded.pixels for pair in shown.pairs for coded in pair)]
    assert len(embedded) == 7
    assert all(np.array_equal(one, other) for one, other in zip(embedded, wanted, strict=True))


def test_sizes_under_the_images():
    seen = read(pictures=[picture()])
    facts = {layer["data-name"]: layer["data-facts"] for layer in seen.with_class("layer")}
    assert facts["original"] == "12,345 bytes, 1.6460 bpp"
    assert facts["mvm, at 1"] == "2,000 bytes, 0.2667 bpp, 31.00 dB"
    assert facts["avif, at 1"] == "1,999 bytes, 0.2665 bpp, 31.00 dB"
    sizes = next(table for table in seen.tables if table[0][:2] == ["", "setting"])
    assert ["mvm", "at 1", "2,000", "0.2667", "31.00"] in sizes and len(sizes) == 8


def test_a_file_that_could_not_be_small_enough_is_said_to_be():
    shown = picture()
    large = replace(shown.pairs[0][1], fits=False)
    seen = read(pictures=[replace(shown, pairs=[(shown.pairs[0][0], large), *shown.pairs[1:]])])
    facts = [layer["data-facts"] for layer in seen.with_class("layer")]
    assert sum(text.endswith(", its smallest file") for text in facts) == 1


def test_every_control_has_a_name():
    seen = read(pictures=[picture()])
    for found in seen.with_class("chart") + seen.with_class("divider") + seen.with_class("stage"):
        assert found["aria-label"] and found["tabindex"] == "0"
    (divider,) = seen.with_class("divider")
    assert divider["role"] == "slider" and divider["aria-valuenow"] == "50"
    assert len(seen.all("input", type="radio")) == 3 + 3 + 3 + 4


def test_hostile_names_stay_names():
    table = rows("mvm", HOSTILE, HOSTILE) + rows(HOSTILE, HOSTILE, HOSTILE, 2)
    seen = read(table, [picture(HOSTILE.replace("/", "|"))])
    plain = read(rows("mvm", "s", "i") + rows("jpeg", "s", "i", 2), [picture()])
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in plain.elements]
    assert not any(name.startswith("on") for _, a in seen.elements for name in a)
    assert seen.tables[0] == [["set", HOSTILE], [HOSTILE, "−50.0%"]]
    assert any(HOSTILE.replace("/", "|") == text for text in seen.texts)


@pytest.mark.parametrize("test", ["mvm", "other"])
def test_a_table_of_one_codec(test):
    seen = Reader(page(rows(test, "s", "i"), test, "maker"))
    assert not seen.all("section", id="rates") and len(seen.with_class("chart")) == 2
