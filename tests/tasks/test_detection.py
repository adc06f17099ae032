"""Faster and Mask R-CNN on made-up feature maps: shapes, training, refusals; average precision."""

import math
import re
from collections import OrderedDict
from dataclasses import astuple, replace

import pytest
import torch
from torch.nn.functional import avg_pool2d
from torch.utils.flop_counter import FlopCounterMode

from mvmic_codec import InputError, MvmError

pytest.importorskip("torchvision")
pytest.importorskip("pycocotools")

from mvmic_codec.tasks.average_precision import DetectionMeter, detection_scores  # noqa: E402
from mvmic_codec.tasks.crops import _target, collate  # noqa: E402
from mvmic_codec.tasks.dataset import TaskSample  # noqa: E402
from mvmic_codec.tasks.detection import (  # noqa: E402
    CHANNELS,
    DEEP,
    LEVELS,
    LIGHT,
    BoxPooler,
    Detector,
    PixelStem,
    detect,
    loss_of,
    multiply_adds,
    score,
)
from mvmic_codec.tasks.truth import GroundTruth  # noqa: E402

MODEL = b"\x01\x02\x03\x04\x05\x06\x07\x08"
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}


def sample(boxes=((40, 24, 120, 88),), size=(128, 192), seed=0, pixels=False):
    """A sample whose first channel of each map is high inside the boxes; others are noise."""
    noise = torch.Generator().manual_seed(seed)
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    strides = {"pixels": 1} if pixels else {"s8": 8, "s16": 16}
    maps = OrderedDict()
    for name, stride in strides.items():
        sides = [-(-side // stride) for side in size]
        maps[name] = torch.randn(CHANNELS.get(name, 3), *sides, generator=noise)
        inside = masks.any(0, keepdim=True).float()
        maps[name][0] = 6 * avg_pool2d(inside, stride, ceil_mode=True)[0] - 3
    truth = GroundTruth(
        masks.any(0).to(torch.uint8),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.ones(len(boxes), dtype=torch.int64),
        masks,
    )
    flat = torch.zeros(size, dtype=torch.bool)
    return TaskSample(f"made-{seed}", False, maps, size, 24, MODEL, flat, truth)


def made(seed, size=(96, 128)):
    """A sample with one box at a place of its own."""
    place = torch.Generator().manual_seed(1000 + seed)
    shares = torch.rand(4, generator=place).tolist()
    height, width = (
        int(24 + 0.4 * share * side) for share, side in zip(shares, size, strict=False)
    )
    top, left = int(shares[2] * (size[0] - height)), int(shares[3] * (size[1] - width))
    return sample(((left, top, left + width, top + height),), size, seed)


def train(model, samples, steps):
    """Steps of two samples each, in turn."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    model.train()
    for step in range(steps):
        pair = [samples[(2 * step + k) % len(samples)] for k in (0, 1)]
        optimiser.zero_grad()
        loss_of(model, collate(pair)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()


def scores_of(model, samples):
    return score(model, [collate([each]) for each in samples])


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_losses_in_training_and_detections_in_evaluation(device, masks, pixels):
    torch.manual_seed(0)
    model = Detector(2, masks=masks, stem=PixelStem() if pixels else None).to(device)
    # Sides that are no multiples of anything, and two sizes in one batch.
    batch = [sample(size=(75, 141), pixels=pixels), sample(size=(97, 121), pixels=pixels)]
    loss = loss_of(model, collate(batch))
    loss.backward()
    assert loss.ndim == 0 and loss > 0
    assert all(each.grad is not None for each in model.parameters())
    found = detect(model, collate(batch))
    assert model.training and len(found) == 2
    for each, image in zip(batch, found, strict=True):
        count = len(image["boxes"])
        assert 0 < count <= 100
        assert image["labels"].shape == image["scores"].shape == (count,)
        assert set(image["labels"].tolist()) <= {1, 2}
        assert bool((image["scores"].diff() <= 0).all())
        assert bool((image["boxes"] >= 0).all())
        assert bool((image["boxes"] <= torch.tensor(each.size[::-1] * 2)).all())
        assert ("masks" in image) == masks
        if masks:
            assert image["masks"].shape == (count, *each.size)
            assert image["masks"].dtype == torch.bool


def test_forward_names_the_losses():
    batch = collate([sample()])
    for masks, names in ((False, LOSSES), (True, {*LOSSES, "loss_mask"})):
        model = Detector(masks=masks)
        losses = model(batch["maps"], batch["rate_indices"], batch["sizes"], batch["targets"])
        assert losses.keys() == names


def test_sizes_are_about_those_of_the_study():
    def count(model):
        return sum(each.numel() for each in model.parameters()) / 1e6

    assert 1.4 < count(Detector()) < 1.6
    assert 1.6 < count(Detector(masks=True)) < 1.8


def test_stems_take_what_they_are_said_to():
    size = (544, 960)
    plain, light, deep = (
        multiply_adds(Detector(stem=stem), size)
        for stem in (None, PixelStem(LIGHT), PixelStem(DEEP))
    )
    assert 0.4 < light / plain - 1 < 0.6
    # To decode to s16 and s8 takes about 28 thousand for each pixel.
    assert 26e3 < (deep - plain) / (size[0] * size[1]) < 30e3


def test_multiply_adds_count_what_is_computed():
    """Of the network as a whole, once it makes as many proposals as it may."""
    model = Detector().eval()
    torch.nn.init.zeros_(model.rpn.head.bbox_pred.weight)
    model.rpn.nms_thresh = 1.0
    with FlopCounterMode(display=False) as counter:
        detect(model, collate([sample()]))
    assert counter.get_total_flops() == 2 * multiply_adds(model, (128, 192))


def test_places_stay_exact_under_autocast():
    torch.manual_seed(0)
    model, batch = Detector(masks=True), collate([sample()])
    with torch.autocast("cpu", torch.bfloat16):
        assert loss_of(model, batch).dtype == torch.float32
        found = detect(model, batch)[0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32


@pytest.mark.parametrize("masks", [False, True])
def test_empty_images_can_be_trained_on(masks):
    torch.manual_seed(0)
    model = Detector(masks=masks)
    for batch in ([sample(())], [sample(()), sample()]):
        loss = loss_of(model, collate(batch))
        loss.backward()
        assert bool(torch.isfinite(loss))
        assert all(bool(torch.isfinite(each.grad).all()) for each in model.parameters())


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = Detector()
    samples = [made(0, (64, 96)), made(1, (64, 96))]

    def loss():
        torch.manual_seed(1)
        with torch.no_grad():
            return float(loss_of(model, collate(samples)))

    before = loss()
    train(model, samples, 8)
    assert loss() < 0.8 * before


@pytest.mark.slow
@pytest.mark.parametrize("masks", [False, True])
def test_boxes_in_maps_are_learned(masks):
    torch.manual_seed(0)
    model = Detector(masks=masks)
    others = [made(1000 + seed) for seed in range(8)]
    before = scores_of(model, others)
    train(model, [made(seed) for seed in range(200)], 100)
    after = scores_of(model, others)
    assert before.boxes.at50 < 0.3 and after.boxes.at50 > 0.8
    if masks:
        assert before.masks.at50 < 0.3 and after.masks.at50 > 0.8


def test_a_seed_repeats_training():
    def trained(seed):
        torch.manual_seed(seed)
        model = Detector(masks=True)
        train(model, [made(0, (64, 96)), made(1, (64, 96))], 2)
        return torch.cat([each.detach().flatten() for each in model.parameters()])

    first = trained(1)
    assert torch.equal(first, trained(1)) and not torch.equal(first, trained(2))


def test_one_small_image_is_refused_in_training_alone():
    """Statistics of a batch need two elements of the coarsest level."""
    small = sample(((2, 2, 40, 40),), (64, 64))
    with pytest.raises(InputError, match="one image within 64x64 is too little"):
        loss_of(Detector(), collate([small]))
    assert loss_of(Detector(), collate([small, small])) > 0
    assert len(detect(Detector(), collate([small]))) == 1


def test_the_rate_is_an_input():
    torch.manual_seed(0)
    model = Detector().eval()
    torch.nn.init.normal_(model.pyramid.rates["s16"].table.knots)
    low, high = sample(), replace(sample(), rate_index=60)
    assert not torch.equal(
        detect(model, collate([low]))[0]["scores"], detect(model, collate([high]))[0]["scores"]
    )


def test_boxes_are_pooled_at_their_place():
    """A map that rises by 1 for each sample of the image, of which block means are known."""
    levels = {}
    for level in LEVELS:
        stride = 2**level
        ramp = torch.arange(1024 // stride) * float(stride) + (stride - 1) / 2
        levels[f"s{stride}"] = ramp.expand(1, 64, 1024 // stride, -1)
    boxes = torch.tensor(
        [[100.0, 100, 156, 156], [200, 200, 360, 360], [300, 100, 700, 500], [200, 100, 900, 900]]
    )
    pooled = BoxPooler(7)(levels, [boxes], [(1024, 1024)])
    assert pooled.shape == (4, 64, 7, 7)
    # The last sample of a box lies half a sample before its edge.
    middles = (boxes[:, 0] + boxes[:, 2] - 1) / 2
    assert torch.allclose(pooled[:, 0, 3, 3], middles)


def test_anchors_lie_at_the_strides_of_the_levels():
    """Also for sides that are no multiple of them."""
    seen = []
    model = Detector().eval()
    generate = model.rpn.anchor_generator.forward
    model.rpn.anchor_generator.forward = lambda *a: seen.append(generate(*a)) or seen[-1]
    detect(model, collate([sample(size=(75, 141))]))
    corners = seen[0][0][:, :2] + seen[0][0][:, 2:]
    # 16 x 24 places at 1/8 with six anchors each, then 8 x 12, 4 x 6 and 2 x 3.
    last = [16 * 24 * 6, 8 * 12 * 6, 4 * 6 * 6, 2 * 3 * 6]
    ends = torch.tensor(last).cumsum(0) - 1
    assert corners.shape[0] == sum(last)
    assert (corners[ends] / 2).tolist() == [[184, 120], [176, 112], [160, 96], [128, 64]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"boxes": torch.tensor([[10.0, 10, 10, 50]])}, "no width or no height"),
        ({"labels": torch.tensor([2])}, "run from 1 to 1, but there is one of 2"),
        ({"labels": torch.tensor([1, 1])}, "boxes have the shape [1, 4], but 2 labels need [2, 4]"),
        ({"instances": None}, "needs a mask of the size of the image for each box"),
        ({"instances": torch.ones(1, 64, 64) > 0}, "needs a mask of the size of the image"),
        ({"instances": torch.ones(2, 128, 192) > 0}, "needs a mask of the size of the image"),
        ({"boxes": None}, "learns from boxes in each of 1 images, but got those of 0"),
    ],
)
def test_bad_targets_get_one_sentence(changes, words):
    batch = collate([sample()])
    truth = replace(sample().truth, **changes)
    batch["targets"] = [_target(truth)] if truth.boxes is not None else None
    for use in (loss_of, lambda model, batch: score(model, [batch])):
        with pytest.raises(InputError, match=re.escape(words)):
            use(Detector(masks=True), batch)


def test_bad_maps_get_one_sentence():
    model = Detector(fingerprint=MODEL)
    with pytest.raises(InputError, match="looks at maps s8 and s16, but was given pixels"):
        loss_of(model, collate([sample(pixels=True)]))
    with pytest.raises(InputError, match="looks at maps pixels, but was given s8 and s16"):
        detect(Detector(stem=PixelStem()), collate([sample()]))
    batch = collate([sample()])
    batch["maps"]["s16"] = batch["maps"]["s8"]
    with pytest.raises(InputError, match=re.escape("map s16 has the shape [1, 128, 16, 24]")):
        detect(model, batch)
    other = replace(sample(), fingerprint=bytes(8))
    with pytest.raises(InputError, match="features of model 0102030405060708, and these are of"):
        detect(model, collate([other]))


def test_a_loss_that_is_not_finite_is_refused():
    model = Detector()
    broken = sample()
    broken.maps["s8"][0, 0, 0] = float("nan")
    with pytest.raises(MvmError, match="loss_.* of the detector is not finite"):
        loss_of(model, collate([broken]))


def target_of(each):
    return {**collate([each])["targets"][0], "masks": each.truth.instances}


def detection(each, shift=0.0, score=0.9):
    target = target_of(each)
    scores = torch.full((len(target["boxes"]),), score)
    return {**target, "boxes": target["boxes"] + shift, "scores": scores}


def test_precision_of_perfect_detections_is_1_and_of_none_0():
    samples = [sample(seed=seed) for seed in range(2)]
    targets = [target_of(each) for each in samples]
    perfect = detection_scores(zip(map(detection, samples), targets, strict=True), masks=True)
    for each in (perfect.boxes, perfect.masks):
        assert (each.mean, each.at50, each.at75) == pytest.approx((1, 1, 1))
    nothing = [detection(sample(())) for _ in samples]
    none = detection_scores(zip(nothing, targets, strict=True), masks=True)
    for each in (none.boxes, none.masks):
        assert (each.mean, each.at50, each.at75) == (0, 0, 0)
    assert detection_scores(zip(nothing, targets, strict=True)).masks is None


def test_masks_are_judged_by_themselves():
    each = sample()
    found = detection(each)
    found["masks"] = found["masks"].clone()
    found["masks"][:, :, 100:] = False
    # 60 of 80 columns are left.
    scores = detection_scores([(found, target_of(each))], masks=True)
    assert scores.boxes.mean == pytest.approx(1) and scores.masks.mean == pytest.approx(0.6)


def test_precision_falls_with_the_overlap():
    each = sample(((40, 24, 120, 104),))
    # 72 of 80 rows and columns: an intersection over union of .68.
    found = detection_scores([(detection(each, 8.0), target_of(each))]).boxes
    assert (found.at50, found.at75) == pytest.approx((1, 0))
    # .50, .55, .60 and .65 of ten thresholds.
    assert found.mean == pytest.approx(0.4)


def test_detections_in_empty_images_count_against():
    each, empty = sample(), sample(())
    # The wrong one is surer.
    wrong = detection(sample(), score=0.95)
    pairs = [(detection(each), target_of(each)), (wrong, target_of(empty))]
    assert detection_scores(pairs).boxes.at50 == pytest.approx(0.5)


def test_precision_without_any_box_is_refused():
    empty = sample(())
    with pytest.raises(InputError, match="not defined for images without a single box"):
        detection_scores([(detection(sample()), target_of(empty))])


def drawn(random, count):
    """Boxes in 128x128 with masks, of two classes."""
    corners = 60 * torch.rand(count, 2, generator=random)
    sides = 5 + 50 * torch.rand(count, 2, generator=random)
    boxes = torch.cat([corners, corners + sides], 1)
    masks = torch.zeros(count, 128, 128, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    labels = torch.randint(1, 3, (count,), generator=random)
    scores = torch.rand(count, generator=random)
    return {"boxes": boxes, "labels": labels, "scores": scores, "masks": masks}


def test_precision_is_that_of_torchmetrics():
    from torchmetrics.detection import MeanAveragePrecision

    random = torch.Generator().manual_seed(0)
    meter, other = DetectionMeter(masks=True), MeanAveragePrecision(iou_type=("bbox", "segm"))
    for k in range(12):
        target, extra = drawn(random, k % 4), drawn(random, 3)
        found = {name: torch.cat([target[name], extra[name]]) for name in target}
        found["boxes"] = found["boxes"] + 4 * torch.rand(len(found["boxes"]), 4, generator=random)
        meter.add(found, target)
        other.update([found], [target])
    expected = other.compute()
    scores = meter.scores()
    assert (meter.images, meter.objects) == (12, 18)
    for kind, ours in (("bbox", scores.boxes), ("segm", scores.masks)):
        for key, value in zip(("map", "map_50", "map_75"), astuple(ours), strict=True):
            assert value == pytest.approx(float(expected[f"{kind}_{key}"]), abs=1e-6)
    assert 0.05 < scores.boxes.mean < 0.95


def test_the_error_is_that_of_sets_of_as_many_images():
    """The object of half of the images is found: a share of .5, whose error is .5 / sqrt(n)."""
    each, nothing = sample(), detection(sample(()))
    for count in (8, 32):
        meter = DetectionMeter()
        for k in range(count):
            meter.add(nothing if k % 2 else detection(each), target_of(each))
        errors = meter.standard_errors().boxes
        for each_error in astuple(errors):
            assert each_error == pytest.approx(0.5 / count**0.5, rel=0.25)
        # Drawing leaves the scores as they are, and the same images give the same errors.
        assert meter.scores().boxes.mean == pytest.approx(0.5, abs=0.01)
        assert meter.standard_errors().boxes == errors


@pytest.mark.filterwarnings("error")
def test_an_error_needs_boxes():
    meter = DetectionMeter()
    meter.add(detection(sample()), target_of(sample(())))
    assert all(math.isnan(each) for each in astuple(meter.standard_errors().boxes))


def test_masks_of_two_sizes_are_refused():
    each = sample()
    larger = {**target_of(each), "masks": torch.zeros(1, 128, 200, dtype=torch.bool)}
    with pytest.raises(InputError, match=re.escape("are [128, 192], but those of targets [128, 2")):
        detection_scores([(detection(each), larger)], masks=True)


def test_scores_of_batches_with_images_of_two_sizes():
    """Masks of a batch are padded, and those of detections are not."""
    torch.manual_seed(0)
    model = Detector(masks=True)
    samples = [sample(size=(64, 64)), sample(size=(60, 100))]
    assert score(model, [collate(samples)]).masks is not None
    assert score(Detector(), [collate(samples)]).masks is None
