"""Draw what training and changes have brought: BD-rate of every release by its hours of training.

    python benchmarks/progress.py docs/progress.png

Prints the figures as Markdown. BD-rates are those of results/vX.Y.Z/bd-rate.md, means over images;
hours by the clock, of each release's model for the kind of image, stand in
results/training/hours.csv.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
HOURS = RESULTS / "training" / "hours.csv"
# Set of test images, its model, its name.
SETS = (("polyp", "colour", "colonoscopy"), ("cxr", "gray", "chest X-rays"))
PEERS = {"bpg": "BPG", "jpeg2000": "JPEG 2000"}
AIM = -30  # percent against BPG, for both


def rates_of(version: str) -> dict[tuple[str, str], float]:
    """BD-rate in percent by set and peer of a release."""
    page = (RESULTS / f"v{version}" / "bd-rate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([-+\d.]+)% \|", page, re.MULTILINE)
    return {(images, peer): float(rate) for images, peer, rate in rows}


def main(target: Path) -> None:
    with HOURS.open(encoding="utf-8", newline="") as stream:
        releases = [(row, rates_of(row["version"])) for row in csv.DictReader(stream)]
    columns = [(images, peer) for images, *_ in SETS for peer in PEERS]
    names = {images: name for images, _, name in SETS}
    head = [f"{names[images]}, {PEERS[peer]}" for images, peer in columns]
    print("| version | hours, gray | hours, colour | " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (2 + len(columns)))
    for row, rates in releases:
        cells = [f"{rates[column]:+.1f}%" for column in columns]
        print("| " + " | ".join([row["version"], row["gray"], row["colour"], *cells]) + " |")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for images, model, name in SETS:
        hours = [float(row[model]) for row, _ in releases]
        against = [rates[images, "bpg"] for _, rates in releases]
        axes.plot(hours, against, "o-", label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axhline(AIM, color="black", linestyle=":", label="aim")
    axes.set(xlabel="hours of training", ylabel="BD-rate against BPG, %", xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
