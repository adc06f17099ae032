"""Numbers of formats/model.md that all models share. Nothing here needs torch."""

from __future__ import annotations

from mvmic_codec.bitstream.grid import BLOCK
from mvmic_codec.model.schedule import GROUPS, MODE_HALVES, SPATIAL_STEPS

AREA = BLOCK * BLOCK  # channels of luma, one for each pixel of a block

FRACTION_BITS = 4
FRACTION = 1 << FRACTION_BITS  # q, m and v are in sixteenths
SPACING = 12  # between levels of y, in sixteenths of a step; two quantisers share the levels
STEP_BITS = 12  # fractional bits of quantiser steps on the 255 scale
GAIN_BITS = 20  # fractional bits of reciprocal steps
LINEAR_BITS = 12  # fractional bits of the linear predictors' weights
WEIGHT_BITS = 12  # fractional bits of the weights of neighbours
V_MAX = 2**23  # largest |v| in linear prediction; v is y in sixteenths on the 255 scale
MEAN_MAX = 2**18  # largest |m|, in sixteenths of a step
DEEP_MEAN_MAX = 127  # largest part of m from the context networks, in sixteenths
LATENT_BITS = 3  # the latent that synthesis takes is in units of 2^-LATENT_BITS on the 255 scale

MODE_DEPTH = 3  # bits of a mode
MODES = 1 << MODE_DEPTH
NODES = MODES - 1  # nodes of the tree that codes a mode
MODE_INPUT = 32  # a mode enters a network as a one-hot vector with this in place of 1

TABLES = 64  # table 0 is "not coded"
FLAG_TABLES = 32  # tables for the bits of a mode; they follow the others
SECOND = TABLES + FLAG_TABLES - 1  # distance from a table to that of the second quantiser

COMPAND_ENTRIES = 256
COMPANDED_MAX = 127  # largest companded magnitude
CLASSES = 16  # classes of neighbours by companded magnitude
SHIFT_MAX = 14  # largest shift of a layer's weights
INPUTS_MAX = 4096  # most inputs of a layer
# Sums of a layer stay below this, and so within 32 bits. All other numbers stay below EXACT: half
# of what float64 holds exactly. The rest of both is room for the halves of rounding.
SUM_LIMIT = 2**30
EXACT = 2**52

LAYERS = ["hyper_rise"]
LAYERS += [f"{kind}.{k}" for kind in ("mode_scores", "mode_merge") for k in range(MODE_HALVES)]
LAYERS += [f"merge.{k}" for k in range(GROUPS - 1)]
LAYERS += [f"{kind}.{k}" for kind in ("think", "scales") for k in range(GROUPS)]
LAYERS += [f"means.{k}" for k in range(SPATIAL_STEPS)]

# Synthesis.
COEFFICIENT_BITS = LATENT_BITS  # fractional bits of coefficients, on the 255 scale
ROW_BITS = 4  # of blocks after the first pass of the inverse DCT
SAMPLE_BITS = 5  # of samples after the second
PLANE_BITS = 12  # of planes
QUAD_BITS = 4  # of what the post-filter sees
MATRIX_BITS = 14  # of the matrices of the linear path
STREAM_MAX = 2**15 - 1  # largest number of 16 bits
INPUT_MAX = 2**13 - 1  # largest input of most layers
NARROWED_MAX = 2**13  # largest size of a stream that was shifted to the right by 2
PLANE_MAX = 2**23  # largest sample of a plane before the post-filter
WEIGHT3_MAX = 3640  # largest weight of a 3x3 layer: Winograd's algorithm adds up 9 of them
# Sums of a 1x1 layer, and four times those of a 3x3 layer, fit 32 bits.
SUM1_MAX = 2**31 - 1
SUM3_MAX = 2**29 - 1
# What planes, in 2^-PLANE_BITS, are multiplied by to make samples, in 2^-RANGE_BITS of their range.
RANGE_BITS = 42
_LUMA, _FIRST, _SECOND = 2431079, 2977451, 1719032  # 2^30 / 255 over sqrt 3, sqrt 2, sqrt 6
GRAY_MATRIX = ((_LUMA,),)
COLOUR_MATRIX = (
    (_LUMA, _FIRST, _SECOND),
    (_LUMA, 0, -2 * _SECOND),
    (_LUMA, -_FIRST, _SECOND),
)
