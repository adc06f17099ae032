"""Write the golden features: what `decode_features` gave for some golden files when they were new.

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
    # The second decimal matters; single precision would double the size.
    arrays = {each: array.astype(np.float16) for each, array in features.numpy().items()}
    np.savez_compressed(HERE / f"{name}.npz", **arrays)
