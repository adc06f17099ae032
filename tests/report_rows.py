"""Rows and pictures to make reports of."""

from pathlib import Path

import numpy as np

from mvmic_codec.evaluation.pictures import Coded, Picture, Source
from mvmic_codec.evaluation.rows import COLUMNS, Row

_CURVE = ((0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0))


def rows(codec, name, image, factor=1.0, ms_ssim=True, seconds=True):
    """Four settings of which the rate is `factor` times that of others, at 50 x 40 pixels."""
    others = dict.fromkeys(COLUMNS)  # what a report does not show
    return [
        Row(
            **others
            | {
                "set": name,
                "image": image,
                "codec": codec,
                "setting": str(setting),
                "width": 50,
                "height": 40,
                "channels": 1,
                "bytes": round(2000 * bpp * factor / 8),
                "bpp": bpp * factor,
                "psnr": psnr,
                "ms_ssim": 1 - 10 ** (-psnr / 20) if ms_ssim else None,
                "enc_s": 0.002 * factor if seconds else None,
                "dec_s": 0.004 * factor if seconds else None,
                "enc_mib": factor if seconds else None,
                "dec_mib": factor / 2 if seconds else None,
            }
        )
        for setting, (bpp, psnr) in enumerate(_CURVE)
    ]


def table():
    """Two sets; peer vvc has one of three images of the first, without MS-SSIM and costs."""
    found = []
    for image, factor, theirs in (("a.png", 1, 2), ("b.png", 2, 3), ("c.png", 3, 9)):
        found += rows("mvm", "chest", image, factor)
        found += rows("jpeg", "chest", image, theirs)
    found += rows("vvc", "chest", "b.png", 1.5, ms_ssim=False, seconds=False)
    found += rows("mvm", "bowel", "d.png") + rows("avif", "bowel", "d.png", 0.8)
    return found


def picture(name="x.png", height=200, width=300):
    """The original has stripes, every decode is flat: mvm's darker, the other codec's brighter."""
    stripes = np.tile(np.uint8([0, 255]), (height, width // 2))

    def coded(codec, k, level):
        pixels = np.full((height, width), level, np.uint8)
        return Coded(codec, f"at {k}", pixels, 1000 * (k + 1) - (level > 99), 30.0 + k)

    return Picture(
        Source(Path(name), stripes, 12345, rendered=False),
        [(coded("mvm", k, 50 + k), coded("avif", k, 200 + k)) for k in range(3)],
    )
