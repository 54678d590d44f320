"""The content-tracking score of drawn particles whose directions are known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_harmony.analysis.disentanglement import content_tracking, frames_along_axes
from napari_harmony.analysis.disentanglement.tracking import tangents

STEPS = np.linspace(-1, 1, 7)
BOX = 32


def blob(x: np.ndarray, y: np.ndarray, at: tuple[float, float], width: float) -> np.ndarray:
    return np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2))


def particle(
    hinge: float = 0.0,
    occupancy: float = 0.0,
    slide: float = 0.0,
    turn: float = 0.0,
    shift: float = 0.0,
    gain: float = 0.0,
) -> np.ndarray:
    """A body with an arm on a hinge, a partner in part, and a sliding domain; in a pose."""
    axis = np.arange(BOX) - BOX // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    c, s = np.cos(turn), np.sin(turn)
    x, y = c * (x - shift) - s * y, s * (x - shift) + c * y
    arm = 0.8 + 0.35 * hinge
    picture = blob(x, y, (0, 0), 3.5) + 0.8 * blob(x, y, (2 + 8 * np.cos(arm), 8 * np.sin(arm)), 1.8)
    picture += (0.5 + 0.25 * occupancy) * blob(x, y, (-8, 3), 2.0)
    picture += 0.8 * blob(x, y, (-1 + 2.2 * slide, -9), 1.8)
    return (1 + 0.15 * gain) * picture


FACTORS = ("hinge", "occupancy", "slide")


def frames_of(directions: list[dict[str, float]], particles: int = 12, noise: float = 0.0) -> np.ndarray:
    """Frames (particles, directions, steps, BOX, BOX) of random particles moved along factors with some weights."""
    generator = np.random.default_rng(0)
    starts = [dict(zip(FACTORS, generator.uniform(-0.7, 0.7, 3), strict=True)) for _ in range(particles)]
    frames = [
        [
            [
                particle(**{name: start.get(name, 0.0) + step * way.get(name, 0.0) for name in {*start, *way}})
                for step in STEPS
            ]
            for way in directions
        ]
        for start in starts
    ]
    return np.array(frames) + noise * generator.normal(size=np.shape(frames))


def test_directions_of_content_and_of_pose_are_told_apart() -> None:
    ways = [{"hinge": 1.0}, {"occupancy": 1.0}, {"turn": 0.04}, {"shift": 0.3}, {"gain": 1.0}, {"occupancy": 1e-4}]
    found = content_tracking(frames_of(ways), noise=0.05)
    verdicts = [direction.verdict for direction in found.directions]
    assert verdicts == ["content", "content", "pose leakage", "pose leakage", "pose leakage", "noise"]
    assert [direction.leaks_as for direction in found.directions[2:5]] == ["rotation", "shift x", "contrast"]
    assert min(direction.leak for direction in found.directions[2:5]) > 0.95
    assert max(direction.leak for direction in found.directions[:2]) < 0.7
    assert found.directions[5].score == 0.0 and found.directions[5].activity < 0.1
    assert all(0 <= direction.score <= 1 for direction in found.directions) and 0 <= found.score <= 1


def mixed(angle: float) -> list[dict[str, float]]:
    """The three factors as directions, turned into each other."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return [
        {"hinge": c, "occupancy": s},
        {"hinge": -s, "occupancy": c * c, "slide": c * s},
        {"slide": c, "occupancy": -s},
    ]


def test_the_score_falls_as_factors_are_mixed() -> None:
    scores = [content_tracking(frames_of(mixed(angle)), noise=0.05).score for angle in (0, 10, 20, 30)]
    assert scores[0] > 0.75 and scores[0] > scores[1] > scores[2] > scores[3]
    assert scores[3] < 0.4 * scores[0]


def test_a_direction_that_moves_other_parts_in_every_particle_is_inconsistent() -> None:
    frames = frames_of([{"hinge": 1.0}, {"occupancy": 1.0}], particles=6)
    swapped = frames.copy()
    swapped[::2] = frames[::2, ::-1]
    good, bad = content_tracking(frames), content_tracking(swapped)
    assert min(direction.consistency for direction in good.directions) > 0.9
    assert max(direction.consistency for direction in bad.directions) < 0.65
    assert bad.score < good.score


def test_one_particle_one_direction_and_pictures_that_never_change() -> None:
    one = content_tracking(frames_of([{"occupancy": 1.0}], particles=1), noise=0.01)
    assert one.directions[0].consistency == 1.0 and one.directions[0].overlap == 0.0
    still = content_tracking(np.zeros((3, 2, 5, 8, 8)))
    assert still.score == 0.0 and [direction.verdict for direction in still.directions] == ["noise", "noise"]
    with pytest.raises(ValueError, match="give"):
        content_tracking(np.zeros((3, 2, 1, 8, 8)))


def test_volumes_turned_about_any_axis_leak_as_rotation() -> None:
    axis = np.arange(16) - 8
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")

    def volume(angle: float, weight: float) -> np.ndarray:
        c, s = np.cos(angle), np.sin(angle)
        u, w = c * x - s * z, s * x + c * z
        spread = np.exp(-((u - 3) ** 2 + y**2 + w**2) / 8) + 0.7 * np.exp(-(u**2 + (y + 3) ** 2 + (w - 2) ** 2) / 6)
        return spread + weight * np.exp(-((u + 4) ** 2 + (y - 1) ** 2 + w**2) / 4)

    turned, filled = ([volume(0.05 * s, 0.5) for s in STEPS], [volume(0.0, 0.5 + 0.2 * s) for s in STEPS])
    found = content_tracking(np.array([[turned, filled]]), noise=0.01)
    assert [direction.verdict for direction in found.directions] == ["pose leakage", "content"]
    assert found.directions[0].leaks_as == "rotation about y" and found.directions[0].leak > 0.97
    assert [len(group) for group in tangents(np.array(turned[0])).values()] == [3, 3, 1, 1, 1]


def test_frames_go_along_the_principal_axes_from_particles_of_the_data() -> None:
    generator = np.random.default_rng(0)
    codes = generator.normal(size=(200, 3)) @ np.diag([0.5, 4.0, 1.0])
    drawing = generator.normal(size=(3, 4, 4))

    def decode(z: np.ndarray) -> np.ndarray:
        return np.einsum("md,dyx->myx", z, drawing)

    frames = frames_along_axes(codes, decode)
    assert frames.shape == (16, 3, 5, 4, 4)
    whole = frames[:, 0, -1] - frames[:, 0, 0]  # from minus to plus one standard deviation, about 4, of the second
    assert np.abs(whole / drawing[1]).mean() == pytest.approx(8.0, rel=0.15)
    centre = np.linalg.lstsq(drawing.reshape(3, -1).T, frames[:, 0, 2].reshape(16, -1).T, rcond=None)[0].T
    assert all(np.abs(codes - code).max(axis=1).min() < 1e-5 for code in centre)
    assert np.array_equal(frames_along_axes(generator.permutation(codes), decode).round(4), frames.round(4))
    with pytest.raises(ValueError, match="no content code that varies"):
        frames_along_axes(np.ones((5, 2)), decode)
