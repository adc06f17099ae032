"""Write the golden features: what `decode_features` gives for some golden files, exactly.

    python formats/golden/features/make.py

Run it when there is a new model, and never to make a test pass.
"""

from pathlib import Path

import numpy as np

import mvmic_codec

HERE = Path(__file__).parent
FILES = ("colour", "gray")
MAPS = ("coefficients", "s16", "s8")

for name in FILES:
    features = mvmic_codec.decode_features(HERE.parent / f"{name}.mvm", MAPS, device="cpu")
    np.savez_compressed(HERE / f"{name}.npz", **features.numpy())
