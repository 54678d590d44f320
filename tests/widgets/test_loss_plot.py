"""The curve of a training: few points however long it is, an axis that shows it, and words for it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_harmony.engine.events import Loss
from napari_harmony.widgets._latent_paint import Palette
from napari_harmony.widgets._loss_curve import LossCurve
from napari_harmony.widgets._loss_plot import LossPlot


def curve_of(values: list[float], total: int | None = None) -> LossCurve:
    curve = LossCurve()
    for done, value in enumerate(values, start=1):
        curve.add(Loss(done, total or len(values), value))
    return curve


def test_a_long_training_is_kept_in_few_points_that_follow_it() -> None:
    values = np.exp(-np.linspace(0, 3, 20_000))
    points = curve_of(values.tolist()).points
    assert 300 < len(points) <= 801 and (np.diff(points[:, 0]) > 0).all()
    np.testing.assert_allclose(points[:, 1], values[np.round(points[:, 0]).astype(int) - 1], rtol=0.01)


def test_the_axis_is_logarithmic_where_values_are_far_apart_and_positive() -> None:
    assert curve_of([100.0, 10.0, 1.0]).axis.logarithmic
    np.testing.assert_allclose(curve_of([100.0, 10.0, 1.0]).axis.place(np.array([1.0, 10.0, 100.0])), [0, 0.5, 1])
    assert not curve_of([2.0, 1.0]).axis.logarithmic
    assert not curve_of([100.0, 1.0, -1.0]).axis.logarithmic
    flat = curve_of([2.0, 2.0]).axis
    assert flat.place(np.array([2.0]))[0] == pytest.approx(0.5)


def test_a_few_first_values_do_not_flatten_the_rest() -> None:
    values = [1e6] * 5 + list(np.linspace(1.0, -1.0, 1000))
    axis = curve_of(values).axis
    assert axis.high < 2 and axis.low == pytest.approx(-1, abs=0.01)


def test_another_training_begins_another_curve_and_what_is_no_number_is_left_out() -> None:
    curve = curve_of([3.0, 2.0, float("nan"), 1.0])
    assert curve.points.tolist() == [[1, 3], [2, 2], [4, 1]]
    curve.add(Loss(1, 10, 9.0))
    assert curve.points.tolist() == [[1, 9]]
    curve.clear()
    assert curve.last is None and curve.points.shape == (0, 2)


def test_the_plot_is_there_when_something_was_trained(qtbot: QtBot) -> None:
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.show_curve(LossCurve())
    assert plot.isHidden()
    curve = LossCurve()
    curve.add(Loss(120, 400, 0.93214, {"reconstruction": 0.9}))
    plot.show_curve(curve)
    assert not plot.isHidden()
    assert plot.words == "training loss: 0.9321 after batch 120 of 400"
    assert "What training makes small" in plot.toolTip() and "reconstruction 0.9" in plot.toolTip()


def test_the_plot_is_painted_in_the_colours_of_the_theme_and_quickly(qtbot: QtBot) -> None:
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 84)
    plot.set_palette(Palette(ground="#102030", text="#ffffff", line="#808080", mark="#ff0000"))
    plot.show_curve(curve_of(np.exp(-np.linspace(0, 1, 20_000)).tolist()))
    picture = plot.grab().toImage()
    colours = {picture.pixelColor(x, y).name() for x in range(300) for y in range(84)}
    assert "#102030" in colours and "#ff0000" in colours
    started = time.perf_counter()
    for _ in range(10):
        plot.grab()
    assert (time.perf_counter() - started) / 10 < 0.03
