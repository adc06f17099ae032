"""The integer entropy model once more, from formats/model.md alone: numpy, int64, no torch.

Slow and plain on purpose. `decode_latent` is all that a decoder needs between the symbols of z and
the latent and the modes that synthesis takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# (half, bit, table indices [2,h,w]) -> the symbols of that bit [2,h,w].
ModeCoder = Callable[[int, int, Ints], Ints]
# (part, table indices, means), each [n,h,w], -> the symbols of that part [n,h,w].
Coder = Callable[[int, Ints, Ints], Ints]

PARTS = 8
SITE_ORDER = (0, 3, 1, 2)
HALVES = ((0, 3), (1, 2))
LEVEL_MAX = 2**23
MEAN_MAX = 2**18


def shift_right(x: Ints, bits: Ints | int) -> Ints:
    """x / 2^bits, rounded to nearest, halves up."""
    bits = np.asarray(bits, np.int64)
    return (x + (np.left_shift(1, bits) >> 1)) >> bits


def convolve(x: Ints, weight: Ints) -> Ints:
    """Correlation of [I,h,w] with [O,I,k,k] over edges that repeat -> [O,h,w]."""
    size = weight.shape[-1]
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    height, width = x.shape[1:]
    out = np.zeros((weight.shape[0], height * width), np.int64)
    for dy in range(size):
        for dx in range(size):
            window = padded[:, dy : dy + height, dx : dx + width].reshape(len(x), -1)
            out += weight[:, :, dy, dx] @ window
    return out.reshape(-1, height, width)


def spread_cells(x: Ints) -> Ints:
    """[4C,h,w] -> [C,2h,2w]: plane 4c + 2i + j holds row i, column j of each cell of channel c."""
    planes, height, width = x.shape
    cells = x.reshape(planes // 4, 2, 2, height, width)
    return cells.transpose(0, 3, 1, 4, 2).reshape(planes // 4, 2 * height, 2 * width)


def site_of(p: int, channel: int, rotate: bool) -> int:
    """Which site of a cell (0 to 3, row by row) pass p codes."""
    turn = channel % 4 if rotate else 0
    return SITE_ORDER[(p + turn) % 4]


def decode_latent(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    z: Ints,
    rate: int,
    size: tuple[int, int],
    live: npt.NDArray[np.bool_],
    rotate: bool,
    mode_coder: ModeCoder,
    coder: Coder,
) -> tuple[Ints, Ints]:
    """Symbols z [Z,h/2,w/2] -> v [C,2h,2w], in sixteenths of the 255 scale, and modes [2h,2w].

    h, w are at 1/32. size is (height, width) of the image in pixels; live [C] is False for channels
    not coded.
    """
    a = {name: array.astype(np.int64) for name, array in arrays.items()}
    step, gain = a["step"][rate][:, None, None], a["gain"][rate][:, None, None]
    channels, near = len(step), len(gain)

    def layer(name: str, x: Ints) -> Ints:
        total = convolve(x, a[f"{name}.weight"]) + a[f"{name}.bias"][:, None, None]
        return shift_right(total, a[f"{name}.shift"][:, None, None])

    def compand(q: Ints) -> Ints:
        return np.sign(q) * a["compand"][np.minimum(np.abs(q), 255)]

    level = shift_right(z * 16 * a["hyper_step"][rate][:, None, None], 12)
    from_z = spread_cells(convolve(np.clip(level, -LEVEL_MAX, LEVEL_MAX), a["hyper_linear"]))
    features = spread_cells(layer("hyper_rise", compand(z * 16)))
    features = np.clip(features + a["start"][rate][:, None, None], 0, 255)
    _, height, width = features.shape

    rows, columns = np.arange(height)[:, None], np.arange(width)
    inside = [
        (16 * (2 * rows + k // 2) < size[0]) & (16 * (2 * columns + k % 2) < size[1])
        for k in range(4)
    ]

    mode = np.zeros((4, height, width), np.int64)
    known, planes = features, [features]
    for half, sites in enumerate(HALVES):
        scores = layer(f"mode_scores.{half}", known)
        # The table indices of all nodes of both sites, and the bits of each so far.
        tables = []
        for place, k in enumerate(sites):
            score = scores[7 * place : 7 * place + 7] + a["mode_base"][rate][:, None, None]
            tables.append((64 + np.clip((score + 8) >> 4, 0, 31)) * inside[k])
        for bit in range(3):
            index = [
                np.choose(2**bit - 1 + mode[k], table)
                for k, table in zip(sites, tables, strict=True)
            ]
            symbols = mode_coder(half, bit, np.stack(index))
            for k, symbol in zip(sites, symbols, strict=True):
                mode[k] = 2 * mode[k] + (symbol > 0)
        planes += [32 * (mode[k] == np.arange(8)[:, None, None]) for k in sites]
        known = np.clip(layer(f"mode_merge.{half}", np.concatenate(planes)), 0, 255)
    features = known

    latent = np.zeros((channels, 2 * height, 2 * width), np.int64)
    levels: list[Ints] = []
    q = np.zeros((0, height, width), np.int64)
    for part in range(PARTS):
        p, far = part // 2, part % 2 == 1
        mine = range(near, channels) if far else range(near)
        sites = [site_of(p, channel, rotate) for channel in mine]
        if part:
            t = compand(q)
            seen = [features, t, np.abs(t)] if far else [features, np.abs(t)]
            features = np.clip(layer(f"merge.{part - 1}", np.concatenate(seen)), 0, 255)
        deep = np.clip(layer(f"think.{part}", features), 0, 255)

        index = layer(f"scales.{part}", deep)
        for n, (channel, k) in enumerate(zip(mine, sites, strict=True)):
            index[n] += a["base"][rate, p, channel] + a["base_mode"][mode[k], channel]
            index[n] = np.clip((index[n] + 8) >> 4, 0, 63) * (inside[k] & live[channel])

        mean = np.zeros_like(index)
        if not far:
            aligned = np.stack([a["aligned"][mode[k], c] for c, k in zip(mine, sites, strict=True)])
            linear = from_z[p * near : (p + 1) * near]
            if p:
                linear = linear + convolve(np.concatenate(levels), a[f"predict.{p - 1}"])
            mean = shift_right(shift_right(linear, 12) * gain, 20) * aligned
            mean += np.clip(layer(f"means.{p}", deep), -127, 127)
            mean = np.clip(mean, -MEAN_MAX, MEAN_MAX) * live[:near, None, None]

        q = coder(part, index, mean) * 16 + mean
        v = shift_right(q * step[mine.start : mine.stop], 12)
        if not far:
            levels.append(np.clip(v, -LEVEL_MAX, LEVEL_MAX) * aligned)
        for n, (channel, k) in enumerate(zip(mine, sites, strict=True)):
            latent[channel, k // 2 :: 2, k % 2 :: 2] = v[n]
    return latent, spread_cells(mode)[0]


Reals = npt.NDArray[np.float64]


def shuffle(x: Reals, n: int) -> Reals:
    """[n*n*K,h,w] -> [K,n*h,n*w]."""
    planes, height, width = x.shape
    cells = x.reshape(planes // n**2, n, n, height, width)
    return cells.transpose(0, 3, 1, 4, 2).reshape(planes // n**2, n * height, n * width)


def unshuffle(x: Reals, n: int) -> Reals:
    """The inverse of `shuffle`."""
    planes, height, width = x.shape
    cells = x.reshape(planes, height // n, n, width // n, n)
    return cells.transpose(0, 2, 4, 1, 3).reshape(planes * n**2, height // n, width // n)


def chroma_channels(channels: int, near_luma: int, near_chroma: int) -> npt.NDArray[np.bool_]:
    """[C]: which channels of y are chroma."""
    luma = [near_luma, 256 - near_luma]
    chroma = [near_chroma, channels - 256 - near_chroma]
    return np.repeat([False, True, False, True], [luma[0], chroma[0], luma[1], chroma[1]])


def synthesise(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    y: Reals,
    modes: Ints,
    chroma: npt.NDArray[np.bool_],
    rate: int,
    size: tuple[int, int],
) -> Reals:
    """Latent y [C,h,w] and modes [h,w] at 1/16 -> R, G, B planes [3,H,W] in 0..1, in float64.

    chroma [C] is True for the chroma channels of y.
    """
    a = {
        name: array.astype(np.float64)
        for name, array in arrays.items()
        if name.startswith(("synthesis.", "blocks."))
    }

    def conv(x: Reals, name: str) -> Reals:
        weight = a[f"synthesis.{name}.weight"]
        pad = weight.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (1, 2))
        out = np.einsum("oiab,ihwab->ohw", weight, windows)
        bias = a.get(f"synthesis.{name}.bias")
        return out if bias is None else out + bias[:, None, None]

    def tune(x: Reals, name: str) -> Reals:
        table = a[f"synthesis.{name}.table.knots"]
        t = rate * 7 / 63
        k = min(int(t), 6)
        row = table[k] + (t - k) * (table[k + 1] - table[k])
        scale, offset = np.split(row[:, None, None], 2)
        return x * (1 + scale) + offset

    def blocks(x: Reals, name: str) -> Reals:
        k = 0
        while f"synthesis.{name}.{k}.first.weight" in a:
            x = x + conv(np.maximum(conv(x, f"{name}.{k}.first"), 0), f"{name}.{k}.second")
            k += 1
        return x

    def border(x: Reals) -> Reals:
        x = x.copy()
        for at in range(8, x.shape[2] - 16, 16):
            x[:, :, at : at + 16] = x[:, :, at : at + 16] @ a["synthesis.borders"].T
        return x

    turns = a["blocks.luma_back"][modes]
    coefficients = np.concatenate(
        [
            np.einsum("hwij,jhw->ihw", turns, y[~chroma]),
            np.einsum("ij,jhw->ihw", a["blocks.chroma_back"], y[chroma]),
        ]
    )
    n, f = np.arange(16), np.arange(16)[:, None]
    dct = np.cos(np.pi * (2 * n + 1) * f / 32) / np.sqrt(8)
    dct[0] = 1 / 4
    grid = coefficients.reshape(3, 16, 16, *modes.shape)
    blocks16 = np.einsum("vi,uj,cvuhw->cijhw", dct, dct, grid).reshape(768, *modes.shape)
    straight = border(shuffle(blocks16, 16))
    straight = border(straight.transpose(0, 2, 1)).transpose(0, 2, 1)
    onehot = (modes == np.arange(8)[:, None, None]).astype(np.float64)
    x = conv(coefficients / a["synthesis.spread"][:, None, None], "enter") + conv(onehot, "mode")
    x = blocks(tune(x, "rate16"), "body16")
    x = shuffle(conv(x, "up"), 2) + conv(unshuffle(straight, 8) / 64, "inject")
    x = blocks(tune(x, "rate8"), "body8")
    luma, red_blue, green = straight + shuffle(16 * conv(x, "leave"), 8)
    luma, red_blue, green = luma / np.sqrt(3), red_blue / np.sqrt(2), green / np.sqrt(6)
    planes = np.stack([luma + red_blue + green, luma - 2 * green, luma - red_blue + green])
    return np.clip(planes[:, : size[0], : size[1]] / 255 + 0.5, 0, 1)
