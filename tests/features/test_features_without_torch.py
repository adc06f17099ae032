"""Features as numpy arrays where torch cannot be imported."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from without_torch import without_torch

GOLDEN = Path(__file__).parents[2] / "formats/golden"
FILES = sorted((GOLDEN / "features").glob("*.npz"))

LIBRARY = """
from pathlib import Path
import numpy as np
import mvmic_codec
from mvmic_codec.features.files import to_file
from mvmic_codec.bitstream.container import Reader
from mvmic_codec.decoder.tiles import only_tile
from mvmic_codec.features.mirror import decode_mirrored_features

maps, out = ("coefficients", "s16", "s8"), Path(sys.argv[1])
for path in map(Path, sys.argv[2:]):
    features = mvmic_codec.decode_features([path, path], maps)
    np.savez(out / path.stem, **features.numpy())
    image, one = mvmic_codec.decode(path, features=maps)
    assert np.array_equal(np.asarray(image), np.asarray(mvmic_codec.decode(path)))
    for suffix in (".npz", ".safetensors"):
        (out / f"{path.stem}.file{suffix}").write_bytes(to_file(one, suffix))
    file = Reader(path.read_bytes())
    mirrored = decode_mirrored_features(file.header, only_tile(file.tile()), maps)
    assert mirrored.numpy()["s16"].any()
for use in (lambda: one.maps, lambda: one["s16"], lambda: one.to("cpu")):
    try:
        use()
    except mvmic_codec.MvmError as error:
        print(error)
"""

COMMAND = """
from mvmic_codec.cli import main
main()
"""


def check(arrays, golden):
    with np.load(golden) as expected:
        for name in expected:
            assert arrays[name].dtype == np.float32
            assert np.array_equal(arrays[name], expected[name]), name


def test_decoded_features_are_the_golden_ones(tmp_path):
    assert len(FILES) == 2
    done = without_torch(LIBRARY, tmp_path, *(GOLDEN / f"{golden.stem}.mvm" for golden in FILES))
    assert done.returncode == 0, done.stderr
    sentence = "turning features into tensors needs torch and scipy, and torch is not installed: "
    assert done.stdout == 3 * f"{sentence}python -m pip install torch scipy\n"
    for golden in FILES:
        with np.load(tmp_path / f"{golden.stem}.npz") as batch:
            for k in range(2):
                check({name: batch[name][k : k + 1] for name in batch}, golden)
        check(load_file(tmp_path / f"{golden.stem}.file.safetensors"), golden)
        with np.load(tmp_path / f"{golden.stem}.file.npz") as written:
            check(written, golden)


def test_the_command_writes_them(tmp_path):
    maps = ("--map", "s16", "--map", "s8", "--map", "coefficients")
    golden = FILES[0]
    target = tmp_path / "out.npz"
    source = GOLDEN / f"{golden.stem}.mvm"
    done = without_torch(COMMAND, "features", source, "-o", target, *maps)
    assert done.returncode == 0, done.stderr
    assert "s16 1x224x" in done.stdout
    with np.load(target) as written:
        check(written, golden)
