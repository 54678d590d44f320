"""Made-up particles without end: beads of random domains, alone or repeated by a point group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

#: Beads of a particle; they are spread over its domains by volume.
BEADS = 768
#: Probability that a particle has a symmetry, and the orders of its main axis.
SYMMETRIC = 0.5
ORDERS = (2, 2, 3, 4, 5, 6, 6, 7, 7, 8, 12)


def assembly(generator: np.random.Generator, beads: int = BEADS, symmetric: float = SYMMETRIC) -> Points:
    """A particle as beads (beads, 3) about its centre, with a root mean square radius of 1."""
    if generator.random() < symmetric:
        points = _repeated(generator, beads)
    else:
        points = _cluster(generator, beads, int(generator.integers(1, 8)))
    points = points[generator.permutation(len(points))[:beads]]
    points = points - points.mean(0)
    return points / np.sqrt((points**2).sum(1).mean())


def _cluster(generator: np.random.Generator, beads: int, parts: int) -> Points:
    """Domains that touch each other: every one is put on the surface of an earlier one."""
    sizes = np.exp(generator.normal(0, 0.5, parts))
    shares = sizes**3 / (sizes**3).sum() * 0.8 + 0.2 / parts
    counts = np.maximum(8, np.round(shares * beads).astype(int))
    counts[counts.argmax()] += max(0, beads - counts.sum())
    placed: list[Points] = []
    for size, count in zip(sizes, counts, strict=True):
        domain = size * _domain(generator, int(count)) @ _random_rotation(generator).T
        if placed:
            host = placed[generator.integers(len(placed))]
            outward = host - np.concatenate(placed).mean(0)
            seat = host[(outward @ generator.normal(size=3)).argmax()]
            away = seat - host.mean(0)
            away /= max(float(np.linalg.norm(away)), 1e-6)
            domain = domain + seat - away * (domain @ away).min() * generator.uniform(0.5, 1.0)
        placed.append(domain)
    return np.concatenate(placed)


def _repeated(generator: np.random.Generator, beads: int) -> Points:
    """Copies of a unit about the z axis, a second layer below for the dihedral groups, perhaps stacked once more."""
    order = int(generator.choice(ORDERS))
    layers = int(generator.choice([1, 2, 2, 4])) if order > 2 else int(generator.integers(1, 3))
    unit = _cluster(generator, max(12, -(-beads // (order * layers))), int(generator.integers(1, 5)))
    unit = unit - unit.mean(0)
    extent = np.sqrt((unit**2).sum(1).mean())
    # neighbours on the ring touch where their centres are about two radii apart
    radius = extent * generator.uniform(0.5, 1.3) / np.sin(np.pi / order)
    unit = unit + [radius, 0, 0]
    thickness = extent * generator.uniform(0.7, 1.5)
    copies = []
    for layer in range(layers):
        flipped = layer % 2 == 1
        piece = unit * [1, -1, -1] if flipped else unit
        height = (layer - 0.5 * (layers - 1)) * 2 * thickness
        offset = generator.uniform(0, 2 * np.pi / order)
        for turn in offset + np.arange(order) * 2 * np.pi / order:
            cos, sin = np.cos(turn), np.sin(turn)
            copies.append(piece @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + [0, 0, height])
    if generator.random() < 0.25:
        # something without the symmetry: a cap, a substrate, a neighbour
        copies.append(_cluster(generator, beads // 8, 2) * extent + [0, 0, generator.normal(0, 2 * thickness)])
    return np.concatenate(copies)


def _ball(generator: np.random.Generator, count: int) -> Points:
    direction = generator.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * generator.uniform(0, 1, (count, 1)) ** (1 / 3)


def _ellipsoid(generator: np.random.Generator, count: int) -> Points:
    return _ball(generator, count) * np.exp(generator.normal(0, 0.4, 3))


def _rod(generator: np.random.Generator, count: int) -> Points:
    return _ball(generator, count) * [0.35, 0.35, 0.3] + np.array([0, 0, 1]) * generator.uniform(-1.8, 1.8, (count, 1))


def _shell(generator: np.random.Generator, count: int) -> Points:
    """A hollow ball, of which a cap may be missing."""
    points = _ball(generator, 3 * count)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = points[points[:, 2] < generator.uniform(-0.2, 1.5)]
    return points[:count] * generator.uniform(0.75, 1.1, (len(points[:count]), 1))


def _arc(generator: np.random.Generator, count: int) -> Points:
    """A bent tube, from a piece of a circle to a coil."""
    angle = generator.uniform(0, generator.uniform(1.5, 9.0), count)
    climb = generator.uniform(0, 0.25)
    path = np.stack([np.cos(angle), np.sin(angle), climb * angle], axis=1)
    return path + generator.uniform(0.1, 0.35) * _ball(generator, count)


def _chain(generator: np.random.Generator, count: int) -> Points:
    """A random walk that is pulled back to the middle, as thick as a chain of amino acids."""
    steps = 24
    path = np.zeros((steps, 3))
    for i in range(1, steps):
        path[i] = 0.9 * path[i - 1] + 0.45 * generator.normal(size=3)
    whole = np.arange(count) * (steps - 1.001) / count
    left = whole.astype(int)
    share = (whole - left)[:, None]
    return (1 - share) * path[left] + share * path[left + 1] + generator.uniform(0.1, 0.3) * _ball(generator, count)


def _random_rotation(generator: np.random.Generator) -> Points:
    from scipy.spatial.transform import Rotation

    return Rotation.random(random_state=generator).as_matrix()


_DOMAINS: tuple[Callable[[np.random.Generator, int], Points], ...] = (_ball, _ellipsoid, _rod, _shell, _arc, _chain)


def _domain(generator: np.random.Generator, count: int) -> Points:
    """One domain of ``count`` beads or a few less, about a unit in radius."""
    return _DOMAINS[generator.integers(len(_DOMAINS))](generator, count)
