"""Averages in the tomogram as layers: found again by the STAR file, with the run's own poses, junk left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gui_fakes import make_result_3d
from napari.components import ViewerModel
from napari.layers import Image
from tomogram_fakes import BOX, SHAPE, VOXEL, FakeTomogram

from napari_harmony import _map_back
from napari_harmony._map_back import InTomogram, find_in_tomogram, layers_of, place_in_tomogram
from napari_harmony._tomograms import points_in, tomogram_of
from napari_harmony._writer import write_volume_file
from napari_harmony.errors import InputError
from napari_harmony.particles import open_particles
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.euler import matrix_to_relion, relion_to_matrix
from napari_harmony.particles.extract import ExtractSettings, extract
from napari_harmony.results import Result
from napari_harmony.widgets._map_back import with_colormap


@pytest.fixture(scope="module")
def made() -> FakeTomogram:
    return FakeTomogram()


@pytest.fixture
def viewer(made: FakeTomogram) -> ViewerModel:
    viewer = ViewerModel()
    made.add_to(viewer)
    return viewer


def cut(viewer: ViewerModel, folder: Path, binning: int = 1) -> Particles:
    image, points = viewer.layers["tomogram"], viewer.layers["picks"]
    settings = ExtractSettings(BOX // binning, binning)
    for _ in extract(tomogram_of(image), points_in(points, image), folder, settings):
        pass
    return open_particles(folder / "particles.star")


def perfect(made: FakeTomogram, particles: Particles, binning: int = 1) -> Result:
    """What a run would find that makes no mistakes: the origins in the file are right, being rounded positions."""
    result = make_result_3d(4, 2, truth=made.truth)
    origins = particles.table[[f"rlnOrigin{axis}Angst" for axis in "XYZ"]].to_numpy(float) / particles.pixel_size
    table = result.table.copy()
    table[["origin_x", "origin_y", "origin_z"]] = origins
    averages = made.clean if binning == 1 else made.clean[:, ::2, ::2, ::2]
    return replace(result.with_table(table), averages=averages, average_pixel_size=VOXEL * binning)


@pytest.mark.parametrize("binning", [1, 2])
def test_the_averages_lie_where_the_particles_are(
    made: FakeTomogram, viewer: ViewerModel, tmp_path: Path, binning: int
) -> None:
    particles = cut(viewer, tmp_path, binning)
    result = perfect(made, particles, binning)
    layer, found = find_in_tomogram(particles, result, [viewer.layers["tomogram"]])
    assert layer is viewer.layers["tomogram"]
    np.testing.assert_allclose(found.placement.positions, made.truth[["x", "y", "z"]], atol=1e-3)
    np.testing.assert_allclose(
        found.placement.matrices, relion_to_matrix(made.truth[["rot", "tilt", "psi"]]), atol=1e-3
    )
    drawn = {options["name"]: (data, options) for data, options, _ in layers_of(found, result, {})}
    density, _ = drawn[_map_back.DENSITIES]
    assert np.corrcoef(np.asarray(density).ravel(), made.specimen.ravel())[0, 1] > 0.85
    numbers, _ = drawn[_map_back.CLASSES]
    for place, kind in zip(made.truth[["z", "y", "x"]].to_numpy(), made.truth["kind"], strict=True):
        region = tuple(slice(c - 8, c + 9) for c in np.round(place).astype(int))
        assert set(np.unique(numbers[region])) == {0, kind + 1}


def test_boxes_that_were_cut_turned_are_put_back_as_they_lay(
    made: FakeTomogram, viewer: ViewerModel, tmp_path: Path
) -> None:
    """RELION 4: the particle is A_subtomogram A_particle, its centre at coordinate - A_subtomogram origin."""
    cut(viewer, tmp_path)
    truth = made.truth[["rot", "tilt", "psi"]].to_numpy()
    places = made.truth[["x", "y", "z"]].to_numpy()
    box_angles = np.random.default_rng(5).uniform((-180, 0, -180), (180, 180, 180), (len(truth), 3))
    in_box = np.swapaxes(relion_to_matrix(box_angles), 1, 2)  # A of the boxes
    inner = np.swapaxes(in_box, 1, 2) @ np.swapaxes(relion_to_matrix(truth), 1, 2)  # A of the particles inside
    angles = matrix_to_relion(np.swapaxes(inner, 1, 2))
    whole = np.round(places)
    origins = np.einsum("nji,nj->ni", in_box, whole - places)
    text = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnImageDimensionality\n"
    text += f"_rlnTomoTiltSeriesPixelSize\n1 {VOXEL} 3 {VOXEL}\n\ndata_particles\n\nloop_\n_rlnImageName\n"
    labels = [f"rlnTomoSubtomogram{name}" for name in ("Rot", "Tilt", "Psi")]
    labels += [f"rlnCoordinate{axis}" for axis in "XYZ"] + [f"rlnOrigin{axis}Angst" for axis in "XYZ"]
    text += "_rlnOpticsGroup\n" + "".join(f"_{label}\n" for label in labels)
    earlier = np.random.default_rng(6).normal(0, 30, (len(truth), 3))  # of a previous run, to be forgotten
    for row, values in enumerate(np.hstack([box_angles, whole, earlier])):
        text += f"subtomograms/{row + 1:06d}.mrc 1 " + " ".join(f"{value:.9f}" for value in values) + "\n"
    (tmp_path / "turned.star").write_text(text + "\n")
    particles = open_particles(tmp_path / "turned.star")
    result = make_result_3d(4, 2, truth=made.truth)
    table = result.table.copy()
    table[["rot", "tilt", "psi"]], table[["origin_x", "origin_y", "origin_z"]] = angles, origins
    found = place_in_tomogram(particles, result.with_table(table), viewer.layers["tomogram"])
    np.testing.assert_allclose(found.placement.positions, places, atol=1e-6)
    np.testing.assert_allclose(found.placement.matrices, relion_to_matrix(truth), atol=1e-6)


def test_a_run_moves_the_particles(made: FakeTomogram, viewer: ViewerModel, tmp_path: Path) -> None:
    particles = cut(viewer, tmp_path)
    result = perfect(made, particles)
    moved = result.table.copy()
    moved.loc[0, "origin_x"] += 2.5  # the particle lies 2.5 voxels further left in its box
    moved.loc[1, "class_number"], moved.loc[2, "flags"] = 0, "junk,shift-bound"
    found = place_in_tomogram(particles, result.with_table(moved), viewer.layers["tomogram"])
    assert found.rows.tolist() == [0, 3] and len(found.left_out) == 2
    np.testing.assert_allclose(found.placement.positions[0], [20.3 - 2.5, 17.8, 18.0], atol=1e-3)
    np.testing.assert_allclose(found.left_out, made.truth[["x", "y", "z"]].to_numpy()[1:3], atol=1e-3)


def test_the_layers_are_what_napari_takes(made: FakeTomogram, viewer: ViewerModel, tmp_path: Path) -> None:
    particles = cut(viewer, tmp_path / "cut")
    result = perfect(made, particles)
    found = place_in_tomogram(particles, result, viewer.layers["tomogram"])
    for data, options, kind in layers_of(found, result, made.space):
        getattr(viewer, f"add_{kind}")(data, **with_colormap(options, kind))
    shown = {layer.name for layer in viewer.layers if layer.visible}
    assert shown == {"tomogram", "picks", _map_back.SURFACES, _map_back.Z_AXES, _map_back.POINTS}
    points = viewer.layers[_map_back.POINTS]
    np.testing.assert_allclose(points.data, made.truth[["z", "y", "x"]], atol=1e-3)
    np.testing.assert_array_equal(points.features["particle"], range(4))
    surface, axes = viewer.layers[_map_back.SURFACES], viewer.layers[_map_back.Z_AXES]
    low, high = surface.extent.world
    assert (low > 0).all() and (high < np.array(SHAPE) * VOXEL).all()
    np.testing.assert_array_equal(axes.features["particle"], range(4))
    third = relion_to_matrix(made.truth[["rot", "tilt", "psi"]].to_numpy()[2])[2]
    np.testing.assert_allclose(axes.data[2, 1] / np.linalg.norm(axes.data[2, 1]), third[::-1], atol=1e-3)
    colours = surface.colormap.map(np.array([0.25, 0.75]))
    np.testing.assert_allclose(colours, _map_back.class_colours(2), atol=1e-6)
    np.testing.assert_allclose(axes.edge_color, colours[made.truth["kind"]], atol=1e-6)
    numbers = viewer.layers[_map_back.CLASSES]
    viewer.layers[_map_back.CLASSES].visible = True
    viewer.dims.set_point(0, 180.0)
    assert set(np.unique(numbers._slice.image.raw)) >= {0, 1}
    data, meta, _ = viewer.layers[_map_back.DENSITIES].as_layer_data_tuple()
    write_volume_file(str(tmp_path / "back.mrc"), data, meta)
    from napari_harmony.particles import open_tomogram

    written = open_tomogram(tmp_path / "back.mrc")
    assert written.voxel_size == pytest.approx(VOXEL)
    np.testing.assert_array_equal(written.read(), np.asarray(data))


def test_the_tomogram_is_told_by_its_name(made: FakeTomogram, viewer: ViewerModel, tmp_path: Path) -> None:
    particles = cut(viewer, tmp_path)
    result = perfect(made, particles)
    other = Image(np.zeros(SHAPE, np.float32), name="another one", **made.space)
    layer, _ = find_in_tomogram(particles, result, [other, viewer.layers["tomogram"]])
    assert layer.name == "tomogram"
    with pytest.raises(InputError, match="None of the 2 tomograms"):
        find_in_tomogram(particles, result, [other, Image(np.zeros(SHAPE, np.float32), name="third", **made.space)])


def test_a_tomogram_of_another_voxel_size_is_refused(made: FakeTomogram, viewer: ViewerModel, tmp_path: Path) -> None:
    particles = cut(viewer, tmp_path)
    viewer.layers["tomogram"].scale = (7.0, 7.0, 7.0)
    with pytest.raises(InputError, match="differ by more than 1 %"):
        place_in_tomogram(particles, perfect(made, particles), viewer.layers["tomogram"])


def test_without_a_class_there_is_nothing_to_put_back(made: FakeTomogram, viewer: ViewerModel, tmp_path: Path) -> None:
    particles = cut(viewer, tmp_path)
    result = perfect(made, particles)
    nothing = result.with_table(result.table.assign(class_number=0))
    found = place_in_tomogram(particles, nothing, viewer.layers["tomogram"])
    assert isinstance(found, InTomogram) and not len(found.placement)
    with pytest.raises(InputError, match="no average to put back"):
        layers_of(found, nothing, {})


def test_colours_of_classes_differ() -> None:
    colours = _map_back.class_colours(12)[:, :3]
    distance = np.linalg.norm(colours[:, None] - colours, axis=-1) + 10 * np.eye(12)
    assert distance.min() > 0.1 and np.allclose(_map_back.class_colours(3), _map_back.class_colours(12)[:3])
