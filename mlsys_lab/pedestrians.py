"""Walkers and what looks like them, drawn over crops of real photographs: a problem that a small model can
only half solve, made anew from a seed wherever the course runs.

The photographs are the two that scikit-learn carries (china.jpg, flower.jpg), so nothing is downloaded.
Half of the images hold a walker; most of the others hold a pole, a tree or a sign.
"""

from __future__ import annotations

from functools import cache

import numpy as np

HEIGHT, WIDTH = 32, 16
DECOYS = ("nothing", "pole", "tree", "sign")

# Heights of a walker's parts in units of its own, and lengths of its limbs: a grown person of eight heads.
_HEAD, _HIP, _SHOULDER, _LEG, _ARM = 0.93, 0.5, 0.8, 0.5, 0.36


def pedestrians(
    n: int, seed: int, *, noise: float = 0.06, occluded: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """Small grey images, and whether somebody walks in them.

    Args:
        n: images; half of them, rounded down, with a walker.
        seed: the same seed gives the same images.
        noise: standard deviation of the camera's noise, in units of the grey scale.
        occluded: share of images in which a block hides a part of what stands there.

    Returns:
        Images (n, 32, 16) float32 in [0, 1], and labels (n,) int64: 1 with a walker, 0 without.

    Raises:
        ValueError: fewer than two images, or a noise or share out of range.
    """
    if n < 2:
        raise ValueError(f"expected at least 2 images, one of each class, got {n}")
    if noise < 0 or not 0 <= occluded <= 1:
        raise ValueError(f"expected noise from 0 and occluded from 0 to 1, got {noise} and {occluded}")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) < n // 2).astype(np.int64)
    images = _grounds(n, rng)
    for wanted, draw in ((1, _walkers), (0, _decoys)):
        chosen = np.flatnonzero(labels == wanted)
        images[chosen] = draw(images[chosen], rng)
    images = _hide(images, occluded, rng)
    images += noise * rng.standard_normal(images.shape, np.float32)
    return np.clip(images, 0, 1), labels


def side_by_side(images: np.ndarray) -> np.ndarray:
    """Images (n, height, width) as one picture (height, n (width + 1)), a white line after each."""
    return np.hstack([np.pad(image, ((0, 0), (0, 1)), constant_values=1) for image in images])


