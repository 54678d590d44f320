"""What the latent plot draws: the part of the plane, discs and densities, colours and their legend."""

from __future__ import annotations

import numpy as np
import pytest
from gui_fakes import make_result, make_result_3d

from napari_harmony._map_back import class_colours
from napari_harmony.widgets._latent_colours import CLASS, COUNT, Colouring, colour_by, numbers_of, words_of
from napari_harmony.widgets._latent_raster import density_picture, points_picture, ringed_picture, topmost
from napari_harmony.widgets._latent_view import View, tick_text, ticks

RED, BLUE = (255, 0, 0, 255), (0, 0, 255, 255)


# -- view -------------------------------------------------------------------------------------------------------------


def test_all_points_are_in_view_with_a_margin() -> None:
    x, y = np.array([0.0, 10.0, np.nan, 4.0]), np.array([-5.0, 5.0, 100.0, np.nan])
    view = View.around(x, y)
    assert view.left < 0 < 10 < view.right < 11 and view.bottom < -5 < 5 < view.top < 6


@pytest.mark.parametrize("values", [np.empty(0), np.full(3, np.nan), np.full(3, 7.0)])
def test_there_is_always_something_to_look_at(values: np.ndarray) -> None:
    view = View.around(values, values)
    assert view.width > 0 and view.height > 0


def test_pixels_and_back() -> None:
    view = View(-2.0, 6.0, 1.0, 5.0)
    assert view.to_pixels(-2.0, 5.0, 400, 200) == (0, 0)  # upper left
    column, row = view.to_pixels(1.3, 2.2, 400, 200)
    np.testing.assert_allclose(view.to_data(column, row, 400, 200), (1.3, 2.2))


def test_zoom_keeps_its_place_and_ends_where_floats_do() -> None:
    view = View(0.0, 10.0, 0.0, 10.0)
    near = view.zoomed(2.0, 1.0, 9.0)
    np.testing.assert_allclose(near.to_pixels(1.0, 9.0, 100, 100), view.to_pixels(1.0, 9.0, 100, 100))
    assert near.width == pytest.approx(5.0)
    for _ in range(300):
        near = near.zoomed(2.0)
    assert near.width > 0 and near.height > 0


def test_panning_moves_by_parts_of_the_view() -> None:
    assert View(0.0, 10.0, 0.0, 4.0).panned(0.1, -0.5) == View(1.0, 11.0, -2.0, 2.0)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-13.2, 7.7), (1e-7, 3e-7), (12_000.0, 980_000.0)])
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    places = ticks(low, high, 6)
    assert 3 <= len(places) <= 7 and min(places) >= low - 1e-9 and max(places) <= high + 1e-9
    steps = np.diff(places)
    np.testing.assert_allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"


def test_ticks_are_written_as_their_neighbours_need() -> None:
    assert [tick_text(v, 0.5) for v in (-0.5, 0.0, 1.0)] == ["-0.5", "0", "1.0"]
    assert tick_text(0.25, 0.05) == "0.25" and tick_text(20.0, 10.0) == "20" and tick_text(2e7, 1e7) == "2e+07"


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_a_disc_is_round_and_in_its_place() -> None:
    top = topmost(np.array([10.5]), np.array([5.5]), (12, 30), 3.0)
    rows, columns = np.nonzero(top >= 0)
    assert (rows.mean(), columns.mean()) == (5, 10) and len(rows) == 29
    assert top[5, 13] == 0 and top[5, 14] == -1 and top[3, 13] == -1


def test_later_points_lie_over_earlier_ones() -> None:
    colours = np.array([RED, BLUE], np.uint8)
    picture = points_picture(np.array([10.0, 12.0]), np.array([8.0, 8.0]), colours, (16, 24), 3.0)
    assert tuple(picture[8, 11]) == BLUE and tuple(picture[8, 7]) == RED and picture[0, 0, 3] == 0
    # also at pixels that the discs reach from different sides
    both = topmost(np.array([10.0, 12.0]), np.array([8.0, 8.0]), (16, 24), 3.0)
    alone = topmost(np.array([12.0]), np.array([8.0]), (16, 24), 3.0)
    assert (both[alone >= 0] == 1).all()


def test_points_at_and_beyond_the_border_do_no_harm() -> None:
    column, row = np.array([0.0, 19.9, -50.0, 5.0]), np.array([0.0, 9.9, 5.0, 400.0])
    top = topmost(column, row, (10, 20), 4.0)
    assert top[0, 0] == 0 and top[9, 19] == 1 and set(np.unique(top)) == {-1, 0, 1}


def test_a_ring_goes_around_all_that_is_chosen() -> None:
    colours = np.array([RED, RED], np.uint8)
    picture = ringed_picture(np.array([8.0, 10.0]), np.array([8.0, 8.0]), colours, (16, 20), 2.0, 2.0, (1, 2, 3))
    assert tuple(picture[8, 9]) == RED and tuple(picture[8, 4]) == (1, 2, 3, 255) and picture[8, 1, 3] == 0


