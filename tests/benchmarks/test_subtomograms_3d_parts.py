"""The parts of the 3D benchmark that no package module covers: the oracle, reading RELION, averages, the table."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from napari_harmony.analysis.metrics_3d import ANGLES, ORIGINS
from napari_harmony.particles.simulate import sample_volumes
from napari_harmony.particles.simulate_volumes import simulate_subtomograms

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import cases
import cases_3d
import methods
import methods_3d
import protocols_3d
import tables

BOX, COUNT = 20, 8


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> cases_3d.Case3D:
    """A small simulated set on disk."""
    volumes = [sample_volumes(BOX)[number] for number in (1, 3)]
    made = simulate_subtomograms(volumes, COUNT, BOX, snr=2.0, shift_sigma=1.0, seed=4)
    protocol = protocols_3d.Protocol3D("T", COUNT, 2.0, BOX, 1.0, densities=("one", "two"))
    case = cases_3d.Case3D(protocol, 4, tmp_path_factory.mktemp("work"))
    protocols_3d.write(made, case.folder, {})
    return case


def perfect(case: cases_3d.Case3D) -> tuple[pd.DataFrame, np.ndarray]:
    """The truth in another gauge, and the contents as they look in it."""
    gauge, tau = Rotation.from_euler("ZYZ", [40, 75, -20], degrees=True), np.array([1.5, -1.0, 0.5])
    pose = gauge * Rotation.from_euler("ZYZ", case.truth[ANGLES].to_numpy(), degrees=True)
    table = pd.DataFrame({"class_number": case.truth["content"] + 1})
    table[ANGLES] = pose.as_euler("ZYZ", degrees=True)
    table[ORIGINS] = case.truth[ORIGINS].to_numpy() + pose.inv().apply(tau)
    return table, np.stack([cases_3d.in_frame(volume, gauge, tau) for volume in case.clean])


def test_oracle_finds_contents_and_poses(case: cases_3d.Case3D, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_3d, "_COARSE", (5.0, 20.0))
    monkeypatch.setattr(methods_3d, "_FINE", (7.0, 7.0, 14.0))
    monkeypatch.setattr(methods_3d, "_LAST", 8.0)
    scores = cases_3d.score(case, methods_3d.oracle(case, 0, methods.Options()))
    assert scores["accuracy"] == 1
    assert scores["rotation_median"] < 5
    assert scores["shift_median"] < 0.5


def test_chance_is_wrong_and_the_same_for_the_same_seed(case: cases_3d.Case3D) -> None:
    first, second = (methods_3d.chance(case, 3, methods.Options()).table for _ in range(2))
    assert first is not None and second is not None
    pd.testing.assert_frame_equal(first, second)
    assert cases_3d.score(case, cases.Run("chance", 3, first))["strict_rotation_under_10"] < 0.3


def test_averages_are_compared_with_the_truth_in_the_frame_of_the_poses(case: cases_3d.Case3D) -> None:
    table, shown = perfect(case)
    scores = cases_3d.score(case, cases.Run("perfect", 0, table, shown))
    assert scores["rotation_under_10"] == 1
    assert scores["fsc_half_worst"] < 30
    turned = cases_3d.score(case, cases.Run("turned", 0, table, case.clean))
    assert turned["fsc_half"] > 2 * scores["fsc_half"]


def test_a_volume_in_a_frame_is_what_the_renderer_of_the_data_shows(case: cases_3d.Case3D) -> None:
    """The pose of a noise-free particle, undone, gives the content back: both follow one convention."""
    volume = sample_volumes(BOX)[1]
    made = simulate_subtomograms([volume], 1, BOX, snr=np.inf, shift_sigma=1.0, tilt_range=None, seed=0)
    pose = Rotation.from_euler("ZYZ", made.truth[ANGLES].to_numpy()[0], degrees=True)
    origin = made.truth[ORIGINS].to_numpy()[0].copy()
    back = cases_3d.in_frame(made.particles.read([0])[0], pose, pose.apply(origin))
    curve = cases_3d.shell_correlation(back, made.clean[0])
    assert curve[: BOX // 4].min() > 0.95


def test_shell_correlation_of_known_volumes() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 12, 12, 12))
    np.testing.assert_allclose(cases_3d.shell_correlation(one, 3 * one), 1)
    assert np.abs(cases_3d.shell_correlation(one, two)[2:]).max() < 0.35
    assert (cases_3d.shell_correlation(one, 0 * two) == 0).all()


def test_relion_run_is_read_in_the_order_of_the_particles(case: cases_3d.Case3D, tmp_path: Path) -> None:
    table, shown = perfect(case)
    rows = ""
    for row in reversed(range(COUNT)):
        angles = " ".join(f"{value:.6f}" for value in table.loc[row, ANGLES])
        origins = " ".join(f"{10 * value:.6f}" for value in table.loc[row, ORIGINS])
        rows += f"subtomograms/{row + 1:06d}.mrc {table['class_number'][row]} {angles} {origins}\n"
    labels = ["ImageName", "ClassNumber", "AngleRot", "AngleTilt", "AnglePsi", *(f"Origin{a}Angst" for a in "XYZ")]
    header = "".join(f"_rln{label} #{number}\n" for number, label in enumerate(labels, 1))
    (tmp_path / "run_it025_data.star").write_text(f"\n# version 30001\n\ndata_particles\n\nloop_\n{header}{rows}\n")
    for number in (1, 2):
        mrcfile.write(tmp_path / f"run_it025_class{number:03d}.mrc", shown[number - 1].astype(np.float32))
    run = methods_3d.read_relion(case, 0, tmp_path)
    assert run.note == "" and run.table is not None
    np.testing.assert_allclose(run.table[ANGLES], table[ANGLES], atol=1e-5)
    np.testing.assert_allclose(run.table[ORIGINS], table[ORIGINS], atol=1e-5)
    assert cases_3d.score(case, run)["rotation_under_10"] == 1


def test_relion_run_of_another_set_is_refused(case: cases_3d.Case3D, tmp_path: Path) -> None:
    options = methods.Options(relion_dir=tmp_path)
    assert "no iteration" in methods_3d.run_method("relion", case, 0, options).note
    (tmp_path / "run_it001_data.star").write_text("\ndata_particles\n\nloop_\n_rlnImageName #1\na/000001.mrc\n\n")
    assert "1 particles" in methods_3d.run_method("relion", case, 0, options).note


def test_protocols_can_be_changed_and_keep_their_classes(case: cases_3d.Case3D) -> None:
    changed = cases_3d.with_changes(protocols_3d.PROTOCOLS_3D["T4"], "a.mrc,b.mrc", 12)
    assert replace(case, protocol=changed).key == {
        "set": "T4",
        "data_seed": 4,
        "densities": ["a", "b"],
        "count": 12,
        "classes": 2,
    }
    assert cases_3d.with_changes(changed, None, None) == changed


def test_the_table_has_a_section_of_its_own(tmp_path: Path) -> None:
    record = {"set": "T4", "densities": [], "count": 8, "classes": 4, "data_seed": 0, "method": "harmony", "seed": 0}
    record |= {"arguments": [], "seconds": 61.0, "peak_mb": 512.0, "note": ""}
    record |= {"scores": {"accuracy": 0.75, "rotation_under_15": 0.5, "shift_median": 0.4}}
    record |= {"machine": {"cpu": "c", "cores": 2, "python": "3", "torch": "2", "napari-harmony": "0"}}
    readme = tmp_path / "README.md"
    marks = (tables.BEGIN, tables.END, tables.BEGIN_3D, tables.END_3D)
    readme.write_text("{}\nflat\n{}\n{}\nold\n{}\n".format(*marks))
    text = tables.markdown([record], tables.COLUMNS_3D, "subtomograms")
    tables.rewrite_section(readme, text, tables.BEGIN_3D, tables.END_3D)
    written = readme.read_text()
    assert "flat" in written and "old" not in written
    assert "### T4: 8 subtomograms, K = 4, data seed 0" in written
    assert "| harmony | 0 | 0.750 | 50.0 % | 0.40 voxel | 61 s | 0.50 GB |" in written