@cache
def _photographs() -> tuple[np.ndarray, ...]:
    """Both photographs in grey, each at three sizes."""
    from sklearn.datasets import load_sample_image

    found = []
    for name in ("china.jpg", "flower.jpg"):
        grey = load_sample_image(name) @ np.array([0.299, 0.587, 0.114]) / 255
        for shrink in (1, 2, 4):
            rows, columns = (side // shrink * shrink for side in grey.shape)
            tiles = grey[:rows, :columns].reshape(rows // shrink, shrink, columns // shrink, shrink)
            found.append(tiles.mean((1, 3)))
    return tuple(found)


def _grounds(n: int, rng: np.random.Generator) -> np.ndarray:
    """Crops of the photographs, mirrored and lit at random."""
    photographs = _photographs()
    crops = np.empty((n, HEIGHT, WIDTH), np.float32)
    for i, which in enumerate(rng.integers(0, len(photographs), n)):
        photograph = photographs[which]
        top, left = (int(rng.integers(0, size - part)) for size, part in zip(
            photograph.shape, (HEIGHT, WIDTH), strict=True))  # fmt: skip
        crops[i] = photograph[top : top + HEIGHT, left : left + WIDTH][:, :: rng.choice((-1, 1))]
    contrast, light = rng.uniform(0.5, 1.0, n), rng.uniform(-0.15, 0.15, n)
    lit = contrast.astype(np.float32)[:, None, None] * (crops - 0.5) + light.astype(np.float32)[:, None, None]
    return np.clip(lit + 0.5, 0, 1)


def _capsule(ends: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], radius: np.ndarray) -> np.ndarray:
    """How much of each pixel a thick line covers: (n, height, width), from (n,) ends and radii in pixels."""
    x0, y0, x1, y1 = (end[:, None, None].astype(np.float32) for end in ends)
    y, x = np.mgrid[:HEIGHT, :WIDTH][:, None].astype(np.float32)
    long = (x1 - x0) ** 2 + (y1 - y0) ** 2 + np.float32(1e-6)
    along = np.clip(((x1 - x0) / long) * (x - x0) + ((y1 - y0) / long) * (y - y0), 0, 1)
    away = np.sqrt((x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2)
    return np.clip(radius[:, None, None].astype(np.float32) - away + np.float32(0.5), 0, 1)


def _paint(images: np.ndarray, cover: np.ndarray, tone: np.ndarray) -> np.ndarray:
    return images + cover * (tone[:, None, None].astype(np.float32) - images)


def _tones(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey per image, mostly unlike the middle of its ground: who vanishes in it cannot be found."""
    ground = images.mean((1, 2))
    return np.clip(ground + rng.choice((-1, 1), len(images)) * rng.uniform(0.12, 0.45, len(images)), 0, 1)


def _stand(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where something stands: x of its middle, y of its foot, and its height, in pixels."""
    height = rng.uniform(19, 29, n)
    foot = np.minimum(height + rng.uniform(0.5, 5, n), HEIGHT - 0.5)
    return rng.uniform(5.5, WIDTH - 6.5, n), foot, height


def _walkers(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A walker per image: legs and arms swing against each other, trousers and coat have their own greys."""
    n = len(images)
    x, foot, size = _stand(n, rng)
    stride = np.sin(rng.uniform(0, 2 * np.pi, n)) * rng.uniform(0.25, 0.55, n)  # the gait, an angle
    lean, stout = rng.normal(0, 0.02, n), rng.uniform(0.8, 1.25, n)
    coat, trousers, skin = _tones(images, rng), _tones(images, rng), _tones(images, rng)

    def part(start: tuple[float, float], swing: np.ndarray, length: float, radius: float) -> np.ndarray:
        x0, y0 = x + size * (start[0] + lean), foot - size * start[1]
        ends = (x0, y0, x0 + size * length * np.sin(swing), y0 + size * length * np.cos(swing))
        return _capsule(ends, size * radius * stout)

    still = np.zeros(n)
    for side in (-1, 1):
        images = _paint(images, part((0.02 * side, _HIP), side * stride, _LEG, 0.045), trousers)
        images = _paint(images, part((0.09 * side, _SHOULDER), -side * stride, _ARM, 0.03), coat)
    images = _paint(images, part((0.0, _SHOULDER - 0.03), still, _SHOULDER - _HIP - 0.03, 0.085), coat)
    return _paint(images, part((0.0, _HEAD), still, 0.01, 0.06), skin)


def _decoys(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nothing, a pole, a tree or a sign: upright too, in the same greys."""
    n = len(images)
    kind = rng.choice(len(DECOYS), n, p=(0.25, 0.25, 0.25, 0.25))
    x, foot, size = _stand(n, rng)
    below, above, still = _tones(images, rng), _tones(images, rng), np.zeros(n)
    lean = rng.normal(0, 0.04, n) * size
    top = foot - size
    thick = size * np.choose(kind, [still, rng.uniform(0.03, 0.09, n), rng.uniform(0.04, 0.1, n),
                                    rng.uniform(0.02, 0.05, n)])  # fmt: skip
    trunk = _capsule((x, foot, x + lean, top + size * 0.1), thick)
    images = _paint(images, trunk * (kind > 0).astype(np.float32)[:, None, None], below)
    # A lamp, a crown or a plate; a tree has one or two boughs too, which stand off like limbs.
    wide = np.choose(kind, [still, rng.uniform(0.0, 0.08, n), rng.uniform(0.08, 0.16, n),
                            rng.uniform(0.06, 0.13, n)])  # fmt: skip
    high = np.choose(kind, [still, still, rng.uniform(0.1, 0.35, n), rng.uniform(0.0, 0.2, n)])
    crown = _capsule((x + lean, top + size * 0.1, x + lean, top + size * (0.1 + high)), size * wide)
    images = _paint(images, crown * (kind > 0).astype(np.float32)[:, None, None], above)
    for side in (-1, 1):
        root = foot - size * rng.uniform(0.3, 0.7, n)
        reach = side * size * rng.uniform(0.1, 0.3, n)
        bough = _capsule((x, root, x + reach, root + size * rng.uniform(-0.3, 0.3, n)), size * 0.03)
        has = (kind == 2) | ((kind == 3) & (rng.random(n) < 0.3))
        images = _paint(
            images, bough * (has & (rng.random(n) < 0.7)).astype(np.float32)[:, None, None], below
        )
    return images


def _hide(images: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A block of one grey over the lower part or one side: a wall, a car, the edge of a door."""
    n = len(images)
    y, x = np.mgrid[:HEIGHT, :WIDTH][:, None]
    rows, columns = rng.uniform(0.1, 0.4, n) * HEIGHT, rng.uniform(0.15, 0.45, n) * WIDTH
    low = y >= (HEIGHT - rows)[:, None, None]
    side = np.where(rng.random(n)[:, None, None] < 0.5, x < columns[:, None, None],
                    x >= (WIDTH - columns)[:, None, None])  # fmt: skip
    block = np.where(rng.random(n)[:, None, None] < 0.6, low, side)
    hidden = (rng.random(n) < share)[:, None, None] & block
    return _paint(images, hidden.astype(np.float32), rng.uniform(0.1, 0.9, n))
