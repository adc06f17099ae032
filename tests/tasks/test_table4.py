"""Table 4: rows of encoders, by lambda2."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from task_files import write_item

from mvmic_codec.errors import InputError
from mvmic_codec.model.identity import default_identity, find_identity
from mvmic_codec.model.trainable import model_of
from mvmic_codec.model.tuned import EncoderCard, load_encoder, save_encoder
from mvmic_codec.tasks import tables
from mvmic_codec.tasks.heads import Card, Head, make_network, save_head
from mvmic_codec.tasks.metrics import class_scores, confusion
from mvmic_codec.tasks.table4 import EncoderRow, Measurement, encoders, summary


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An encoder that shifts what the released one sees."""
    identity, weights = find_identity(bytes.fromhex(default_identity(False).fingerprint))
    model = model_of(weights)
    with torch.no_grad():
        model.analysis.leave.bias.add_(1.0)
    path = tmp_path_factory.mktemp("tuned") / "a.tuned.safetensors"
    save_encoder(model, EncoderCard(identity.fingerprint, 0.25, [0, 63], "", "", ""), path)
    return load_encoder(path)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    fingerprint = default_identity(False).fingerprint
    for network, maps in (("fpn", {"s16": 224}), ("pixels-light", {"pixels": 3})):
        torch.manual_seed(0)
        card = Card("polyps", network, fingerprint, maps, ["polyp"], 6, [0, 63], "", "", {})
        save_head(Head(card, make_network(card).eval()), folder / f"{network}.safetensors")
    return folder


def measured(items, heads, tuned, folder, rows):
    coded = tables.CodedSet(tables.image_set("drawn", items), folder, (0.0, np.inf))
    judges = tables.load_judges(heads, False, "cpu", detect=False)
    saved = []
    measurement = Measurement(coded, judges, 1, rows, "cpu", lambda: saved.append(len(rows)))
    measurement.run(encoders([tuned], [18], "cpu"))
    return judges, saved


def test_rows_of_encoders(items, heads, tuned, tmp_path):
    rows = []
    judges, saved = measured(items, heads, tuned, tmp_path, rows)
    name = f"a {tuned.digest[:8]}"
    assert [(row.encoder, row.lambda2, row.judge) for row in rows] == [
        *(("released", None, "features s16"), ("released", None, "pixels-light")),
        *((name, 0.25, "features s16"), (name, 0.25, "pixels-light")),
    ]
    assert saved == [2, 4]
    assert rows[0].bpp == rows[1].bpp != rows[2].bpp and rows[0].psnr != rows[2].psnr
    # By hand, from the files that were written.
    head = judges[0].head
    import mvmic_codec

    counts = []
    for item in items:
        (file,) = tmp_path.rglob(f"mvm {name}/18/{item.name}.mvm")
        found = head.predict(mvmic_codec.decode_features(file, device="cpu"))[0].mask
        counts.append(confusion(torch.from_numpy(found), item.read().mask, 2))
    assert (rows[2].miou, rows[2].accuracy) == pytest.approx(
        (class_scores(counts).miou, class_scores(counts).accuracy)
    )
    text = summary(rows, "drawn", judges)
    assert f" {name}               0.25     1 " in text and " released " in text
    # All rows are there already, and come back from a table as they are.
    again = [row for row in rows if row.encoder == name]
    _, saved = measured(items, heads, tuned, tmp_path, again)
    assert len(again) == 4 and saved == [4]
    table = tmp_path / "x.csv"
    table.write_text(tables.format_rows(EncoderRow, rows))
    read = tables.read_rows(EncoderRow, table, "x")
    assert [(row.encoder, row.lambda2) for row in read][1:3] == [("released", None), (name, 0.25)]


def test_encoders_of_one_name_are_told_apart(tuned):
    """One that was tuned anew takes neither rows nor files of the one before it."""
    other = replace(tuned, digest="0" * 64)
    _, first, second = encoders([tuned, other], [18], "cpu")
    assert first.name.split()[0] == second.name.split()[0] == "a"
    assert first.name != second.name and first.codec.name != second.codec.name
    with pytest.raises(InputError, match="the encoder a.tuned.safetensors is given twice"):
        encoders([tuned, tuned], [18], "cpu")


def test_rows_of_another_folder_of_that_name(items, heads, tuned, tmp_path):
    row = EncoderRow(*("drawn", "released", None, "18", "", "", ""), 7, *[0.5] * 6)
    with pytest.raises(InputError, match="rows of 7 images of drawn, and there are 2"):
        measured(items, heads, tuned, tmp_path, [row])


def test_heads_for_other_classes(heads, tmp_path):
    with pytest.raises(InputError, match="knows 1 classes, and the images have 11: name a folder"):
        tables.load_judges(heads, False, "cpu", detect=False, classes=11)


def test_an_image_without_a_mask(heads, tuned, tmp_path):
    from mvmic_codec.tasks.truth import GroundTruth

    item = replace(write_item(tmp_path, 5), read=GroundTruth)
    with pytest.raises(InputError, match="has no mask to compare with"):
        measured([item], heads, tuned, tmp_path / "files", [])
