"""Decoding where torch and scipy cannot be imported: symbols, samples, and the command."""

from pathlib import Path

import numpy as np
import one_tile
import pytest
from PIL import Image
from without_torch import without_torch

from mvmic_codec.decoder.decode import decode_symbols
from mvmic_codec.decoder.tiles import overlays_of
from mvmic_codec.model.loaded import load

GOLDEN = Path(__file__).parents[2] / "formats/golden"
FILES = sorted(GOLDEN.glob("*.mvm"))

OPEN = """
from pathlib import Path
from PIL import Image
import numpy as np
import mvmic_codec
from mvmic_codec.bitstream.container import Reader
from mvmic_codec.decoder import decode, tiles

for path in map(Path, sys.argv[2:]):
    opened = Image.open(path)
    print(opened.size, opened.mode, sorted(opened.info))
    file = Reader(path.read_bytes())
    header, tile = file.header, file.tile()
    areas = tiles.overlays_of(tile, header).flat
    latent, modes = decode.decode_symbols(
        decode.model_of_file(header),
        tile.payload,
        header.rate_index,
        (header.height, header.width),
        None if areas is None else areas.hidden,
    )
    np.savez(Path(sys.argv[1]) / path.stem, latent=latent, modes=modes)
"""

DECODE = """
from pathlib import Path
from PIL import Image
import numpy as np
import mvmic_codec

for path in map(Path, sys.argv[2:]):
    image, frames = Image.open(path), []
    for frame in range(image.n_frames):
        image.seek(frame)
        frames.append(np.asarray(image))
    loaded = frames[0] if len(frames) == 1 else np.stack(frames)
    np.savez(Path(sys.argv[1]) / path.stem, loaded=loaded, decoded=mvmic_codec.decode_array(path))
"""

COMMAND = """
from mvmic_codec.cli import main
main()
"""

SAVE = """
import sys
from PIL import Image
import mvmic_codec

try:
    Image.new("L", (8, 8)).save(sys.argv[1])
except mvmic_codec.MvmError as error:
    print(error)
"""

DEVICE = """
import mvmic_codec

mvmic_codec.decode(sys.argv[1], device="cpu")
try:
    mvmic_codec.decode(sys.argv[1], device="cuda")
except mvmic_codec.MvmError as error:
    print(error)
"""

NO_TORCH = "needs torch and scipy, and torch is not installed: python -m pip install torch scipy"


@pytest.mark.parametrize("name", ["torch", "torch.nn", "scipy.ndimage"])
def test_torch_is_blocked(name):
    done = without_torch(f"import {name}")
    assert done.returncode == 1 and "is blocked" in done.stderr


def test_files_open_and_their_symbols_decode(tmp_path):
    paths = [GOLDEN / f"{name}.mvm" for name in ("flat-areas-colour", "gray-16-bit", "metadata")]
    done = without_torch(OPEN, tmp_path, *paths)
    assert done.returncode == 0, done.stderr
    for path, said in zip(paths, done.stdout.splitlines(), strict=True):
        opened = Image.open(path)
        assert said == f"{opened.size} {opened.mode} {sorted(opened.info)}"
        file = one_tile.read(path.read_bytes())
        header, areas = file.header, overlays_of(file, file.header).flat
        latent, modes = decode_symbols(
            load(header.fingerprint, "cpu"),
            file.payload,
            header.rate_index,
            (header.height, header.width),
            None if areas is None else areas.hidden,
        )
        found = np.load(tmp_path / f"{path.stem}.npz")
        assert found["latent"].dtype == np.int16 and found["modes"].dtype == np.uint8
        assert len(np.unique(found["latent"])) > 30
        assert np.array_equal(found["latent"], latent[0].numpy())
        assert np.array_equal(found["modes"], modes[0].numpy())


def test_every_golden_file_gives_its_samples(tmp_path):
    assert len(FILES) >= 15
    done = without_torch(DECODE, tmp_path, *FILES)
    assert done.returncode == 0, done.stderr
    for path in FILES:
        expected = np.load(path.with_suffix(".npz"))["samples"]
        found = np.load(tmp_path / f"{path.stem}.npz")
        for name in ("loaded", "decoded"):
            assert found[name].shape == expected.shape
            np.testing.assert_array_equal(found[name], expected, path.stem)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "Medical images"),
        (["decode", "--help"], "Decode .mvm files"),
        (["info", GOLDEN / "colour.mvm"], "mvmic-2c"),
        (["info", "--model"], "gray images"),
    ],
)
def test_the_command_speaks(arguments, said):
    done = without_torch(COMMAND, *arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_the_command_decodes(tmp_path):
    names = ["colour", "gray-16-bit"]
    done = without_torch(
        COMMAND, "decode", *(GOLDEN / f"{name}.mvm" for name in names), "-o", tmp_path
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        (expected,) = np.load(GOLDEN / f"{name}.npz").values()
        with Image.open(tmp_path / f"{name}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_encoding_says_what_it_needs(tmp_path):
    path = tmp_path / "scan.mvm"
    done = without_torch(SAVE, path)
    said = f"encoding {NO_TORCH}"
    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr
    assert not path.exists()
    image = tmp_path / "scan.png"
    Image.new("L", (8, 8)).save(image)
    done = without_torch(COMMAND, "encode", image)
    assert (done.returncode, done.stderr) == (1, f"mvmic: {image}: {said}\n")


def test_a_device_of_torch_says_what_it_needs():
    done = without_torch(DEVICE, GOLDEN / "gray.mvm")
    said = f"decoding on 'cuda' {NO_TORCH}\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr
