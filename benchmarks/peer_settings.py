"""What other settings of HEIC and JPEG XL take in bits, against those that `mvmic eval` uses.

    python benchmarks/peer_settings.py ../shared/data/train/cxr_half ../shared/data/train/polyp

Prints BD-rates at equal PSNR, the mean over IMAGES images of each folder that lie evenly among its
names: above zero, the other setting takes more. Settings are chosen on training images, so give no
test images.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mvmic_codec.evaluation.codec import Codec, Setting
from mvmic_codec.evaluation.curves import Curve, bd_rate
from mvmic_codec.evaluation.images import files_of, load
from mvmic_codec.evaluation.metrics import Pixels, psnr
from mvmic_codec.evaluation.peers import peer

IMAGES = 4

# What mvmic_codec/evaluation/peers.py gives to libheif, in colour.
HEIC = {
    "chroma": "444",
    "preset": "placebo",
    "tune": "psnr",
    "x265:pools": "none",
    "x265:cbqpoffs": "-1",
    "x265:crqpoffs": "-1",
}


def heic(without: tuple[str, ...] = (), **parameters: str) -> dict:
    """Options for Pillow: HEIC's own without some parameters, and with others."""
    kept = {name: value for name, value in HEIC.items() if name not in without}
    return {"save_nclx_profile": False, "enc_params": kept | parameters}


def chroma_offset(qp: int) -> dict:
    return heic(**{"x265:cbqpoffs": str(qp), "x265:crqpoffs": str(qp)})


CHOICES = {
    "heic": {
        "as it is": heic(),
        "libheif's tuning": heic(without=("tune",)),
        "preset slow": heic(preset="slow"),
        "pools of threads": heic(without=("x265:pools",)),
        "chroma QPs +1": chroma_offset(1),
        "no chroma offset": heic(without=("x265:cbqpoffs", "x265:crqpoffs")),
        "chroma QPs -3": chroma_offset(-3),
        "halved chroma": heic(chroma="420"),
        "with nclx box": heic() | {"save_nclx_profile": True},
    },
    "jxl": {
        "as it is": {"effort": 7, "num_threads": 0},
        "original profile": {"effort": 7, "num_threads": 0, "use_original_profile": True},
        "effort 8": {"effort": 8, "num_threads": 0},
    },
}
FORMS = {"heic": "HEIF", "jxl": "JXL"}


def chosen(name: str, label: str, options: dict) -> Setting:
    def encode(image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, FORMS[name], quality=int(label), **options)
        return file.getvalue()

    return Setting(label, encode)


def curve(codec: Codec, settings: list[Setting], pixels: Pixels) -> Curve:
    image, points = Image.fromarray(pixels), []
    for setting in settings:
        data = setting.encode(image)
        decoded = np.asarray(codec.decode(data).convert(image.mode))
        points.append((8 * len(data) / (image.width * image.height), psnr(pixels, decoded)))
    return points


def main(folders: list[Path]) -> None:
    for folder in folders:
        paths = files_of(folder)
        images = [load(paths[i * len(paths) // IMAGES]) for i in range(min(IMAGES, len(paths)))]
        for name, choices in CHOICES.items():
            codec = peer(name)
            own = [codec.curves(pixels.ndim == 2)[0] for pixels in images]
            anchors = [curve(codec, *pair) for pair in zip(own, images, strict=True)]
            for choice, options in choices.items():
                settings = [chosen(name, setting.label, options) for setting in own[0]]
                curves = [curve(codec, settings, pixels) for pixels in images]
                rates = [bd_rate(*pair) for pair in zip(anchors, curves, strict=True)]
                known = [rate for rate in rates if rate is not None]
                print(
                    f"{folder.name:10} {name:5} {choice:18} {np.mean(known):+8.2f}%  "
                    f"{len(known)} images",
                    flush=True,
                )


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
