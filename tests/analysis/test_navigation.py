"""Directions of a content code: hidden factors of a drawn particle are found again, and a pose among them is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_harmony.analysis.navigation import Navigation, Whitening, navigate
from napari_harmony.analysis.navigation_training import learn_directions
from napari_harmony.engine.work import finish
from napari_harmony.errors import InputError
from napari_harmony.particles.moving_body import body, draw_pictures, draw_volumes

BOX = 24
SPREAD = 3**-0.5  # of a factor that is uniform in [-1, 1]
MIXING = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]


def codes(count: int = 400, seed: int = 0) -> np.ndarray:
    """Content codes (count, 5): three mixed factors, and two numbers of which nothing is drawn."""
    generator = np.random.default_rng(seed)
    factors = generator.uniform(-1, 1, (count, 3))
    return np.concatenate([factors @ MIXING.T + 4.0, generator.normal(0, [3.0, 1e-9], (count, 2))], axis=1)


def factors_in(z: Tensor) -> Tensor:
    return (z[:, :3] - 4.0) @ torch.as_tensor(MIXING, dtype=z.dtype)


def decode(z: Tensor) -> Tensor:
    factors = factors_in(z)
    return 10 * draw_pictures(body(factors, torch.zeros(len(z), dtype=torch.long), BOX), BOX)


@cache
def found() -> Navigation:
    return finish(navigate(decode, codes(), steps=25, batch=16))


def of_factors(navigation: Navigation) -> np.ndarray:
    """Cosines (directions, factors), in whitened content space."""
    step = navigation.basis[:, :3] @ MIXING / SPREAD
    return np.abs(step / np.linalg.norm(step, axis=1, keepdims=True))


def test_hidden_factors_are_found_and_what_is_not_drawn_is_left_out() -> None:
    cosines = of_factors(found())
    assert len(found()) == 3 and set(cosines.argmax(axis=1)) == {0, 1, 2}
    assert cosines.max(axis=1).min() > 0.97
    assert np.all(np.diff(found().activity) <= 0)
    assert [way.verdict for way in found().tracking.directions] == ["content"] * 3
    assert found().names == ("direction 1", "direction 2", "direction 3")


def test_learning_turns_a_wrong_start_to_the_factors() -> None:
    white = Whitening.of(codes())
    flat = torch.as_tensor((codes() - white.centre) @ white.forward.T, dtype=torch.float32)
    back, centre = (torch.as_tensor(a, dtype=torch.float32) for a in (white.back, white.centre))
    factor_ways = np.linalg.qr(white.forward[:, :3] @ MIXING)[0].T
    turned = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0] @ factor_ways
    before = np.abs(turned @ factor_ways.T).max(axis=1).mean()
    work = learn_directions(
        lambda w: decode(centre + w @ back),
        flat,
        torch.as_tensor(turned, dtype=torch.float32),
        radius=2.6,
        steps=200,
        batch=24,
        seed=0,
    )
    learned = finish(work)
    after = np.abs(learned.directions.numpy() @ factor_ways.T).max(axis=1)
    assert before < 0.85 and after.min() > 0.95
    assert learned.accuracy > 0.9


def test_coordinates_are_those_of_the_particles_in_standard_deviations() -> None:
    navigation = found()
    np.testing.assert_allclose(navigation.basis @ navigation.whiten.T, np.eye(3), atol=1e-9)
    coordinates = navigation.coordinates(codes())
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(coordinates.std(axis=0), navigation.spread, rtol=1e-9)
    np.testing.assert_allclose(navigation.spread, 1, atol=0.01)
    assert ((coordinates**3).mean(axis=0) > -1e-9).all()  # towards the longer tail


def test_a_code_moves_to_the_coordinates_asked_and_no_further_than_the_particles() -> None:
    navigation, base = found(), codes()[7]
    wanted = np.array([0.5, -1.0, 0.25])
    moved = navigation.code(base, wanted)
    np.testing.assert_allclose(navigation.coordinates(moved)[0], wanted, atol=1e-9)
    np.testing.assert_allclose((navigation.code(moved, navigation.coordinates(base)[0])), base, atol=1e-9)
    far = navigation.coordinates(navigation.code(base, 100 * wanted))[0]
    assert np.linalg.norm(far) == pytest.approx(max(navigation.radius, np.linalg.norm(navigation.coordinates(base))))
    np.testing.assert_allclose(far / np.linalg.norm(far), wanted / np.linalg.norm(wanted), atol=1e-9)
    outlier = navigation.centre + 5 * navigation.basis[0]
    np.testing.assert_allclose(navigation.code(outlier, navigation.coordinates(outlier)[0]), outlier, atol=1e-9)


def test_the_order_of_the_particles_makes_no_difference_and_the_seed_says_the_rest() -> None:
    shuffled = np.random.default_rng(1).permutation(codes())
    other = finish(navigate(decode, shuffled, steps=25, batch=16))
    np.testing.assert_array_equal(other.basis, found().basis)
    assert other.tracking == found().tracking
    assert not np.array_equal(finish(navigate(decode, codes(), steps=25, batch=16, seed=1)).basis, found().basis)


def posed(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A decoder whose fourth number moves the particle, or makes it brighter."""

    def draw(z: Tensor) -> Tensor:
        return change(z, z[:, 3] / 3.0)

    return draw


