"""Whole runs on small simulated sets: right, repeatable, resumable, and silent where there is nothing to find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from engine_data import run, simulated, stack, wrapped

from napari_harmony.analysis.metrics import hungarian_accuracy, pose_errors
from napari_harmony.engine import api, schedule
from napari_harmony.engine.events import Event, Preview, Progress
from napari_harmony.engine.settings import Settings
from napari_harmony.errors import InputError
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.simulate import Simulated, simulate_noise
from napari_harmony.results import COLUMNS, NO_STRUCTURE, Result

if TYPE_CHECKING:
    from conftest import Example

FAST = Settings(classes=3, preset="fast")


def rows_of(particles: Particles, rows: np.ndarray) -> Particles:
    """Some of the particles in another order."""
    table, ctf = particles.table.iloc[rows].reset_index(drop=True), particles.ctf
    images = ArrayImages(particles.read(rows))
    return replace(particles, images=images, table=table, ctf=None if ctf is None else ctf.subset(rows))


def errors(result: Result, data: Simulated) -> tuple[float, np.ndarray, np.ndarray]:
    """Accuracy, and per particle the rotation error in degrees and the shift error in pixels."""
    t, truth = result.table, data.truth
    origin, true_origin = t[["origin_x", "origin_y"]], truth[["origin_x", "origin_y"]]
    of = pose_errors(t["psi"], origin, truth["psi"], true_origin, t["class_number"], truth["content"])
    return hungarian_accuracy(t["class_number"], truth["content"]), of.rotation, of.shift


def assert_same(one: Result, two: Result) -> None:
    """Bit for bit, but for the time it took."""
    pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
    for name in ("averages", "frc", "frc_floor", "frc_frequency", "resolution"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert {**one.summary, "seconds": 0} == {**two.summary, "seconds": 0}


@pytest.fixture(scope="module")
def few(brief_training: None) -> Simulated:
    """Enough particles for a run, too few to be right."""
    return simulated(40)


@pytest.fixture(scope="module")
def whole(few: Simulated) -> Result:
    """An uninterrupted run on few particles, without a checkpoint."""
    return run(api.align(few.particles, FAST)).value


def test_contents_and_poses_of_a_small_set_are_found(example: Example) -> None:
    accuracy, rotation, shift = errors(example.result, example.data)
    assert accuracy > 0.95
    assert np.nanmedian(rotation) < 3.0 and (rotation < 15).mean() > 0.95
    assert np.nanmedian(shift) < 0.4


def test_every_class_of_an_easy_set_has_a_resolution(example: Example) -> None:
    result = example.result
    assert result.classes == 3 and result.warnings == ()
    assert np.isfinite(result.resolution).all()
    assert (result.resolution < 100).all() and (result.resolution > 2 * result.pixel_size).all()
    assert (result.frc[:, :2] > 0.9).all()


def test_the_table_is_complete_and_in_its_ranges(example: Example) -> None:
    table = example.result.table
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS and table.columns[len(COLUMNS)] == "content_0"
    assert table.index.equals(pd.RangeIndex(len(example.data.particles)))
    assert np.isfinite(table.drop(columns="flags").to_numpy(float)).all()
    assert table["psi"].between(-180, 180).all() and table["score"].between(-1, 1).all()
    assert table["class_probability"].between(0, 1.0001).all() and table["flip_odds"].between(0, 1).all()
    assert (table[["psi_spread", "shift_spread"]] > 0).all(axis=None)
    assert (np.diff(example.result.counts) <= 0).all()


def test_averages_show_the_contents(example: Example) -> None:
    """At any angle: the power of the rings of an average is that of its content."""
    table, truth = example.result.table, example.data.truth
    for number, average in enumerate(example.result.averages, 1):
        content = truth["content"][table["class_number"] == number].mode()[0]
        clean = example.data.clean[content]
        likeness = [np.corrcoef(_turned_power(average), _turned_power(c))[0, 1] for c in example.data.clean]
        assert int(np.argmax(likeness)) == content
        assert 0.5 < average.std() / clean.std() < 1.5


def _turned_power(image: np.ndarray) -> np.ndarray:
    """Grey values sorted: what neither a turn nor a shift changes much."""
    return np.sort(image, axis=None)


def test_the_same_seed_gives_the_same_result_bit_for_bit(few: Simulated, whole: Result) -> None:
    assert_same(run(api.align(few.particles, FAST)).value, whole)


def test_another_seed_takes_another_way(few: Simulated, whole: Result) -> None:
    other = run(api.align(few.particles, replace(FAST, seed=5))).value
    assert not np.array_equal(other.table["psi"], whole.table["psi"])


def test_permuting_the_particles_permutes_the_result(few: Simulated, whole: Result) -> None:
    order = np.random.default_rng(0).permutation(len(whole))
    permuted = run(api.align(rows_of(few.particles, order), FAST)).value
    expected = whole.table.iloc[order].reset_index(drop=True)
    assert permuted.table["class_number"].equals(expected["class_number"])
    assert permuted.table["flags"].equals(expected["flags"])
    assert np.abs(wrapped(permuted.table["psi"] - expected["psi"])).max() < 0.1
    for name in ("origin_x", "origin_y", "score", "contrast"):
        np.testing.assert_allclose(permuted.table[name], expected[name], atol=0.02, err_msg=name)
    np.testing.assert_allclose(permuted.averages, whole.averages, atol=0.02 * np.abs(whole.averages).max())


@pytest.mark.parametrize("box", [24, 25])
def test_turning_all_images_turns_the_estimates(example: Example, box: int) -> None:
    """A quarter turn about pixel floor(box / 2), which is exact: psi grows by 90 degrees, origins turn along."""
    data = simulated(40, box) if box == 25 else example.data
    particles = rows_of(data.particles, np.arange(40))
    # np.rot90 shows what was at (x, y) at (y, box - 1 - x): in an even box one row beside the place about the centre.
    quarter = np.roll(np.rot90(particles.read(range(40)), 1, axes=(1, 2)), 1 - box % 2, axis=1)
    turned = replace(particles, images=ArrayImages(np.ascontiguousarray(quarter)))
    before, after = (run(api.align(p, Settings(), model=example.model)).value.table for p in (particles, turned))
    assert after["class_number"].equals(before["class_number"])
    # Averages are taken anew, on a grid of poses that is not turned along: frames may drift a little.
    turn = np.abs(wrapped(after["psi"] - before["psi"] - 90))
    x, y = after["origin_x"] - before["origin_y"], after["origin_y"] + before["origin_x"]
    same = (turn < 5) & (np.hypot(x, y) < 0.5)
    assert same.mean() > 0.9, (np.quantile(turn, [0.5, 0.9, 1]), np.quantile(np.hypot(x, y), [0.5, 0.9, 1]))


def test_a_model_places_new_particles_on_its_classes(example: Example) -> None:
    """In the frames of the first run: one gauge holds for both."""
    new = simulated(60, seed=2)
    result = run(api.align(new.particles, Settings(), model=example.model)).value
    assert result.classes == 3
    old, table = example.result.table, result.table
    for number in (1, 2, 3):
        contents = [
            d["content"][t["class_number"] == number].mode()[0]
            for d, t in ((example.data.truth, old), (new.truth, table))
        ]
        assert contents[0] == contents[1]
    together = pd.concat([old, table], ignore_index=True), pd.concat([example.data.truth, new.truth], ignore_index=True)
    accuracy, rotation, shift = errors(result.with_table(together[0]), replace(new, truth=together[1]))
    assert hungarian_accuracy(table["class_number"], new.truth["content"]) > 0.9 and accuracy > 0.9
    assert np.nanmedian(rotation[120:]) < 4.0 and np.nanmedian(shift[120:]) < 0.5


def test_a_model_that_is_saved_places_particles_alike(example: Example, tmp_path: Path) -> None:
    part = rows_of(example.data.particles, np.arange(20))
    before = run(api.align(part, Settings(), model=example.model)).value
    again = type(example.model).load(example.model.save(tmp_path / "model.safetensors"))
    assert_same(run(api.align(part, Settings(), model=again)).value, before)


@pytest.mark.parametrize(
    ("pixel_size", "message"),
    [(12.0, "the box is 288 A wide, the model was trained on 312 A"), (19.5, "16 pixels wide, the model works on 24")],
)
def test_a_model_of_other_particles_is_refused(example: Example, pixel_size: float, message: str) -> None:
    box = 24 if pixel_size == 12 else 16
    images = np.random.default_rng(0).standard_normal((6, box, box))
    with pytest.raises(InputError, match=message):
        run(api.align(stack(images, pixel_size), Settings(), model=example.model))
    bare = replace(example.model, templates=None)
    with pytest.raises(InputError, match="holds no class averages"):
        run(api.align(example.data.particles, Settings(), model=bare))


def test_content_codes_are_clustered_and_averaged_anew(example: Example) -> None:
    """Codes that tell the contents apart, and as few classes as the user now wants."""
    truth, generator = example.data.truth["content"].to_numpy(), np.random.default_rng(0)
    codes = 5 * np.eye(3)[truth] + generator.standard_normal((len(truth), 3))
    table = example.result.table.drop(columns=[c for c in example.result.table if c.startswith("content_")])
    table = table.assign(**{f"content_{j}": codes[:, j] for j in range(3)})
    done = run(api.cluster(example.data.particles, example.result.with_table(table), FAST))
    accuracy, rotation, _ = errors(done.value, example.data)
    assert accuracy > 0.95 and np.nanmedian(rotation) < 3.0 and done.model is None
    np.testing.assert_array_equal(done.value.content, codes.astype(np.float32))
    merged = run(api.cluster(example.data.particles, example.result.with_table(table), replace(FAST, classes=1))).value
    assert merged.classes == 1 and set(merged.table["class_number"]) <= {0, 1}


def test_a_result_that_is_not_of_the_particles_is_refused(example: Example) -> None:
    particles, result = example.data.particles, example.result
    with pytest.raises(InputError, match="has 5 rows, the stack 120"):
        run(api.cluster(particles, result.with_table(result.table.head()), FAST))
    without = result.table[list(COLUMNS)]
    with pytest.raises(InputError, match="no content codes"):
        run(api.cluster(particles, result.with_table(without), FAST))


@pytest.mark.parametrize(("seed", "classes", "count"), [(0, 3, 400), (1, 1, 100)])
def test_pure_noise_gives_no_structure(brief_training: None, seed: int, classes: int, count: int) -> None:
    noise = simulate_noise(count, 24, pixel_size=13.0, seed=seed)
    result = run(api.align(noise, replace(FAST, seed=seed, classes=classes))).value
    assert any(NO_STRUCTURE in warning for warning in result.warnings)
    assert result.table["flags"].str.split(",").map(lambda words: "junk" in words).all()
    assert np.isnan(result.resolution).all()
    assert not (result.frc > result.frc_floor).any()
    # A class of few noise images may lack a half.
    assert np.isfinite(result.frc).any() or count == 100


@pytest.mark.parametrize("transforms", [("rotation",), ("translation",), ("contrast",), ()])
def test_what_is_not_chosen_stays_at_identity(few: Simulated, transforms: tuple[str, ...]) -> None:
    table = run(api.align(few.particles, replace(FAST, transforms=transforms))).value.table
    identity = {
        "rotation": {"psi": 0.0},
        "translation": {"origin_x": 0.0, "origin_y": 0.0},
        "contrast": {"contrast": 1.0},
    }
    for name, columns in identity.items():
        for column, value in columns.items():
            assert bool((table[column] == value).all()) == (name not in transforms), column
    assert (table["scale"] == 1).all()


def test_the_published_objective_runs_from_images_to_a_result(few: Simulated) -> None:
    done = run(api.align(few.particles, replace(FAST, objective="harmony-2022")))
    assert done.model.card.objective == done.value.summary["objective"] == "harmony-2022"
    assert len(done.value) == 40 and 1 <= done.value.classes <= 3 and done.value.counts.sum() == 40
    assert np.isnan(done.value.resolution).all() and done.value.warnings == ()
    numbers = done.value.table.drop(columns="flags").to_numpy(float)
    assert np.isfinite(numbers).all() and done.value.table["psi"].nunique() > 1


def test_odd_boxes_are_as_right_as_even_ones(brief_training: None) -> None:
    data = simulated(120, 25)
    accuracy, rotation, shift = errors(run(api.align(data.particles, FAST)).value, data)
    assert accuracy > 0.9 and np.nanmedian(rotation) < 3.5 and np.nanmedian(shift) < 0.45


def test_four_particles_are_enough_and_three_are_not(few: Simulated) -> None:
    result = run(api.align(rows_of(few.particles, np.arange(4)), FAST)).value
    assert len(result) == 4 and np.isfinite(result.table["psi"]).all()
    with pytest.raises(InputError, match="the layer: 3 particles are too few; give at least 4"):
        run(api.align(rows_of(few.particles, np.arange(3)), FAST))
    spoiled = few.particles.read(range(5)).copy()
    spoiled[:2] = 1.0
    with pytest.raises(InputError, match="only 3 images hold a finite signal"):
        run(api.align(stack(spoiled), FAST))


def test_unusable_images_are_flagged_kept_in_order_and_change_nothing(example: Example) -> None:
    images = example.data.particles.read(range(30))
    assert example.data.particles.ctf is not None
    rows = np.insert(np.arange(30), [3, 11, 20], [3, 11, 2])
    spoiled = images[rows].copy()
    spoiled[3], spoiled[12] = np.nan, 4.0
    good = np.delete(np.arange(33), [3, 12, 22])
    ctf = example.data.particles.ctf
    clean, mixed = (
        run(api.align(replace(stack(i, 13.0), ctf=ctf.subset(r)), Settings(), model=example.model)).value
        for i, r in ((images, np.arange(30)), (spoiled, rows))
    )
    flags = mixed.table["flags"]
    assert (flags[3], flags[12]) == ("not-finite", "constant") and "duplicate" in flags[22].split(",")
    assert not flags[good].str.contains("not-finite|constant|duplicate").any()
    assert mixed.table["class_number"][[3, 12]].tolist() == [0, 0]
    assert mixed.table["class_number"][good].tolist() == clean.table["class_number"].tolist()
    assert np.median(np.abs(wrapped(mixed.table["psi"][good].to_numpy() - clean.table["psi"].to_numpy()))) < 0.2
    columns = [c for c in mixed.table if c != "flags"]
    assert mixed.table.loc[22, columns].equals(mixed.table.loc[2, columns])
    assert any("2 images hold no finite signal" in warning for warning in mixed.warnings)


def cut(events: Iterator[Event], stage: str) -> None:
    """Close a run in the middle of a stage."""
    for event in events:
        if isinstance(event, Progress) and event.stage == stage and event.fraction > 0:
            next(events)
            break
    else:
        raise AssertionError(f"the run has no stage '{stage}'")
    events.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("searching half 1 of 2", []),
        ("comparing halves", []),
        ("training", ["search.safetensors"]),
        ("refining poses", ["search.safetensors", "training.safetensors"]),
    ],
)
def test_a_run_closed_in_any_stage_ends_as_if_it_had_not_been(
    few: Simulated, whole: Result, tmp_path: Path, stage: str, kept: list[str]
) -> None:
    folder = tmp_path / "state"
    cut(api.align(few.particles, FAST, checkpoint=folder), stage)
    assert sorted(p.name for p in folder.glob("*")) == kept
    resumed = api.align(few.particles, FAST, checkpoint=folder, resume=True)
    stages: list[str] = []
    for event in resumed:
        stages += [event.stage] if isinstance(event, Progress) else []
        last = event
    assert_same(last.value, whole)  # type: ignore[union-attr]
    assert ("searching half 1 of 2" in stages) == (not kept)


def test_a_training_closed_between_epochs_goes_on(
    few: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(schedule.EPOCHS, "fast", (3, 1))
    events = api.align(few.particles, FAST, checkpoint=tmp_path)
    while not (tmp_path / "training.safetensors").exists():
        next(events)
    events.close()  # type: ignore[attr-defined]
    resumed = run(api.align(few.particles, FAST, checkpoint=tmp_path, resume=True))
    # Without resuming, what lies there is no concern of the run.
    anew = run(api.align(few.particles, FAST, checkpoint=tmp_path))
    assert_same(resumed.value, anew.value)


def test_a_run_that_does_not_resume_forgets_the_one_before(few: Simulated, tmp_path: Path) -> None:
    """Closed before it saved anything, it must not be continued from the search of another run."""
    run(api.align(few.particles, replace(FAST, classes=1), checkpoint=tmp_path))
    cut(api.align(few.particles, FAST, checkpoint=tmp_path), "searching half 1 of 2")
    assert not list(tmp_path.glob("*.safetensors"))


def test_progress_grows_and_previews_look_like_averages(few: Simulated) -> None:
    events = list(api.align(few.particles, FAST))
    progress = [e for e in events if isinstance(e, Progress)]
    fractions = [e.fraction for e in progress]
    assert fractions == sorted(fractions) and fractions[0] == 0 and 0.9 < fractions[-1] <= 1
    assert len({e.stage for e in progress}) == 13
    previews = [e for e in events if isinstance(e, Preview)]
    assert len(previews) > 5
    assert all(p.averages.shape == (len(p.counts), 24, 24) and np.isfinite(p.averages).all() for p in previews)
