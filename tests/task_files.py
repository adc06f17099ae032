"""Small images with ground truth, for tests of tasks."""

from functools import partial

import numpy as np
from PIL import Image

from mvmic_codec.tasks import layouts
from mvmic_codec.tasks.truth import of_binary_mask

HEIGHT, WIDTH = 75, 141


def picture(seed, height=HEIGHT, width=WIDTH):
    """A disc on waves, [H,W,3], and where the disc is."""
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - 30 - seed, columns - 40) < 18
    waves = 120 + 50 * np.sin(rows / 9 + columns / 23) + 40 * disc
    noise = np.random.default_rng(seed).normal(0, 5, (height, width, 3))
    return np.clip(waves[..., None] + noise, 0, 255).astype(np.uint8), disc


def as_truth(disc):
    return of_binary_mask(disc)


def write_item(folder, seed, **size):
    pixels, disc = picture(seed, **size)
    path = folder / f"C{seed}_{seed}.png"
    Image.fromarray(pixels).save(path)
    return layouts.Item(path, path.stem, f"C{seed}", partial(as_truth, disc))
