"""Readers of data sets, on small folders in exactly the published layouts."""

import json
import pickle
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as runs

import mvmic_codec
from mvmic_codec import InputError
from mvmic_codec.tasks import layouts
from mvmic_codec.training import images

WIDTH, HEIGHT = 96, 64


def draw(path, *boxes, size=(WIDTH, HEIGHT), mode="RGB", fill=None):
    """An image, or a mask, with filled rectangles from (left, top) up to (right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size)
    for k, (left, top, right, bottom) in enumerate(boxes):
        value = fill[k] if fill else (255 if mode == "L" else 1 if mode == "1" else (200, 90, 80))
        ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), value)
    image.save(path)
    return path


def polyps(tmp_path, names=("C1_1", "C1_2", "C2_1")):
    for name in names:
        draw(tmp_path / f"polyp/{name}.png")
        draw(tmp_path / f"polyp_mask/{name}.png", (10, 20, 40, 50), mode="1")
    return tmp_path / "polyp", tmp_path / "polyp_mask"


def filled(*boxes):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return torch.from_numpy(mask)


def test_folder_of_masks(tmp_path):
    folders = polyps(tmp_path)
    # Two objects that touch at a corner only, which is one; one alone; and a speck.
    boxes = (4, 4, 24, 20), (24, 20, 40, 40), (60, 10, 90, 30), (70, 50, 73, 53)
    draw(folders[1] / "C1_2.png", *boxes, mode="1")
    (folders[0] / ".hidden.png").touch()
    (folders[0] / "readme.txt").touch()
    data = layouts.folder_of_masks(*folders)
    assert data.classes == ("background", "polyp")
    assert [(item.name, item.group) for item in data.items] == [
        ("C1_1", "C1"),
        ("C1_2", "C1"),
        ("C2_1", "C2"),
    ]
    assert data.items[0].image == folders[0] / "C1_1.png"
    truth = data.items[1].read()
    assert truth.mask.dtype == torch.uint8 and torch.equal(truth.mask.bool(), filled(*boxes))
    assert truth.boxes.dtype == torch.float32 and truth.labels.tolist() == [1, 1]
    assert truth.boxes.tolist() == [[4, 4, 40, 40], [60, 10, 90, 30]]
    assert torch.equal(truth.instances, torch.stack((filled(*boxes[:2]), filled(boxes[2]))))


def test_an_empty_mask_has_no_objects(tmp_path):
    folders = polyps(tmp_path)
    draw(folders[1] / "C1_1.png", mode="1")
    truth = layouts.folder_of_masks(*folders).items[0].read()
    assert not truth.mask.any()
    assert truth.boxes.shape == (0, 4) and truth.labels.shape == (0,)
    assert truth.instances.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (40, 200)])
def test_masks_of_other_modes(tmp_path, low, high):
    folders = polyps(tmp_path)
    inner = (10, 20, 40, 50)
    draw(folders[1] / "C1_1.png", (0, 0, WIDTH, HEIGHT), inner, mode="L", fill=(low, high))
    assert torch.equal(layouts.folder_of_masks(*folders).items[0].read().mask.bool(), filled(inner))


def test_images_may_be_mvm_files(tmp_path):
    folders = polyps(tmp_path, ["C1_1"])
    image = Image.open(folders[0] / "C1_1.png")
    (folders[0] / "C1_1.mvm").write_bytes(mvmic_codec.encode(image, 2))
    (folders[0] / "C1_1.png").unlink()
    assert layouts.folder_of_masks(*folders).items[0].image.name == "C1_1.mvm"


def colondb(folder, layout, numbers=(1, 2, 10, 21)):
    box = 30, 20, 60, 40
    for n in numbers:
        if layout == "authors":
            draw(folder / f"{n}.bmp")
            for kind in "psc":
                draw(folder / f"{kind}{n}.bmp", box, mode="L")
        else:
            names, end = (
                (("images", "masks"), "png")
                if layout == "PraNet"
                else (("Original", "Ground Truth"), "tif")
            )
            draw(folder / names[0] / f"{n}.{end}")
            draw(folder / names[1] / f"{n}.{end}", box, mode="L")
    return box


@pytest.mark.parametrize("layout", ["authors", "PraNet", "ClinicDB"])
def test_cvc_colondb(tmp_path, layout):
    box = colondb(tmp_path, layout)
    data = layouts.cvc_colondb(tmp_path)
    assert [item.name for item in data.items] == ["1", "2", "10", "21"]
    assert [item.group for item in data.items] == ["0", "0", "0", "1"]
    for item in data.items:
        truth = item.read()
        assert torch.equal(truth.mask.bool(), filled(box)) and truth.boxes.tolist() == [list(box)]


def test_folders_that_are_no_colondb(tmp_path):
    draw(tmp_path / "a.png")
    with pytest.raises(InputError, match="not laid out as CVC-ColonDB; it holds"):
        layouts.cvc_colondb(tmp_path)
    draw(tmp_path / "images/a1.png")
    with pytest.raises(InputError, match="there is no folder .*masks"):
        layouts.cvc_colondb(tmp_path)
    draw(tmp_path / "masks/a1.png")
    with pytest.raises(InputError, match="CVC-ColonDB: a1.png has no number for a name"):
        layouts.cvc_colondb(tmp_path)


def streets(folder, part="train"):
    for city, number in (("aachen", 0), ("aachen", 1), ("ulm", 7)):
        name = f"{city}_{number:06}_000019"
        draw(folder / f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png")
        place = folder / f"gtFine/{part}/{city}"
        # road, car, bicycle, and ids without a class: ego vehicle, license plate
        parts = [(k * 12, 0, k * 12 + 12, 64) for k in range(5)]
        draw(place / f"{name}_gtFine_labelIds.png", *parts, mode="L", fill=(7, 26, 33, 1, 255))
        draw(place / f"{name}_gtFine_instanceIds.png", mode="L")
        draw(place / f"{name}_gtFine_color.png", mode="RGB")
        (place / f"{name}_gtFine_polygons.json").write_text("{}")


def test_cityscapes(tmp_path):
    streets(tmp_path)
    data = layouts.cityscapes(tmp_path)
    assert len(data.classes) == 19 and data.classes[:2] == ("road", "sidewalk")
    assert [(item.name, item.group) for item in data.items] == [
        ("aachen_000000_000019", "aachen"),
        ("aachen_000001_000019", "aachen"),
        ("ulm_000007_000019", "ulm"),
    ]
    truth = data.items[0].read()
    assert truth.mask[0, ::12].tolist() == [0, 13, 18, 255, 255, 255, 255, 255]
    assert truth.boxes is None and truth.instances is None


def test_cityscapes_without_labels(tmp_path):
    streets(tmp_path)
    (tmp_path / "gtFine/train/ulm/ulm_000007_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match="1 of 1 images have no mask .* ulm_000007_000019_left"):
        layouts.cityscapes(tmp_path)
    with pytest.raises(InputError, match="there is no folder .*val"):
        layouts.cityscapes(tmp_path, "val")


def camvid_folders(tmp_path, *values):
    for name in ("0001TP_006690", "0016E5_00390"):
        draw(tmp_path / f"street/{name}.png")
        parts = [(k * 16, 0, k * 16 + 16, 64) for k in range(len(values))]
        draw(tmp_path / f"street_label/{name}.png", *parts, mode="L", fill=values)
    return tmp_path / "street", tmp_path / "street_label"


def test_camvid(tmp_path):
    data = layouts.camvid(*camvid_folders(tmp_path, 0, 3, 10, 11))
    assert len(data.classes) == 11 and data.classes[3] == "road"
    assert [item.group for item in data.items] == ["0001TP", "0016E5"]
    assert data.items[0].read().mask[5, ::16].tolist() == [0, 3, 10, 255, 0, 0]
    data = layouts.camvid(*camvid_folders(tmp_path, 0, 12))
    with pytest.raises(InputError, match="holds class 12; classes run from 0 to 11"):
        data.items[0].read()
    draw(tmp_path / "street_label/0001TP_006690.png")
    with pytest.raises(InputError, match="does not hold one class number of 8 bits"):
        layouts.camvid(tmp_path / "street", tmp_path / "street_label").items[0].read()


def as_counts(mask):
    """Run lengths of COCO, not compressed: down columns, beginning with zeros."""
    flat = mask.numpy().ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return [0, *counts] if flat[0] else counts


def coco_folder(tmp_path, outlines=True):
    draw(tmp_path / "images/000000000009.jpg")
    draw(tmp_path / "images/000000000025.jpg")
    boxes = (8, 8, 72, 56), (20, 16, 50, 40), (60, 30, 80, 50)
    run = {"size": [HEIGHT, WIDTH], "counts": as_counts(filled(boxes[1]))}
    packed = runs.encode(np.asfortranarray(filled(boxes[2]).numpy().astype(np.uint8)))
    packed["counts"] = packed["counts"].decode()
    polygon = [[8, 8, 72, 8, 72, 56, 8, 56]]
    annotations = [
        {"id": k, "image_id": 25, "category_id": c, "iscrowd": int(k == 3), "area": 1}
        | {"bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        | ({"segmentation": s} if outlines else {})
        for k, (c, b, s) in enumerate(
            zip((18, 3, 3), boxes, (polygon, run, packed), strict=True), 1
        )
    ]
    data = {
        "info": {},
        "images": [
            {"id": n, "file_name": f"{n:012}.jpg", "width": WIDTH, "height": HEIGHT}
            for n in (9, 25)
        ],
        "annotations": annotations,
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    return path, boxes


def test_coco(tmp_path):
    path, boxes = coco_folder(tmp_path)
    data = layouts.coco(tmp_path / "images", path)
    assert data.classes == ("background", "car", "dog")
    assert [item.name for item in data.items] == ["000000000009", "000000000025"]
    empty, full = (item.read() for item in data.items)
    assert empty.boxes.shape == (0, 4) and not empty.mask.any()
    assert full.boxes.tolist() == [list(boxes[0]), list(boxes[1])]
    assert full.labels.tolist() == [2, 1]
    assert torch.equal(full.instances, torch.stack((filled(boxes[0]), filled(boxes[1]))))
    mask = full.mask
    # The smaller lies on top, and the crowd counts only where no object is.
    assert [int(mask[y, x]) for y, x in ((10, 10), (20, 30), (49, 75), (35, 65), (0, 0))] == [
        2,
        1,
        255,
        2,
        0,
    ]


def test_coco_without_outlines(tmp_path):
    path, boxes = coco_folder(tmp_path, outlines=False)
    truth = layouts.coco(tmp_path / "images", path).items[1].read()
    assert truth.mask is None and truth.instances is None and len(truth.boxes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("categories"), "not laid out as COCO's instances: 'categories' is"),
        (lambda data: data["annotations"][0].update(category_id=5), "5 is missing or unknown"),
        (lambda data: data["annotations"][0].update(image_id=5), "5 is missing or unknown"),
        (lambda data: data["annotations"][0].update(bbox=[1, 2]), "not laid out as COCO"),
        (lambda data: data["images"][0].update(width=5), "of 5x64, but the file in .* is 96x64"),
        (lambda data: data["images"][1].update(file_name="a.jpg"), "1 of 2 .* first is a.jpg"),
        (lambda data: data.update(images=[], annotations=[]), "name no images"),
    ],
)
def test_coco_that_does_not_fit(tmp_path, change, message):
    path, _ = coco_folder(tmp_path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        layouts.coco(tmp_path / "images", path)


def chest_folder(tmp_path, **changes):
    for n in (36199, 36302):
        draw(tmp_path / f"train_data/{n}.png", mode="L")
    rows = [
        {"file_name": "36199.png", "syms": [], "boxes": [], "polygons": []},
        {
            "file_name": "36302.png",
            "syms": ["Effusion", "Pleural Thickening"],
            "boxes": [[8, 8, 72, 56], [20, 16, 50, 40]],
            "polygons": [
                [[8, 8], [72, 8], [72, 56], [8, 56]],
                [[20, 16], [50, 16], [50, 40], [20, 40]],
            ],
        },
    ]
    rows[1] |= changes
    path = tmp_path / "ChestX_Det_train.json"
    path.write_text(json.dumps(rows))
    return tmp_path / "train_data", path


def test_chestx_det(tmp_path):
    data = layouts.chestx_det(*chest_folder(tmp_path))
    assert len(data.classes) == 14 and data.classes[6] == "Effusion"
    assert [item.name for item in data.items] == ["36199", "36302"]
    truth = data.items[1].read()
    assert truth.boxes.tolist() == [[8, 8, 72, 56], [20, 16, 50, 40]]
    assert truth.labels.tolist() == [6, 12]
    assert torch.equal(
        truth.instances, torch.stack((filled((8, 8, 72, 56)), filled((20, 16, 50, 40))))
    )
    assert int(truth.mask[20, 30]) == 12 and int(truth.mask[50, 10]) == 6


def test_chestx_det10_has_boxes_only(tmp_path):
    folder, path = chest_folder(tmp_path)
    rows = json.loads(path.read_text())
    for row in rows:
        del row["polygons"]
    path.write_text(json.dumps(rows))
    truth = layouts.chestx_det(folder, path).items[1].read()
    assert truth.mask is None and truth.instances is None and len(truth.boxes) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"syms": ["Effusion", "Hernia"]}, "not laid out as ChestX-Det: 'Hernia' is missing or"),
        ({"syms": ["Effusion"]}, "36302.png has 1 syms and 2 boxes and 2 polygons"),
        ({"boxes": [[8, 8, 72, 56], [20, 16, 97, 40]]}, r"is 96x64 and has a box \[20.0"),
        ({"boxes": [[8, 8, 72, 56], [20, 16, 20, 40]]}, r"is 96x64 and has a box \[20.0"),
        ({"boxes": [[8, 8, 72, 56], [20, 16]]}, r"is 96x64 and has a box \[20.0"),
        ({"boxes": "none"}, "not laid out as ChestX-Det"),
        ({"file_name": "1.png"}, "1 of 2 images of the annotations are not in"),
    ],
)
def test_chestx_det_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        layouts.chestx_det(*chest_folder(tmp_path, **changes))


def test_annotations_that_cannot_be_read(tmp_path):
    folder, path = chest_folder(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"there are no annotations in {folder}")):
        layouts.coco(folder, folder)
    path.write_text("{")
    for read in (layouts.coco, layouts.chestx_det):
        with pytest.raises(InputError, match="is no JSON file"):
            read(folder, path)
        with pytest.raises(InputError, match="there are no annotations in"):
            read(folder, tmp_path / "missing.json")


def test_folders_that_are_missing_or_empty(tmp_path):
    images, masks = polyps(tmp_path)
    (tmp_path / "empty").mkdir()
    for bad, message in (("none", "there is no folder"), ("empty", "holds no images")):
        for arguments in ((tmp_path / bad, masks), (images, tmp_path / bad)):
            for read in (layouts.folder_of_masks, layouts.camvid):
                with pytest.raises(InputError, match=message):
                    read(*arguments)
    with pytest.raises(InputError, match="there is no folder"):
        layouts.cvc_colondb(tmp_path / "none")
    with pytest.raises(InputError, match="there is no folder"):
        layouts.cityscapes(tmp_path)
    (tmp_path / "leftImg8bit/train").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no folders of cities"):
        layouts.cityscapes(tmp_path)


def test_images_without_masks_are_named_and_counted(tmp_path):
    images, masks = polyps(tmp_path)
    (masks / "C1_2.png").unlink()
    (masks / "C2_1.png").unlink()
    with pytest.raises(InputError, match=r"2 of 3 images have no mask in .*first is C1_2.png"):
        layouts.folder_of_masks(images, masks)


def test_masks_of_several_classes_are_not_taken_for_empty_ones(tmp_path):
    images, masks = polyps(tmp_path)
    draw(masks / "C1_1.png", (8, 8, 40, 40), mode="L", fill=(11,))
    with pytest.raises(InputError, match="C1_1.png is no mask of one class: its largest sample is"):
        layouts.folder_of_masks(images, masks).items[0].read()


def test_masks_of_another_size(tmp_path):
    images, masks = polyps(tmp_path)
    draw(masks / "C1_2.png", mode="1", size=(64, 64))
    with pytest.raises(InputError, match=r"C1_2.png is 64x64, but its image C1_2.png is 96x64"):
        layouts.folder_of_masks(images, masks)


def test_files_that_are_damaged(tmp_path):
    images, masks = polyps(tmp_path)
    data = layouts.folder_of_masks(images, masks)
    whole = (masks / "C1_1.png").read_bytes()
    (masks / "C1_1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="C1_1.png is damaged"):
        data.items[0].read()
    # A chunk that ends too soon: Pillow raises SyntaxError.
    start = whole.index(b"IDAT")
    short = int.from_bytes(whole[start - 4 : start], "big") // 2
    broken = whole[: start - 4] + short.to_bytes(4, "big") + whole[start:]
    (masks / "C1_1.png").write_bytes(broken)
    with pytest.raises(InputError, match="C1_1.png is damaged"):
        data.items[0].read()
    (images / "C1_1.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="C1_1.png cannot be read as an image"):
        layouts.folder_of_masks(images, masks)


def test_names_that_stand_twice(tmp_path):
    images, masks = polyps(tmp_path)
    draw(images / "C1_1.bmp")
    with pytest.raises(InputError, match="C1_1.bmp and C1_1.png have the same name"):
        layouts.folder_of_masks(images, masks)


def test_items_can_be_pickled(tmp_path):
    streets(tmp_path)
    data = [
        layouts.folder_of_masks(*polyps(tmp_path)),
        layouts.cityscapes(tmp_path),
        layouts.coco(tmp_path / "images", coco_folder(tmp_path)[0]),
        layouts.chestx_det(*chest_folder(tmp_path)),
    ]
    for each in data:
        for item in pickle.loads(pickle.dumps(each)).items:
            assert item.read() is not None


def test_held_out_polyps_are_those_of_the_codec(tmp_path):
    """Frames of one centre that no released model has seen."""
    names = [f"C3_{n:03}" for n in range(32)] + ["C1_1", "C5_1"]
    train, validation = layouts.split(layouts.folder_of_masks(*polyps(tmp_path, names)).items)
    assert {item.name for item in train} == {"C1_1", "C5_1", "C3_000", "C3_001"}
    of_codec = images.load_split(tmp_path, ["polyp"])
    assert len(of_codec.train["polyp"]) == len(train)
    assert len(validation) == images.VALIDATION_POLYP_FRAMES


def items(*groups):
    return [
        layouts.Item(None, f"{group}_{n}", group, None)
        for group, count in groups
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("groups", "held"),
    [
        ([("a", 10), ("b", 3), ("c", 2), ("d", 35)], {"b", "c"}),
        ([("a", 10), ("b", 40)], {"a"}),
        ([(str(n), 1) for n in range(10, 40)], {"10", "11", "12"}),
    ],
)
def test_split_by_group(tmp_path, groups, held):
    made = [layouts.replace(item, image=tmp_path / item.name) for item in items(*groups)]
    train, validation = layouts.split(made)
    assert {item.group for item in validation} == held
    assert {item.group for item in train} == {name for name, _ in groups} - held
    assert len(train) + len(validation) == len(made)


def test_split_of_one_group(tmp_path):
    made = [layouts.replace(item, image=tmp_path / item.name) for item in items(("a", 9))]
    train, validation = layouts.split(made, share=0.3)
    assert [item.name for item in validation] == ["a_7", "a_8"] and len(train) == 7
    with pytest.raises(InputError, match="1 images are too few"):
        layouts.split(made[:1])
