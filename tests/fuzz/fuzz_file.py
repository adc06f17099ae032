#!/usr/bin/env python3
"""An atheris target over the container's parser, the metadata and the plugin.

    tests/fuzz/fuzz_file.py FOLDER ...

Options are libFuzzer's. It starts itself anew to merge, which is why this file is executable.
"""

import sys
import zlib

import atheris
import numpy as np

with atheris.instrument_imports(include=["mvmic_codec", "check_file"]):
    from check_file import check, for_installed_model, mended

    import mvmic_codec

    # What decodes is imported when it is first needed, which must be here; and the models are there
    # before the fuzzer watches time and memory.
    for pixel in ([[0]], [[[0, 1, 2]]]):
        mvmic_codec.decode(mvmic_codec.encode(np.array(pixel, np.uint8)))

# The networks take a hundred times what the parser does: most inputs go without.
DECODE_ONE_IN = 64
LARGEST = 64 * 64


def target(data):
    data = for_installed_model(data)
    check(data, 0)
    # Chosen by what it holds, so that an input does the same whenever it is run.
    check(mended(data), LARGEST if zlib.crc32(data) % DECODE_ONE_IN == 0 else 0)


atheris.Setup(sys.argv, target)
atheris.Fuzz()
