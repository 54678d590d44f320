"""``napari-harmony edit``: what was done by hand in the viewer, done again without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from edit_data import split_images
from engine_data import run

from napari_harmony.cli.main import main
from napari_harmony.edits import Assign, Junk, Merge, Split, due_averages, edits_of, recompute, write_edits
from napari_harmony.outputs import load_output, write_output
from napari_harmony.particles import open_particles
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.relion import write_relion
from napari_harmony.session import Session


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, of particles in a STAR file."""
    folder = tmp_path_factory.mktemp("run")
    particles, result, _ = split_images()
    path = write_relion(folder / "particles.star", particles)
    blank = np.full((3, particles.box // 2 - 1), np.nan, np.float32)
    result = replace(result, frc=blank, frc_floor=blank, frc_frequency=np.arange(len(blank[0])).astype(np.float32))
    return write_output(folder / "out", open_particles(path), result)


def opened(folder: Path) -> Particles:
    return open_particles(folder / "particles.star")


def by_hand(folder: Path, target: Path, averages: bool = True) -> Path:
    """What an analyst does in the viewer: open, edit, change his mind once, wait for the averages, save."""
    session = Session()
    session.set_data(opened(folder))
    session.set_result(load_output(folder))
    session.edit(Merge((1, 2)))
    session.edit(Junk((3,)))
    session.undo()
    session.edit(Split(3))
    session.edit(Assign(tuple(session.result.members(4)[:5].tolist()), 5))
    session.edit(Assign(tuple(session.result.members(1)[:3].tolist()), 0))
    if averages:
        session.set_averages(run(recompute(session.data, session.result, device="cpu")).value)
    return write_output(target, session.data, session.result)


def test_a_replay_gives_what_the_viewer_gave(out: Path, tmp_path: Path) -> None:
    shown = by_hand(out, tmp_path / "viewer")
    for name, edits in (("file", shown / "edits.json"), ("folder", shown)):
        target = tmp_path / name
        assert main(["edit", str(out), "--edits", str(edits), "-o", str(target), "--device", "cpu"]) == 0
        one, two = load_output(shown), load_output(target)
        pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
        np.testing.assert_allclose(one.averages, two.averages, atol=1e-5)
        np.testing.assert_allclose(one.resolution, two.resolution, rtol=1e-4)
        assert edits_of(one) == edits_of(two) and len(edits_of(two)) == 4
        assert due_averages(two) == ()
        assert (target / "edits.json").read_text() == (shown / "edits.json").read_text()
        assert (target / "particles.star").read_text() == (shown / "particles.star").read_text()


def test_edits_that_are_there_already_are_not_done_twice(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = by_hand(out, tmp_path / "viewer")
    target = tmp_path / "again"
    assert main(["edit", str(shown), "--edits", str(shown), "-o", str(target), "--device", "cpu"]) == 0
    assert "4 of 4 edits" in capsys.readouterr().err
    assert load_output(target).table.equals(load_output(shown).table)


def test_averages_that_are_due_are_said_and_made_later(out: Path, tmp_path: Path) -> None:
    shown = by_hand(out, tmp_path / "viewer", averages=False)
    summary = json.loads((shown / "summary.json").read_text())
    assert any("not averaged since" in text for text in summary["warnings"])
    assert due_averages(load_output(shown)) == (1, 3, 4, 5)
    none = write_edits(tmp_path / "none.json", [])
    target = tmp_path / "averaged"
    assert main(["edit", str(shown), "--edits", str(none), "-o", str(target), "--device", "cpu"]) == 0
    warnings = json.loads((target / "summary.json").read_text())["warnings"]
    assert not any("not averaged since" in text for text in warnings)
    assert any("upper bound" in text for text in warnings)
    assert "upper bound" in (target / "report.html").read_text()


def test_a_run_that_nobody_edited_has_no_file_of_edits(out: Path) -> None:
    assert not (out / "edits.json").exists()


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ('{"edits": [{"edit": "junk", "classes": [2]}, {"edit": "junk", "classes": [9]}]}', "edit 2 (junk class 9)"),
        ('{"edits": [{"edit": "bend"}]}', "edit 1: 'bend' is no edit"),
        (None, "cannot be read"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_a_line(
    out: Path, tmp_path: Path, edits: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "edits.json"
    if edits is not None:
        path.write_text(edits)
    assert main(["edit", str(out), "--edits", str(path), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said.removesuffix("\n").split("Error: ")[-1]
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_run_is_not_overwritten(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = write_edits(tmp_path / "none.json", [])
    before = (out / "particles.star").read_bytes()
    assert main(["edit", str(out), "--edits", str(none), "-o", str(out)]) == 2
    assert "would overwrite this input" in capsys.readouterr().err
    assert (out / "particles.star").read_bytes() == before


def test_without_the_images_it_says_what_it_needs(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    alone = shutil.copytree(out, tmp_path / "alone")
    star = alone / "particles.star"
    star.write_text(star.read_text().replace("particles_images", "gone"))
    summary = json.loads((alone / "summary.json").read_text()) | {"input": None}
    (alone / "summary.json").write_text(json.dumps(summary))
    none = write_edits(tmp_path / "none.json", [])
    assert main(["edit", str(alone), "--edits", str(none), "-o", str(tmp_path / "out")]) == 2
    assert "need the particle images" in capsys.readouterr().err
