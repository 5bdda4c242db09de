"""Synthetic pictures, a landscape and a painting: no download, the same on every machine."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array: TypeAlias = NDArray[np.float64]

_SHORE = 0.62  # distance of the shore line from the top, as a part of the picture's height


def landscape(width: int = 640, height: int = 480, seed: int = 7) -> Image.Image:
    """A content image: a lake under mountains at dusk, with a house on the shore."""
    random = np.random.default_rng(seed)
    shore = round(height * _SHORE)
    x = np.linspace(0, 1, width)
    y = np.linspace(0, 1, shore)[:, None]

    sky = _gradient(y[:, 0], [(0, (58, 84, 138)), (0.55, (222, 160, 132)), (1, (252, 214, 150))])
    view = np.repeat(sky[:, None], width, axis=1)
    glow = np.exp(-(((x[None] - 0.68) / 0.22) ** 2 + ((y - 0.78) / 0.3) ** 2))[..., None]
    view += glow * (np.array([255, 236, 190]) - view) * 0.8
    clouds = np.clip(_noise(random, shore, width, (3, 5)) - 0.5, 0, None)[..., None] * (
        1 - y[..., None]
    )
    view += clouds * 1.6 * (np.array([255, 222, 205]) - view)
    ridges = [(0.56, 0.16, (112, 112, 150)), (0.7, 0.17, (76, 86, 112)), (0.85, 0.12, (44, 62, 66))]
    for base, relief, color in ridges:
        crest = base - relief * (_noise(random, 1, width, (1, 5), octaves=6)[0] - 0.4)
        slope = np.clip((y - crest) * shore, 0, 1)[..., None]
        shade = 0.8 + 0.4 * _noise(random, shore, width, (16, 20), octaves=4)[..., None]
        view += slope * (np.array(color) * shade - view)

    picture = Image.fromarray(_bytes(view))
    _draw_shore(picture, random)
    lake = _reflection(np.asarray(picture, dtype=np.float64), height - shore, random)
    return Image.fromarray(np.concatenate([np.asarray(picture), _bytes(lake)]))


def painting(width: int = 640, height: int = 480, seed: int = 3) -> Image.Image:
    """A style image: swirls of thick strokes in blues, ochers and cream."""
    random = np.random.default_rng(seed)
    centers = random.uniform([0, 0], [width, height], size=(9, 2))
    spins = random.choice([-1.0, 1.0], size=9) * random.uniform(0.7, 1.6, size=9)
    radii = random.uniform(0.12, 0.3, size=9) * width
    palette = np.array(
        [(20, 32, 84), (34, 66, 142), (66, 118, 178), (142, 184, 196), (236, 224, 176),
         (232, 180, 52), (196, 120, 30), (26, 48, 52)]
    )  # fmt: skip
    image = Image.new("RGB", (width, height), tuple(palette[1]))
    draw = ImageDraw.Draw(image)
    scale = width / 640
    for brush, count in ((18, 900), (10, 2600), (5, 5200)):
        thickness = max(1, round(brush * scale))
        starts = random.uniform([-20, -20], [width + 20, height + 20], size=(count, 2))
        paths = _follow(starts, centers, spins, radii, steps=11, length=brush * scale * 0.55)
        for start, path in zip(starts, paths, strict=True):
            nearest = np.min(np.hypot(*(centers - start).T) / radii)
            tone = np.clip(5.4 - 4.6 * nearest + random.normal(0, 0.9), 0, 6)
            if start[1] > height * 0.82 and random.random() < 0.8:
                tone = 7.0  # the dark ground
            color = palette[round(tone)] + random.normal(0, 12, size=3)
            _stroke(draw, path, np.clip(color, 0, 255), thickness)
    return image.filter(ImageFilter.GaussianBlur(0.6))


def _follow(
    starts: Array, centers: Array, spins: Array, radii: Array, steps: int, length: float
) -> Array:
    """Paths [count, steps + 1, 2] in pixels along a field of whirls and a steady drift.

    Args:
        starts: [count, 2] in pixels.
        centers: of the whirls [whirls, 2], in pixels.
        spins: their strengths, positive or negative [whirls].
        radii: in pixels [whirls].
        steps: per path.
        length: of a step in pixels.
    """
    paths = [starts]
    for _ in range(steps):
        away = paths[-1][:, None] - centers  # [count, whirls, 2]
        pull = spins * np.exp(-((np.hypot(*away.T).T / radii) ** 2)) / radii
        field = (pull[..., None] * np.stack([-away[..., 1], away[..., 0]], axis=-1)).sum(axis=1)
        field += np.stack([np.full(len(field), 0.5), 0.14 * np.sin(paths[-1][:, 0] / 60)], axis=1)
        paths.append(paths[-1] + field / (np.hypot(*field.T)[:, None] + 1e-9) * length)
    return np.stack(paths, axis=1)


def _stroke(draw: ImageDraw.ImageDraw, path: Array, color: Array, thickness: int) -> None:
    """Draw one brush stroke: a body with a lit and a shaded edge."""
    across = np.roll(path[-1] - path[0], 1) * (1, -1)
    across = across / (np.hypot(*across) + 1e-9) * thickness * 0.3
    for shift, light, width in ((0.0, 1.0, thickness), (1.0, 1.18, 0.3), (-1.0, 0.78, 0.3)):
        points = [tuple(point) for point in path + shift * across]
        tint = tuple(int(value) for value in np.clip(color * light, 0, 255))
        pixels = width if shift == 0 else max(1, round(thickness * width))
        draw.line(points, fill=tint, width=int(pixels), joint="curve")


def _draw_shore(picture: Image.Image, random: np.random.Generator) -> None:
    """Draw firs along the water and a house with lit windows."""
    draw = ImageDraw.Draw(picture)
    width, shore = picture.size
    unit = width / 640
    left, top = 0.3 * width, shore - 44 * unit
    draw.rectangle((left, top, left + 62 * unit, shore), fill=(150, 74, 58))
    roof = [(left - 7 * unit, top), (left + 31 * unit, top - 30 * unit), (left + 69 * unit, top)]
    draw.polygon(roof, fill=(62, 40, 48))
    for column in (10, 38):
        window = (
            left + column * unit,
            top + 12 * unit,
            left + (column + 14) * unit,
            top + 28 * unit,
        )
        draw.rectangle(window, fill=(255, 220, 128))
    for x in np.sort(random.uniform(0, width, size=30)):
        if left - 12 * unit < x < left + 74 * unit:  # the house
            continue
        fir = random.uniform(26, 70) * unit  # its height
        for layer in range(4):
            reach, tip = fir * (0.3 - 0.055 * layer), shore - fir * (0.35 + 0.22 * layer)
            foot = shore - fir * 0.2 * layer
            shade = int(28 + 10 * layer)
            draw.polygon(
                [(x - reach, foot), (x, tip), (x + reach, foot)], fill=(shade // 2, shade, shade)
            )


def _reflection(shore: Array, rows: int, random: np.random.Generator) -> Array:
    """The picture ``shore`` [H, width, 3] mirrored in rippling water: [rows, width, 3]."""
    height, width = shore.shape[:2]
    depth = np.linspace(0, 1, rows)
    ripples = (_noise(random, rows, width, (40, 6)) - 0.5) * (3 + 26 * depth[:, None]) * width / 640
    source_y = np.clip(height - 1 - depth[:, None] * 0.98 * height + ripples, 0, height - 1)
    source_x = np.clip(np.arange(width)[None] + ripples * 0.6, 0, width - 1)
    water = shore[source_y.astype(int), source_x.astype(int)]
    return water * 0.78 + np.array([30, 52, 84]) * (0.08 + 0.24 * depth[:, None, None])


def _gradient(at: Array, stops: list[tuple[float, tuple[int, int, int]]]) -> Array:
    """Colors [len(at), 3] at the positions ``at``, interpolated between stops (position, RGB)."""
    positions = [position for position, _ in stops]
    return np.stack(
        [np.interp(at, positions, [color[channel] for _, color in stops]) for channel in range(3)],
        axis=1,
    )


def _noise(
    random: np.random.Generator, rows: int, columns: int, cells: tuple[int, int], octaves: int = 5
) -> Array:
    """Fractal value noise [rows, columns] in [0, 1].

    Args:
        random: source of the values.
        rows: in pixels.
        columns: in pixels.
        cells: bumps (down, across) of the first octave; each octave doubles their number and
            halves their strength.
        octaves: number of octaves.
    """
    total, strength = np.zeros((rows, columns)), 1.0
    for octave in range(octaves):
        down, across = (cell * 2**octave + 1 for cell in cells)
        grid = Image.fromarray(random.random((down, across)).astype(np.float32))
        total += strength * np.asarray(grid.resize((columns, rows), Image.Resampling.BICUBIC))
        strength /= 2
    span: Any = np.ptp(total)
    return (total - total.min()) / span


def _bytes(values: Array) -> NDArray[np.uint8]:
    """Values in 0 .. 255, rounded and clamped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
