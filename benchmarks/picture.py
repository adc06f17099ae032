"""Draw the README's picture: a fundus photograph and its decodes at q = 1, 3 and 6.

    python benchmarks/picture.py docs/retina.png

The photograph comes with scikit-image (Mikael Haggstrom, CC0). The original's size is that of the
JPEG file there.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import skimage
from PIL import Image, ImageDraw, ImageFont

import mvmic_codec

QUALITIES = (1, 3, 6)
BOX = (520, 360, 980, 820)
LABEL = 44


def panel(image: Image.Image, text: str) -> Image.Image:
    """The part of the image in BOX with a line of text under it."""
    side = BOX[2] - BOX[0]
    out = Image.new("RGB", (side, side + LABEL), "white")
    out.paste(image.crop(BOX), (0, 0))
    font = ImageFont.load_default(size=22)
    ImageDraw.Draw(out).text((side / 2, side + LABEL / 2), text, "black", font, anchor="mm")
    return out


def main(target: Path) -> None:
    source = Path(skimage.__file__).parent / "data" / "retina.jpg"
    original = Image.open(source).convert("RGB")
    panels = [panel(original, f"original, {source.stat().st_size / 1000:.0f} kB")]
    for quality in QUALITIES:
        data = mvmic_codec.encode(original, quality=quality)
        decoded = Image.open(io.BytesIO(data))
        panels.append(panel(decoded, f"-q {quality}, {len(data) / 1000:.1f} kB"))
    width, height = panels[0].size
    gap = 8
    sheet = Image.new("RGB", (len(panels) * (width + gap) - gap, height), "white")
    for k, each in enumerate(panels):
        sheet.paste(each, (k * (width + gap), 0))
    sheet = sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
