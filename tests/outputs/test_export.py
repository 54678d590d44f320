"""Tables of a result or a selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import BOX, PIXEL_SIZE, make_result

from napari_harmony.errors import InputError
from napari_harmony.outputs import export_table
from napari_harmony.particles import open_particles
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.mrc import write_stack


@pytest.fixture
def particles(tmp_path: Path) -> Particles:
    write_stack(tmp_path / "stack.mrcs", np.random.default_rng(0).normal(size=(12, BOX, BOX)), PIXEL_SIZE)
    rows = "".join(f"{i + 1:06d}@stack.mrcs mic{i % 2}.mrc 1\n" for i in range(12))
    optics = f"data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 {PIXEL_SIZE}\n\n"
    labels = "_rlnImageName\n_rlnMicrographName\n_rlnOpticsGroup\n"
    (tmp_path / "in.star").write_text(f"{optics}data_particles\n\nloop_\n{labels}{rows}\n")
    return open_particles(tmp_path / "in.star")


def test_csv_has_our_columns_and_the_inputs(particles: Particles, tmp_path: Path) -> None:
    result = make_result(particles)
    export_table(tmp_path / "all.CSV", particles, result)
    read = pd.read_csv(tmp_path / "all.CSV")
    assert read["particle"].tolist() == list(range(1, 13))
    assert read["rlnMicrographName"].tolist() == ["mic0.mrc", "mic1.mrc"] * 6
    np.testing.assert_allclose(read["origin_x"], result.table["origin_x"])
    assert read["flags"].fillna("").tolist() == result.table["flags"].tolist()


def test_selection_keeps_input_order(particles: Particles, tmp_path: Path) -> None:
    result = make_result(particles)
    export_table(tmp_path / "some.csv", particles, result, rows=[7, 3, 7])
    assert pd.read_csv(tmp_path / "some.csv")["particle"].tolist() == [4, 8]
    export_table(tmp_path / "some.star", particles, result, rows=np.array([7, 3]))
    written = open_particles(tmp_path / "some.star")
    np.testing.assert_array_equal(written.read(slice(None)), particles.read([3, 7]))
    expected = result.table["origin_y"].iloc[[3, 7]] * PIXEL_SIZE
    np.testing.assert_allclose(written.table["rlnOriginYAngst"], expected, atol=1e-6)


def test_cs_goes_out_as_cs_with_its_fields(shared_data: Path, tmp_path: Path) -> None:
    particles = open_particles(shared_data / "real2d" / "empiar_10076_7.cs")
    result = make_result(particles)
    export_table(tmp_path / "some.cs", particles, result, rows=[0, 4])
    records = np.load(tmp_path / "some.cs", allow_pickle=False)
    original = np.load(shared_data / "real2d" / "empiar_10076_7.cs", allow_pickle=False)
    np.testing.assert_array_equal(records["uid"], original["uid"][[0, 4]])
    degrees = np.rad2deg(records["alignments2D/pose"])
    np.testing.assert_allclose(degrees, result.table["psi"].iloc[[0, 4]] % 360, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "rows", "sentence"),
    [
        ("table.txt", None, "tables are written as .csv, .star, .cs"),
        ("table.csv", [], "no particles are selected"),
        ("table.csv", [0, 12], "row 12 does not exist; the rows are 0 to 11"),
        ("table.star", [-1], "row -1 does not exist"),
        ("table.cs", None, "did not come from a .cs file"),
    ],
)
def test_refusals_write_nothing(
    particles: Particles, tmp_path: Path, name: str, rows: list[int] | None, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        export_table(tmp_path / name, particles, make_result(particles), rows=rows)
    assert not (tmp_path / name).exists()
