"""A result from findings: rows in input order, lengths of the input, classes from the largest, and plain words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_data import basis_of, certain, draw, samples

from napari_harmony.engine.assembly import UNKNOWN_ANGLE, Findings, Placement, assemble, flip_odds
from napari_harmony.engine.geometry import Geometry
from napari_harmony.engine.halves import Agreement
from napari_harmony.engine.preprocess import Prepared
from napari_harmony.engine.refine import Refined
from napari_harmony.engine.search import Posterior, Templates
from napari_harmony.engine.settings import Settings
from napari_harmony.particle_ids import by_class
from napari_harmony.results import COLUMNS, NO_STRUCTURE, Result

#: 64 stored pixels on a grid of 32: a working pixel is two stored ones.
GEOMETRY = Geometry(source_box=64, box=32, pixel_size=6.0, mask_radius=14.4, max_shift=4.0)
FLAGS = ("", "", "not-finite", "", "", "duplicate", "", "constant")
#: Row 5 is a copy of row 1. The usable rows in the order of the run, and what was found for them.
ROWS, LABEL = np.array([4, 0, 6, 1, 3]), np.array([1, 1, 1, 0, 2])
PSI, SHIFT = np.array([10.0, 190.0, -30.0, 179.0, 60.0]), np.array([[1, 2], [-1, 0.5], [3.95, 0], [0, 0], [0, -1.0]])


def prepared() -> Prepared:
    keys = np.array([8, 7, 6, 5, 4, 7, 2, 1], dtype=np.uint64)
    nothing = torch.zeros(len(FLAGS), 32, 17)
    flags = np.array(FLAGS, dtype=object)
    return Prepared(nothing + 0j, nothing, torch.ones(16), flags == "", flags, keys, GEOMETRY)


def templates(*images: torch.Tensor) -> Templates:
    coefficients = basis_of().analyse(samples(torch.cat(images), basis_of()))
    return Templates(coefficients, torch.zeros(len(coefficients)))


def findings() -> Findings:
    n = len(ROWS)
    refined = Refined(
        psi=torch.deg2rad(torch.as_tensor(PSI)).float(),
        shift=torch.as_tensor(SHIFT, dtype=torch.float32),
        psi_spread=torch.deg2rad(torch.full((n,), 2.0)),
        shift_spread=torch.full((n,), 0.25),
        contrast=torch.linspace(0.8, 1.2, n),
        score=torch.linspace(0.1, 0.5, n),
        gain=torch.ones(n),
    )
    agreement = Agreement(
        frc=np.full((3, 15), 0.5, np.float32) * np.array([[1], [2], [0.5]], np.float32),
        floor=np.full((3, 15), 0.1, np.float32),
        resolution=np.array([8.0, 16.0, np.nan], np.float32),
        significant=np.array([True, True, False]),
    )
    return Findings(
        rows=ROWS,
        placed=Placement.of(certain(PSI, SHIFT, LABEL), 3),
        refined=refined,
        templates=templates(draw(0), draw(1), draw(2)),
        basis=basis_of(),
        content=np.arange(2 * n, dtype=np.float32).reshape(n, 2),
        scale=np.ones(n, np.float32),
        junk=np.array([False, False, False, False, True]),
        agreement=agreement,
    )


def assembled(found: Findings) -> Result:
    return assemble(prepared(), found, Settings(seed=3), 3.0, {"device": "CPU"})


def test_rows_are_in_input_order_and_lengths_in_input_pixels() -> None:
    table = assembled(findings()).table
    assert tuple(table.columns) == (*COLUMNS, "content_0", "content_1")
    assert table["class_number"].tolist() == [1, 2, 0, 0, 1, 2, 1, 0]
    assert table["class_number"].dtype == np.int64
    np.testing.assert_allclose(table["psi"][ROWS], [10, -170, -30, 179, 60], atol=1e-3)
    np.testing.assert_allclose(table.loc[ROWS, ["origin_x", "origin_y"]], 2 * SHIFT, atol=1e-5)
    np.testing.assert_allclose(table["shift_spread"][ROWS], 0.5)
    np.testing.assert_allclose(table["psi_spread"][ROWS], 2.0, rtol=1e-5)
    np.testing.assert_allclose(table["score"][ROWS], np.linspace(0.1, 0.5, 5), rtol=1e-5)
    np.testing.assert_array_equal(table.loc[ROWS, ["content_0", "content_1"]], findings().content)


def test_flags_say_what_is_wrong_with_a_particle() -> None:
    flags = assembled(findings()).table["flags"]
    assert flags.tolist() == ["", "", "not-finite", "junk", "", "duplicate", "shift-bound", "constant"]


def test_nothing_is_known_of_images_that_could_not_be_used() -> None:
    table = assembled(findings()).table.loc[[2, 7]]
    assert (table["psi_spread"] == UNKNOWN_ANGLE).all() and (table["shift_spread"] == 8.0).all()
    assert (table[["class_probability", "psi", "origin_x", "score", "content_1"]] == 0).all(axis=None)
    assert (table[["scale", "contrast"]] == 1).all(axis=None)


def test_copies_have_what_was_found_for_the_first() -> None:
    table = assembled(findings()).table
    columns = [c for c in table if c != "flags"]
    assert table.loc[5, columns].equals(table.loc[1, columns]) and table["psi"][5] != 0


def test_classes_are_numbered_from_the_largest_and_everything_follows() -> None:
    result = assembled(findings())
    assert result.counts.tolist() == [3, 2, 0]
    assert result.average_pixel_size == 6.0 and result.pixel_size == 3.0
    np.testing.assert_allclose(result.resolution, [32 * 6 / 16, 32 * 6 / 8, np.nan])
    np.testing.assert_allclose(result.frc[:, 0], [1.0, 0.5, 0.25])
    np.testing.assert_allclose(result.frc_frequency, np.arange(1, 16) / 192, rtol=1e-6)
    for average, content in zip(result.averages, (1, 0, 2), strict=True):
        assert np.corrcoef(average.ravel(), draw(content).numpy().ravel())[0, 1] > 0.98


def test_classes_of_a_model_keep_their_numbers() -> None:
    result = assembled(replace(findings(), numbered=True))
    assert result.counts.tolist() == [2, 3, 0]
    np.testing.assert_allclose(result.frc[:, 0], [0.5, 1.0, 0.25])


def test_a_class_that_looks_like_itself_when_turned_is_symmetric() -> None:
    round_ = draw(0) + torch.rot90(torch.roll(draw(0), 0), 1, dims=(1, 2)).roll(1, 1)
    twofold = round_ + torch.rot90(round_, 2, dims=(1, 2)).roll((1, 1), (1, 2))
    flags = assembled(replace(findings(), templates=templates(draw(0), twofold, draw(2)))).table["flags"]
    assert ["symmetric" in f for f in flags] == [number == 1 for number in (1, 2, 0, 0, 1, 2, 1, 0)]


def test_without_structure_everything_is_junk_but_stays_visible() -> None:
    found = findings()
    assert found.agreement is not None
    nothing = replace(found.agreement, significant=np.zeros(3, bool), resolution=np.full(3, np.nan, np.float32))
    result = assembled(replace(found, agreement=nothing, junk=np.ones(5, bool)))
    assert result.table["class_number"].tolist() == [1, 2, 0, 3, 1, 2, 1, 0]
    assert [w.startswith(NO_STRUCTURE) for w in result.warnings] == [True, False]
    assert "2 images hold no finite signal" in result.warnings[1]


def test_much_junk_is_said_and_little_is_not() -> None:
    found = findings()
    assert not any("fit no class" in w for w in assembled(found).warnings)
    much = replace(found, junk=np.array([True, True, False, False, False]))
    assert any(w.startswith("40% of the particles fit no class") for w in assembled(much).warnings)


def test_where_no_halves_were_compared_curves_are_unknown_and_nothing_is_claimed() -> None:
    result = assembled(replace(findings(), agreement=None))
    assert result.frc.shape == (3, 15) and np.isnan(result.frc).all() and np.isnan(result.resolution).all()
    assert not any(NO_STRUCTURE in w for w in result.warnings)


def test_the_summary_says_how_the_result_came_about() -> None:
    summary = assembled(findings()).summary
    assert summary["seed"] == 3 and summary["parameters"]["preset"] == "balanced" and summary["device"] == "CPU"


@pytest.mark.parametrize(
    ("angle", "other", "odds"), [(180.0, 0, 0.25), (80.0, 0, 0.0), (100.0, 0, 0.25), (180.0, 1, 0.0)]
)
def test_flip_odds_are_of_turns_over_90_degrees_within_the_class(angle: float, other: int, odds: float) -> None:
    """One particle, three quarters of its weight at psi 170, the rest ``angle`` further in class ``other``."""
    psi = torch.deg2rad(torch.tensor([170.0, 170.0 + angle]))
    posterior = Posterior(
        torch.zeros(2, dtype=torch.long),
        torch.tensor([0, other]),
        psi,
        torch.zeros(2, 2),
        torch.tensor([0.75, 0.25]),
        torch.zeros(1),
        torch.zeros(1, 2),
    )
    assert float(flip_odds(posterior, posterior.best())[0]) == pytest.approx(odds)


def test_junk_says_in_the_frame_of_which_class_its_pose_is() -> None:
    found = findings()
    result = assembled(found)
    frames = by_class(result.summary["junk_frames"], len(result))
    thrown = found.rows[found.junk]
    assert set(thrown) <= set(np.flatnonzero(frames))
    assert (frames[result.table["class_number"].to_numpy() > 0] == 0).all()
    kept = assembled(replace(found, junk=np.zeros_like(found.junk)))
    assert kept.summary["junk_frames"] == {}
    np.testing.assert_array_equal(frames[thrown], kept.table["class_number"].to_numpy()[thrown])
