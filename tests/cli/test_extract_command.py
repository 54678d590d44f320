"""``napari-harmony extract``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_harmony.cli import main
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.open import open_particles
from napari_harmony.particles.wedge import TiltRange


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A tomogram, coordinates in it, and where the particles go."""
    write_volume(tmp_path / "TS_1.mrc", np.random.default_rng(0).normal(size=(20, 30, 40)), 10.0)
    (tmp_path / "picks.csv").write_text("x,y,z,tomogram\n20,12,9,TS_1\n1,12,9,TS_1\n5,5,5,TS_2\n")
    return [str(tmp_path / "TS_1.mrc"), str(tmp_path / "picks.csv"), "-o", str(tmp_path / "out")]


def test_particles_with_their_wedge(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", *files, "--box", "8", "--tilt-range", "-60", "54", "--invert", "--edge", "drop"]) == 0
    particles = open_particles(tmp_path / "out")
    assert particles.images.shape == (1, 8, 8, 8) and particles.wedge == TiltRange(-60, 54)
    said = capsys.readouterr().out
    assert "1 subtomograms (1 dropped at the edge)" in said and str(tmp_path / "out") in said


def test_machines_get_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", *files, "--box", "4", "--bin", "2", "--tomo-name", "TS_2", "--json-progress"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["progress", "done"]
    assert events[-1]["particles"] == 1 and events[-1]["padded"] == 0


def test_particles_along_a_line(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "picks.csv").write_text("x,y,z\n20,10,9\n20,16,9\n20,22,9\n")
    assert main(["extract", *files, "--box", "8", "--every", "30"]) == 0
    table = open_particles(tmp_path / "out").table
    assert set(table["rlnHelicalTubeID"].astype(int)) == {1}
    np.testing.assert_allclose(table["rlnHelicalTrackLengthAngst"].astype(float), [0, 30, 60, 90, 120], atol=1e-3)
    y = table["rlnCoordinateY"].astype(float) - table["rlnOriginYAngst"].astype(float) / 10
    np.testing.assert_allclose(y, [10, 13, 16, 19, 22], atol=1e-5)
    for label in ("rlnAngleTilt", "rlnAngleTiltPrior"):
        np.testing.assert_allclose(table[label].astype(float), 90, atol=1e-4)
    np.testing.assert_array_equal(table["rlnAnglePsi"], table["rlnAnglePsiPrior"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--box", "2"], "the box is 2 voxels"),
        (["--box", "8", "--tilt-range", "60", "-60"], "tilt range"),
        (["--box", "8", "--edge", "wrap"], "choose from pad, drop"),
        (["--box", "8", "--tomo-name", "TS_3"], "no coordinates in a tomogram 'TS_3'"),
        (["--box", "8", "--pixel-size", "-1"], "positive number"),
        (["--box", "8", "--every", "-40"], "--every is -40: give a positive number"),
        (["--box", "8", "--every", "40", "--tomo-name", "TS_2"], "filament 1: a line needs at least two points"),
        ([], "--box"),
    ],
)
def test_bad_options_end_with_2_and_one_sentence(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["extract", *files, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_missing_files_end_with_2(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (0, 1):
        names = list(files)
        names[place] = str(tmp_path / "gone.mrc")
        assert main(["extract", *names, "--box", "8"]) == 2
        assert "gone.mrc does not exist" in capsys.readouterr().err


def test_info_says_what_was_extracted(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", *files, "--box", "8", "--tilt-range", "-60", "54"]) == 0
    capsys.readouterr()
    for place in (tmp_path / "out", tmp_path / "out/particles.star"):
        assert main(["info", str(place)]) == 0
        said = capsys.readouterr().out
        assert "2 subtomograms" in said and "tilts from -60 to 54 degrees about y" in said
    assert main(["info", str(tmp_path / "out/subtomograms")]) == 0
    assert "folder of volumes" in capsys.readouterr().out