def turned(z: Tensor, amount: Tensor) -> Tensor:
    angle, zero = 0.1 * amount, torch.zeros_like(amount)
    rows = [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero], [zero, zero, zero + 1]]
    matrices = torch.stack([torch.stack(row, -1) for row in rows], -2)
    beads = body(factors_in(z), torch.zeros(len(z), dtype=torch.long), BOX)
    return 10 * draw_pictures(beads.posed(matrices, torch.zeros(len(z), 3)), BOX)


def shifted(z: Tensor, amount: Tensor) -> Tensor:
    beads = body(factors_in(z), torch.zeros(len(z), dtype=torch.long), BOX)
    origins = torch.stack([0.3 * amount, torch.zeros_like(amount), torch.zeros_like(amount)], dim=1)
    return 10 * draw_pictures(beads.posed(torch.eye(3).expand(len(z), 3, 3), origins), BOX)


def brighter(z: Tensor, amount: Tensor) -> Tensor:
    return decode(z) * (1 + 0.15 * amount)[:, None, None]


@pytest.mark.parametrize(("change", "name"), [(turned, "rotation"), (shifted, "shift x"), (brighter, "contrast")])
def test_a_pose_in_the_code_is_flagged_and_named(change: Callable[[Tensor, Tensor], Tensor], name: str) -> None:
    navigation = finish(navigate(posed(change), codes(), steps=30, batch=16))
    assert len(navigation) == 4
    leaking = [way for way in navigation.tracking.directions if way.verdict == "pose leakage"]
    assert [way.leaks_as for way in leaking] == [name]


def test_volumes_have_directions_too() -> None:
    def draw(z: Tensor) -> Tensor:
        return 30 * draw_volumes(body(factors_in(z), torch.zeros(len(z), dtype=torch.long), 12), 12)

    navigation = finish(navigate(draw, codes(100), directions=2, steps=4, batch=8))
    assert navigation.basis.shape == (2, 5) and len(navigation.tracking.directions) == 2


def test_closing_ends_the_work_and_grad_mode_stays_as_it_was() -> None:
    work = navigate(decode, codes(), steps=10, batch=4)
    with torch.no_grad():
        first = next(work)
        assert not torch.is_grad_enabled()
    assert 0 < first < 1 and torch.is_grad_enabled()
    work.close()


def test_a_decoder_that_draws_nothing_of_the_code_gives_one_direction_of_noise() -> None:
    still = decode(torch.full((1, 5), 4.0))

    def deaf(z: Tensor) -> Tensor:
        return still + 1e-4 * z[:, :1, None]

    navigation = finish(navigate(deaf, codes(100), steps=2, batch=4))
    assert [way.verdict for way in navigation.tracking.directions] == ["noise"]


@pytest.mark.parametrize(
    ("content", "directions", "words"),
    [
        (np.full((5, 2), np.nan), None, "finite"),
        (np.ones((5, 2)), None, "never vary"),
        (np.eye(2), 3, "between 1 and"),
        (np.ones((1, 2)), None, "n >= 2"),
    ],
)
def test_codes_that_cannot_be_used_are_refused(content: np.ndarray, directions: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        finish(navigate(decode, content, directions=directions))


def test_directions_are_saved_and_come_back(tmp_path: Path) -> None:
    named = found().renamed(1, "arm, open to closed")
    path = named.save(tmp_path / "navigation.json")
    back = Navigation.load(path)
    assert back.names == ("direction 1", "arm, open to closed", "direction 3")
    assert back.tracking == named.tracking and back.radius == named.radius and back.accuracy == named.accuracy
    for field in ("centre", "basis", "whiten", "spread", "activity"):
        np.testing.assert_array_equal(getattr(back, field), getattr(named, field))
    bare = replace(named, tracking=None, accuracy=float("nan"))
    assert Navigation.from_dict(json.loads(json.dumps(bare.to_dict()))).tracking is None


def test_files_that_hold_no_directions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "navigation.json"
    with pytest.raises(InputError, match="does not exist"):
        Navigation.load(path)
    values = found().to_dict()
    spoilt = [
        "{",
        "[]",
        "{}",
        json.dumps({k: v for k, v in values.items() if k != "basis"}),
        json.dumps({**values, "basis": values["basis"][:2]}),
        json.dumps({**values, "radius": "wide"}),
        json.dumps({**values, "radius": -1.0}),
        json.dumps({**values, "tracking": {"directions": [{"leak": 1}], "score": 0.5}}),
    ]
    for text in spoilt:
        path.write_text(text)
        with pytest.raises(InputError, match=r"navigation\.json.*again"):
            Navigation.load(path)
    with pytest.raises(InputError, match="cannot be written"):
        found().save(tmp_path / "absent" / "navigation.json")
