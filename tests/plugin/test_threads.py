"""Images in eight threads at once, with the released model: the same bytes as one after another."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

import mvmic_codec  # noqa: F401 - registers the format

THREADS = 8


def picture(number):
    """A picture of its own for each number: gray, colour or deep, 40 to 130 pixels a side."""
    rng = np.random.default_rng(number)
    height, width = (int(side) for side in rng.integers(40, 130, 2))
    y, x = np.mgrid[:height, :width]
    wave = 0.5 + 0.3 * np.sin(x / (5 + number)) * np.cos(y / 9) + rng.normal(0, 0.03, x.shape)
    if number % 3 == 0:
        return Image.fromarray((wave.clip(0, 1) * 255).astype(np.uint8))
    if number % 3 == 1:
        return Image.fromarray((wave.clip(0, 1) * 4095).astype(np.uint16))
    planes = np.stack((wave, wave.T[0, 0] + 0 * wave, 1 - wave), 2)
    return Image.fromarray((planes.clip(0, 1) * 255).astype(np.uint8))


def there_and_back(number):
    data = io.BytesIO()
    picture(number).save(data, "MVM", rate_index=7 * number % 64, device="cpu")
    data.seek(0)
    with Image.open(data) as image:
        image.load()
    return data.getvalue(), image.mode, np.asarray(image)


def test_eight_threads_write_and_read_what_one_does():
    numbers = list(range(2 * THREADS))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = [there_and_back(number) for number in numbers]
        with ThreadPoolExecutor(THREADS) as pool:
            together = list(pool.map(there_and_back, numbers))
    finally:
        torch.set_num_threads(before)
    assert len({data for data, _, _ in alone}) == len(numbers)
    for (data, mode, samples), (data2, mode2, samples2) in zip(alone, together, strict=True):
        assert data == data2 and mode == mode2
        np.testing.assert_array_equal(samples, samples2)
