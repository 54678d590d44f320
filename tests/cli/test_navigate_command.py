"""``napari-harmony navigate``: from the folder of a run to frames, scores and a file of directions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from fake_run import make_result

from napari_harmony.analysis.navigation import Navigation
from napari_harmony.cli import main
from napari_harmony.engine import navigate as engine_navigate
from napari_harmony.engine.settings import Settings
from napari_harmony.models import HarmonyModel, ModelCard, build_network
from napari_harmony.outputs import write_output
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.simulate import simulate_noise
from napari_harmony.particles.simulate_volumes import simulate_volume_noise


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few batches only."""
    monkeypatch.setattr(engine_navigate, "_STEPS", {2: 2, 3: 2})


def finished(folder: Path, particles: Particles) -> Path:
    """The folder of a run with a model that was never trained but draws something."""
    card = ModelCard(
        box=16,
        pixel_size=4.0,
        original_box=particles.box,
        transforms=("rotation", "translation"),
        content=4,
        hypotheses=4,
        mask_diameter=60.0,
        max_shift=8.0,
        dimensions=particles.dimensions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(card).eval()
    with torch.no_grad():
        network.decoder[-1].weight.mul_(20)
    write_output(folder, particles, make_result(particles), model=HarmonyModel(network, card), settings=Settings())
    return folder


def test_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, target = finished(tmp_path / "out", simulate_noise(12, 16)), tmp_path / "nav"
    assert main(["navigate", str(out), "-o", str(target), "--directions", "2", "--frames", "5"]) == 0
    assert sorted(path.name for path in target.iterdir()) == [
        "direction_01.mrcs",
        "direction_02.mrcs",
        "directions.csv",
        "navigation.json",
    ]
    navigation = Navigation.load(target / "navigation.json")
    with mrcfile.open(target / "direction_01.mrcs") as file:
        assert file.data.shape == (5, 16, 16) and file.voxel_size.x == pytest.approx(4.0)
        assert np.abs(np.diff(file.data, axis=0)).max() > 0.01
    rows = list(csv.DictReader((target / "directions.csv").open()))
    assert [row["direction"] for row in rows] == ["1", "2"]
    assert [float(row["activity"]) for row in rows] == pytest.approx(navigation.activity.tolist(), abs=1e-3)
    said = capsys.readouterr()
    assert f"direction 1: {rows[0]['verdict']}" in said.err and "2 directions" in said.out
    # fewer directions in the same folder: nothing stays of the earlier ones
    assert main(["navigate", str(out), "-o", str(target), "--directions", "1"]) == 0
    assert not (target / "direction_02.mrcs").exists()


def test_volumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, target = finished(tmp_path / "out", simulate_volume_noise(12, 16)), tmp_path / "nav"
    words = ["navigate", str(out), "-o", str(target), "--directions", "1", "--frames", "3", "--json-progress"]
    assert main(words) == 0
    frames = sorted(path.name for path in target.glob("*.mrc"))
    assert frames == [f"direction_01_frame_{number:02d}.mrc" for number in (1, 2, 3)]
    with mrcfile.open(target / frames[0]) as file:
        assert file.data.shape == (16, 16, 16)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "done" and events[-1]["directions"] == 1


def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = finished(tmp_path / "out", simulate_noise(12, 16))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "directions.csv").write_text("mine")
    bare = tmp_path / "bare"
    particles = simulate_noise(12, 16)
    write_output(bare, particles, make_result(particles), model=None, settings=Settings())
    cases = [
        ([str(out), "-o", str(tmp_path / "n"), "--frames", "1"], "--frames is 1"),
        ([str(out), "-o", str(tmp_path / "n"), "--directions", "0"], "--directions is 0"),
        ([str(out), "-o", str(tmp_path / "n"), "--directions", "5"], "directions is 5"),
        ([str(out), "-o", str(tmp_path / "n"), "--sharp"], "no diffusion decoder"),
        ([str(tmp_path), "-o", str(tmp_path / "n")], "not the folder of a finished run"),
        ([str(bare), "-o", str(tmp_path / "n")], "no model"),
        ([str(out), "-o", str(taken)], "not from napari-harmony"),
    ]
    for words, sentence in cases:
        assert main(["navigate", *words]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert sentence in error
        assert not (tmp_path / "n").exists()
