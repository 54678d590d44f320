"""The parts of the 2D benchmark that no package module covers: matching, reading peers, the table."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_harmony.analysis import metrics
from napari_harmony.particles.simulate import CtfRange, Simulated, sample_volumes, simulate_particles

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import cases
import matching
import methods
import protocols
import scoring
import tables

BOX = 32


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    volumes = sample_volumes(BOX)[:2]
    return simulate_particles(volumes, views=1, count=12, box=BOX, pixel_size=8.0, snr=2.0, ctf=CtfRange(), seed=5)


@pytest.fixture(scope="module")
def case(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> cases.Case:
    """The simulated set as a case on disk whose densities are the sample's."""
    protocol = protocols.Protocol("T", 12, 2.0, 1, 2, ("one", "two"))
    made = cases.Case(protocol, 5, tmp_path_factory.mktemp("work"))
    protocols.write(simulated, made.folder, {})
    made.__dict__["densities"] = sample_volumes(BOX)[:2]
    return made


def test_oracle_finds_contents_and_poses(case: cases.Case) -> None:
    run = methods.oracle(case, 0, methods.Options())
    scores = scoring.score(case, run)
    assert scores["accuracy"] == 1
    assert scores["rotation_median"] < 1
    assert scores["shift_median"] < 0.2


def test_match_recovers_exact_poses(case: cases.Case) -> None:
    templates = case.content_templates()
    pose = matching.Match(np.array([0, 1]), np.array([37.0, 301.0]), np.array([[2.5, -1.25], [0, 3]]), np.zeros(2))
    found = matching.match(matching.render(templates, pose), templates, normalised=True)
    np.testing.assert_array_equal(found.template, pose.template)
    np.testing.assert_allclose(metrics.wrap_degrees(found.psi - pose.psi), 0, atol=0.1)
    np.testing.assert_allclose(found.origin, pose.origin, atol=1e-6)
    np.testing.assert_allclose(found.score, 1, atol=1e-3)


def test_match_respects_what_is_allowed(case: cases.Case) -> None:
    templates = case.content_templates()
    allowed = np.array([[False, True], [True, False]])
    found = matching.match(case.arrays["clean"], templates, normalised=True, allowed=allowed)
    np.testing.assert_array_equal(found.template, [1, 0])


def test_perfect_averages_resolve_to_nyquist(case: cases.Case) -> None:
    table = pd.DataFrame({"class_number": case.truth["content"] + 1})
    assert scoring.average_scores(case, table, case.arrays["clean"])["frc_half"] == pytest.approx(16.0)


def test_cropped_average_comes_back_on_the_grid() -> None:
    axis = np.arange(32)
    image = np.cos(2 * np.pi * 3 * (axis - 16) / 32)[None, :].repeat(32, axis=0)
    small = np.cos(2 * np.pi * 3 * (np.arange(16) - 8) / 16)[None, :].repeat(16, axis=0)
    np.testing.assert_allclose(scoring.to_box(small, 32), image, atol=1e-9)


def test_relion_run_is_read_in_the_order_of_the_particles(case: cases.Case, tmp_path: Path) -> None:
    rows = "".join(f"{12 - i:06d}@particles.mrcs {i % 2 + 1} {10.0 * i} 8.0 -16.0\n" for i in range(12))
    labels = ("rlnImageName", "rlnClassNumber", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
    header = "".join(f"_{label} #{i}\n" for i, label in enumerate(labels, 1))
    (tmp_path / "run_it025_data.star").write_text(f"\n# version 30001\n\ndata_particles\n\nloop_\n{header}{rows}\n")
    protocols.write_stack(tmp_path / "run_it025_classes.mrcs", case.arrays["clean"], 8.0)
    run = methods.read_relion(case, 0, tmp_path)
    assert run.table is not None
    np.testing.assert_allclose(run.table["psi"], 10.0 * np.arange(11, -1, -1))
    np.testing.assert_allclose(run.table[["origin_x", "origin_y"]], [[1.0, -2.0]] * 12)
    assert run.note == ""


def test_relion_run_of_another_set_is_refused(case: cases.Case, tmp_path: Path) -> None:
    other = cases.Case(replace(case.protocol, count=99), 5)
    options = methods.Options(relion_dir=tmp_path)
    assert "no iteration" in methods.run_method("relion", case, 0, options).note
    (tmp_path / "run_it001_data.star").write_text("\ndata_particles\n\nloop_\n_rlnImageName #1\n1@a.mrcs\n2@a.mrcs\n\n")
    other.__dict__["arrays"] = case.arrays
    assert "2 particles" in methods.run_method("relion", other, 0, options).note


def test_aspire_neighbours_become_classes(case: cases.Case) -> None:
    content = case.truth["content"].to_numpy()
    members = [np.flatnonzero(content == c) for c in content]
    width = min(len(m) for m in members)
    table = np.stack([np.r_[i, m[m != i]][:width] for i, m in enumerate(members)])
    run = methods.read_aspire(case, 0, table)
    assert run.extra["neighbour_purity"] == 1
    assert scoring.score(case, run)["accuracy"] == 1


def test_records_are_replaced_and_shown(tmp_path: Path) -> None:
    path, readme = tmp_path / "r.json", tmp_path / "README.md"
    record = {
        "set": "V",
        "densities": ["a"],
        "count": 3,
        "classes": 2,
        "data_seed": 0,
        "method": "relion",
        "seed": 0,
        "arguments": [],
        "scores": {"accuracy": 0.5, "flips": float("nan")},
        "seconds": 61.0,
        "peak_mb": 512.0,
        "note": "",
        "machine": {"cpu": "c", "cores": 2, "python": "3", "torch": "2", "napari-harmony": "0"},
    }
    tables.keep(path, record)
    tables.keep(path, record | {"scores": {"accuracy": 0.75}})
    tables.keep(path, record | {"scores": {}, "note": "not run: it is away"})
    readme.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.rewrite_section(readme, tables.markdown(tables.load(path)))
    text = readme.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "old" not in text
    assert "| relion | 0 | 0.750 | 61 s | 0.50 GB |" in text
