"""The report: complete, self-contained, escaped."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from fake_run import make_result

from napari_harmony.outputs.summary import summarise
from napari_harmony.particles.dataset import Particles
from napari_harmony.particles.images import ArrayImages
from napari_harmony.particles.volumes import ArrayVolumes
from napari_harmony.report import figures, render_report
from napari_harmony.report.pictures import central_slices, class_colour, data_uri, grey_image, png
from napari_harmony.results import Result


def particles_of(count: int = 40, path: Path | None = None) -> Particles:
    images = ArrayImages(np.random.default_rng(0).normal(size=(count, 16, 16)).astype(np.float32))
    return Particles(images, pd.DataFrame(index=pd.RangeIndex(count)), 2.5, path=path)


def subtomograms_of(count: int = 40) -> Particles:
    volumes = ArrayVolumes(np.random.default_rng(0).normal(size=(count, 6, 6, 6)).astype(np.float32))
    return Particles(volumes, pd.DataFrame(index=pd.RangeIndex(count)), 2.5)


def rendered(particles: Particles, result: Result) -> str:
    return render_report(particles, result, summarise(particles, result))


class Checker(HTMLParser):
    """Collects addresses, tags that are open at the end, and visible text."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    return checker


def test_page_is_well_formed_and_asks_for_nothing_outside_itself() -> None:
    particles = particles_of()
    checker = parsed(rendered(particles, make_result(particles)))
    assert checker.open == []
    assert checker.addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in checker.addresses)


def test_names_paths_and_warnings_are_escaped() -> None:
    particles = particles_of(path=Path("/tmp/<script>alert(1)</script>&.star"))
    result = make_result(particles)
    result.summary["warnings"] = ["<img src=x onerror=alert(2)>"]
    page = rendered(particles, result)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in page


def test_warnings_stand_above_the_class_averages() -> None:
    particles = particles_of()
    result = make_result(particles)
    result.summary["warnings"] = ["no significant structure"]
    page = rendered(particles, result)
    assert page.index("No significant structure.") < page.index("Class averages")


def test_classes_are_sorted_by_count() -> None:
    particles = particles_of()
    result = make_result(particles)
    numbers = np.array([3] * 25 + [1] * 10 + [2] * 5)
    result = result.with_table(result.table.assign(class_number=numbers))
    page = rendered(particles, result)
    order = re.findall(r"average of class (\d)", page)
    assert order == ["3", "1", "2"]
    assert "62.5 %" in page


def test_pose_that_leaked_into_the_content_code_is_shown() -> None:
    particles = particles_of(120)
    result = make_result(particles, content=2)
    assert "What the content code tells" not in rendered(particles_of(12), make_result(particles_of(12)))
    shares = {}
    for name, angle in (("clean", np.zeros(120)), ("leaky", np.radians(result.table["psi"]))):
        table = result.table.assign(content_0=result.table["content_0"] * 0.1 + np.cos(angle), content_1=np.sin(angle))
        page = rendered(particles, result.with_table(table))
        shares[name] = int(re.search(r'<td class="left">rotation</td><td>(\d+) %</td>', page).group(1))  # type: ignore[union-attr]
    assert shares["clean"] < 20 and shares["leaky"] > 80


def test_leakage_stands_beside_it() -> None:
    particles = particles_of(120)
    result = make_result(particles, content=2)
    leak = {"share": 0.37, "nats": 0.9}
    result.summary["leakage"] = {"particles": 120, "overall": leak, "factors": {"rotation": leak}}
    text = re.sub(r"<[^>]*>|\s+", " ", rendered(particles, result))
    assert re.search(r"all together *– *– *37 %", text) and re.search(r"rotation [^–]* 37 %", text)


def test_unknown_numbers_are_dashes_and_never_nan() -> None:
    particles = particles_of()
    text = parsed(rendered(particles, make_result(particles))).text
    assert "nan" not in re.sub(r"[A-Za-z-]*nan[a-z]+", "", text)
    assert "not-finite" in text


