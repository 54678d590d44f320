"""Some particles as a data set of their own: images, tables, CTF, wedge and the file they came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_subtomograms

from napari_harmony.particles import open_particles
from napari_harmony.particles.cryosparc import CryosparcMetadata, write_cryosparc
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.relion import write_relion
from napari_harmony.particles.simulate import sample_particles
from napari_harmony.particles.subset import subset

ROWS = np.array([7, 2, 11, 3])


@pytest.fixture
def particles(tmp_path: Path) -> Particles:
    """From a STAR file with optics groups, a CTF and a column of its own."""
    made = sample_particles(20).particles
    path = write_relion(tmp_path / "all.star", made, {"mineOwn": np.arange(20)})
    return open_particles(path)


def test_images_and_rows_are_those_chosen(particles: Particles) -> None:
    some = subset(particles, ROWS)
    assert len(some) == 4 and some.box == particles.box
    np.testing.assert_array_equal(some.read([0, 1, 2, 3]), particles.read(ROWS))
    np.testing.assert_array_equal(some.read([2]), particles.read([11]))
    assert some.table["mineOwn"].astype(int).tolist() == ROWS.tolist()
    assert particles.ctf is not None and some.ctf is not None
    np.testing.assert_array_equal(some.ctf.defocus_u, particles.ctf.defocus_u[ROWS])


def test_written_and_opened_again_they_are_the_same(particles: Particles, tmp_path: Path) -> None:
    path = write_relion(tmp_path / "some.star", subset(particles, ROWS), {"rlnClassNumber": np.array([1, 2, 3, 4])})
    again = open_particles(path)
    assert again.table["mineOwn"].astype(int).tolist() == ROWS.tolist()
    assert again.table["rlnClassNumber"].astype(int).tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(again.read(slice(None)), particles.read(ROWS))
    assert (tmp_path / "all.star").read_text().count("\n") > path.read_text().count("\n")


def test_some_of_some(particles: Particles) -> None:
    twice = subset(subset(particles, ROWS), [3, 0])
    np.testing.assert_array_equal(twice.read(slice(None)), particles.read([3, 7]))
    assert twice.table["mineOwn"].astype(int).tolist() == [3, 7]


def test_cryosparc_records_go_along(particles: Particles, tmp_path: Path) -> None:
    bare = replace(particles, metadata=None)
    assert subset(bare, ROWS).metadata is None
    records = np.zeros(20, dtype=[("uid", "<u8"), ("blob/idx", "<u4")])
    records["uid"] = np.arange(100, 120)
    metadata = CryosparcMetadata(tmp_path / "a.cs", records, {"alignments2D/psi": np.arange(20.0)})
    some = subset(replace(particles, metadata=metadata), ROWS).metadata
    assert isinstance(some, CryosparcMetadata)
    assert some.values("uid").tolist() == (100 + ROWS).tolist()
    assert some.values("alignments2D/psi").tolist() == ROWS.tolist()
    written = write_cryosparc(tmp_path / "b.cs", subset(replace(particles, metadata=metadata), ROWS), {})
    assert len(np.load(written, allow_pickle=False)) == 4


def test_subtomograms_keep_their_wedge() -> None:
    whole = make_subtomograms()
    some = subset(whole, [5, 1])
    assert some.dimensions == 3 and some.wedge == whole.wedge
    np.testing.assert_array_equal(some.read([1]), whole.read([1]))