def density(codes: list[int], table: list[tuple[int, ...]], **more: object) -> np.ndarray:
    """A picture of 1 x 3 cells: four particles in the first, one in the second, none in the third."""
    colouring = Colouring("t", np.array(codes), np.array(table, np.uint8), **more)  # type: ignore[arg-type]
    column, row = np.array([0.5, 0.1, 0.2, 0.9, 1.5]), np.zeros(5)
    return density_picture(column, row, np.arange(5), colouring, (1, 3))


def test_density_mixes_the_colours_of_classes() -> None:
    picture = density([0, 0, 0, 1, 1], [RED, BLUE])
    assert tuple(picture[0, 0]) == (191, 0, 64, 255)
    assert tuple(picture[0, 1][:3]) == BLUE[:3] and 0 < picture[0, 1, 3] < 255
    assert picture[0, 2, 3] == 0


def test_density_shows_the_mean_of_numbers_and_passes_over_those_missing() -> None:
    scale = [(value, 0, 0, 255) for value in range(11)] + [(99, 99, 99, 255)]
    picture = density([2, 2, 6, 11, 11], scale, limits=(0.0, 1.0))
    assert picture[0, 0, 0] == 3  # (2 + 2 + 6) / 3
    assert picture[0, 1, 0] == 99


def test_density_of_the_count_alone_is_logarithmic() -> None:
    scale = [(value, 0, 0, 255) for value in range(101)] + [(99, 99, 99, 255)]
    picture = density([0] * 5, scale, by_count=True)
    assert picture[0, 0, 0] == 100 and picture[0, 1, 0] == round(100 * np.log(2) / np.log(5))


# -- colours ----------------------------------------------------------------------------------------------------------


def test_classes_have_the_colours_they_have_in_the_tomogram() -> None:
    result = make_result()
    found = colour_by(result, CLASS)
    expected = np.rint(255 * class_colours(3)).astype(np.uint8)
    numbers = result.table[CLASS].to_numpy()
    chosen = numbers > 0
    np.testing.assert_array_equal(found.colours(np.flatnonzero(chosen)), expected[numbers[chosen] - 1])
    assert [(e.label, e.count) for e in found.entries] == [("1", 19), ("2", 19), ("3", 20), ("none", 2)]


def test_a_class_that_stands_empty_keeps_its_line() -> None:
    result = make_result()
    table = result.table.copy()
    table.loc[table[CLASS] == 2, CLASS] = 1
    assert [e.count for e in colour_by(result.with_table(table), CLASS).entries] == [38, 0, 20, 2]


def test_flags_are_categories() -> None:
    found = colour_by(make_result(), "flags")
    assert {e.label: e.count for e in found.entries} == {
        "no flag": 56,
        "constant": 1,
        "junk": 1,
        "junk, shift-bound": 1,
        "shift-bound": 1,
    }
    assert tuple(found.colours(np.array([20]))[0]) == (128, 128, 128, 255)


def test_numbers_run_along_a_scale_and_missing_ones_are_grey() -> None:
    result = make_result()
    table = result.table.copy()
    table.loc[5, "score"] = np.nan
    found = colour_by(result.with_table(table), "score")
    assert found.limits is not None and not found.entries
    known = np.delete(np.arange(60), 5)
    order = known[np.argsort(table["score"].to_numpy()[known])]
    assert (np.diff(found.codes[order].astype(int)) >= 0).all()
    assert tuple(found.colours(np.array([5]))[0]) == (128, 128, 128, 255)
    assert found.codes[order[0]] == 0 and found.codes[order[-1]] == found.last


def test_angles_that_are_one_have_one_colour() -> None:
    result = make_result()
    table = result.table.copy()
    table.loc[:1, "psi"] = [-180.0, 180.0]
    first, second = colour_by(result.with_table(table), "psi").colours(np.array([0, 1])).astype(int)
    assert np.abs(first - second).max() <= 3


def test_a_column_without_values_can_be_asked_for() -> None:
    result = make_result()
    table = result.table.assign(score=np.nan)
    assert (colour_by(result.with_table(table), "score").codes == 256).all()


def test_the_scale_stands_out_from_the_ground() -> None:
    result = make_result()
    dark, light = (colour_by(result, "score", theme).table[:256, :3].mean(axis=1) for theme in ("dark", "light"))
    assert dark.min() > 60 and light.max() < 190


@pytest.mark.parametrize(("theme", "ground"), [("dark", 0), ("light", 255)])
def test_few_particles_are_nearest_to_the_ground(theme: str, ground: int) -> None:
    found = colour_by(make_result(), COUNT, theme)
    away = np.abs(found.table[:256, :3].astype(float).mean(axis=1) - ground)
    assert found.by_count and away[0] < away[128] < away[255]


def test_every_column_is_offered_once() -> None:
    result = make_result()
    table = result.table.assign(truth=1.5, kind="a")
    numbers = [c.key for c in numbers_of(result.with_table(table))]
    assert len(numbers) == len(set(numbers)) and {"score", "content_1", "truth", "particle"} <= set(numbers)
    assert [c.key for c in words_of(result.with_table(table))] == ["flags", "kind"]
    assert "tilt" in [c.key for c in numbers_of(make_result_3d())]