def test_a_result_without_classes_halves_or_content_still_gives_a_page() -> None:
    particles = particles_of()
    result = make_result(particles, content=0)
    empty = np.empty((0, 8), np.float32)
    result = replace(
        result,
        table=result.table.assign(class_number=0),
        averages=np.empty((0, 16, 16), np.float32),
        frc=empty,
        frc_floor=empty,
        resolution=np.empty(0, np.float32),
    )
    page = rendered(particles, result)
    assert "No class was formed." in page
    assert parsed(page).open == []


@pytest.mark.parametrize(
    "plot", [figures.frc_svg, figures.embedding_svg, figures.rotation_svg, figures.shift_svg, figures.score_svg]
)
def test_plots_are_xml_in_the_colour_of_the_page(plot) -> None:  # type: ignore[no-untyped-def]
    svg = plot(make_result(particles_of()))
    ElementTree.fromstring(svg)
    assert "currentColor" in svg
    assert figures._INK not in svg


def test_same_result_gives_the_same_plot() -> None:
    result = make_result(particles_of())
    assert figures.embedding_svg(result) == figures.embedding_svg(result)


def test_principal_components_carry_the_variance_and_keep_rows_that_are_not_finite_empty() -> None:
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(50, 1)) * np.array([[0.0, 3.0, 0.0]]) + 0.1 * rng.normal(size=(50, 3))
    spread[7] = np.nan
    points = figures.principal_components(spread)
    assert points.shape == (50, 2)
    assert np.isnan(points[7]).all()
    others = np.delete(np.arange(50), 7)
    assert abs(np.corrcoef(points[others, 0], spread[others, 1])[0, 1]) > 0.99


def test_principal_components_of_one_dimension_are_padded() -> None:
    points = figures.principal_components(np.array([[1.0], [3.0]]))
    assert points.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_png_is_what_went_in() -> None:
    from matplotlib.image import imread

    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    import io

    decoded = imread(io.BytesIO(png(image)), format="png")
    np.testing.assert_array_equal(np.round(decoded * 255).astype(np.uint8), image)


def test_grey_image_stretches_bins_and_survives_constant_and_not_finite_pixels() -> None:
    ramp = np.linspace(-5, 5, 400 * 400).reshape(400, 400)
    grey = grey_image(ramp)
    assert grey.shape == (133, 133)
    assert grey.min() == 0 and grey.max() == 255
    assert (grey_image(np.full((4, 4), 3.0)) == 128).all()
    assert (grey_image(np.full((4, 4), np.nan)) == 128).all()


def test_colours_of_classes_differ() -> None:
    assert len({class_colour(number) for number in range(60)}) == 60


def test_page_of_subtomograms_shows_slices_shells_and_viewing_axes() -> None:
    particles = subtomograms_of()
    result = make_result(particles)
    page = rendered(particles, result)
    checker = parsed(page)
    assert checker.open == []
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in checker.addresses)
    for text in ("Fourier shell correlation", "Viewing axes", "tilt (°)", "origin z (voxel)", "FSC", "the rotation"):
        assert text in checker.text, text
    assert "ring correlation" not in checker.text
    assert page.count('alt="central slices of the average of class') == 3
    assert data_uri(central_slices(result.averages[0])) in page
    assert "nan" not in re.sub(r"[A-Za-z-]*nan[a-z]+", "", checker.text)


def test_central_slices_go_through_the_centre() -> None:
    volume = np.arange(4 * 4 * 4).reshape(4, 4, 4)
    slices = central_slices(volume)
    assert slices.shape == (4, 12)
    np.testing.assert_array_equal(slices[:, :4], volume[2])
    np.testing.assert_array_equal(slices[:, 4:8], volume[:, 2])
    np.testing.assert_array_equal(slices[:, 8:], volume[:, :, 2])


@pytest.mark.parametrize("count", [40, 3500])
def test_viewing_axes_are_drawn_as_points_or_as_a_map(count: int) -> None:
    result = make_result(subtomograms_of(40))
    table = pd.concat([result.table] * (count // 40 + 1), ignore_index=True).head(count)
    svg = figures.orientation_svg(result.with_table(table))
    assert svg is not None
    ElementTree.fromstring(svg)
    assert ("<image" in svg) == (count > 3000)
    assert figures.orientation_svg(result.with_table(table.assign(class_number=0))) is None
