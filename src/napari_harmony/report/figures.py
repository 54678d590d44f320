"""The report's plots, as SVG that takes the text colour of the page it stands in."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.report.pictures import class_colour
from napari_harmony.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.analysis.fsc import MaskedFsc

#: Stands for the page's text colour while matplotlib draws; replaced by ``currentColor`` afterwards.
_INK = "#010203"
_ACCENT = class_colour(1)
_MOST_POINTS = 20_000
_MOST_LABELS = 12
_MOST_AXES = 3000  # viewing axes that can still be told apart as points
#: Where half-set averages are conventionally said to stop agreeing.
THRESHOLD = 0.143


def frc_svg(result: Result) -> str | None:
    """Half-set FRC, or FSC, of every class against resolution, with the noise floor; None where none has halves."""
    shown = np.flatnonzero(np.isfinite(result.frc).any(axis=1)) if result.classes else np.empty(0, int)
    frequency, name = result.frc_frequency, "FSC" if result.dimensions == 3 else "FRC"
    if len(shown) == 0 or len(frequency) < 2:
        return None

    def draw(axes: Any) -> None:
        for index in shown.tolist():
            label = f"class {index + 1}" if len(shown) <= _MOST_LABELS else None
            axes.plot(frequency, result.frc[index], color=class_colour(index + 1), linewidth=1.4, label=label)
        floors = result.frc_floor[shown]
        floors = floors[np.isfinite(floors).any(axis=1)]
        if len(floors):
            axes.plot(
                frequency, _median(floors), color=_INK, alpha=0.7, linewidth=1.2, linestyle="--", label="noise floor"
            )
        _finish_curves(axes, float(frequency[-1]), name)

    return _svg("frc", draw, (9.2, 3.4))


def masked_fsc_svg(curves: Sequence[MaskedFsc | None], pixel_size: float) -> str | None:
    """Half-map FSC of every class under its mask, as it is and corrected; None where no class has one.

    Parameters
    ----------
    curves : one for each class, or None
    pixel_size : angstrom per voxel of the half maps
    """
    shown = [(number, curve) for number, curve in enumerate(curves, start=1) if curve is not None]
    if not shown:
        return None

    def draw(axes: Any) -> None:
        for number, curve in shown:
            frequency = np.arange(1, len(curve.masked)) / (curve.mask.shape[0] * pixel_size)
            label = f"class {number}" if len(shown) <= _MOST_LABELS else None
            axes.plot(frequency, curve.masked[1:], color=class_colour(number), linewidth=0.8, alpha=0.6)
            axes.plot(frequency, curve.corrected[1:], color=class_colour(number), linewidth=1.6, label=label)
        _finish_curves(axes, 1 / (2 * pixel_size), "FSC")

    return _svg("masked-fsc", draw, (9.2, 3.4))


def _finish_curves(axes: Any, last: float, name: str) -> None:
    """The threshold, limits, labels and legend of resolution curves up to a frequency in 1 / angstrom."""
    axes.axhline(THRESHOLD, color=_INK, alpha=0.4, linewidth=0.8, linestyle=":", label="0.143")
    axes.set(xlim=(0, last), ylim=(-0.15, 1.05), xlabel="resolution (Å)", ylabel=name)
    axes.xaxis.set_major_formatter(lambda value, _: f"{1 / value:.3g}" if value > 0 else "")
    axes.legend(loc="lower left", ncols=2, fontsize=8, frameon=False, labelcolor=_INK)


def embedding_svg(result: Result) -> str | None:
    """First two principal components of the content codes, coloured by class; None without content codes."""
    points = principal_components(result.content)
    usable = np.flatnonzero(np.isfinite(points).all(axis=1)) if points.shape[1] == 2 else np.empty(0, int)
    if len(usable) == 0:
        return None
    if len(usable) > _MOST_POINTS:
        usable = np.random.default_rng(0).choice(usable, _MOST_POINTS, replace=False)
    numbers = result.table["class_number"].to_numpy()[usable]

    def draw(axes: Any) -> None:
        colours = [class_colour(int(number)) for number in numbers]
        size = float(np.clip(9000 / len(usable), 2, 14))
        axes.scatter(*points[usable].T, c=colours, s=size, alpha=0.7, linewidths=0, rasterized=True)
        for number in np.unique(numbers[numbers > 0]):
            centre = np.median(points[usable][numbers == number], axis=0)
            axes.annotate(str(number), centre, color=_INK, fontsize=9, fontweight="bold", ha="center", va="center")
        axes.set(xlabel="content component 1", ylabel="content component 2", xticks=[], yticks=[])

    return _svg("embedding", draw, (4.2, 2.6))


def principal_components(content: NDArray[np.floating], count: int = 2) -> NDArray[np.float64]:
    """The first principal components of content codes (n, d), as (n, count); NaN where a code is not finite.

    Fewer code dimensions than ``count`` are filled with zeros; no dimension at all gives shape (n, 0).
    """
    if content.shape[1] == 0:
        return np.empty((len(content), 0))
    usable = np.isfinite(content).all(axis=1)
    points = np.full((len(content), count), np.nan)
    if not usable.any():
        return points
    codes = content[usable].astype(np.float64)
    codes -= codes.mean(axis=0)
    _, directions = np.linalg.eigh(codes.T @ codes)
    axes = directions[:, ::-1][:, :count]
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that reruns look the same.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points[usable] = 0.0
    points[np.flatnonzero(usable)[:, None], np.arange(axes.shape[1])] = codes @ axes
    return points


def rotation_svg(result: Result) -> str | None:
    """Histogram of the in-plane angle of all classified particles."""
    return _histogram("rotation", np.mod(_classified(result, "psi"), 360), "rotation ψ (°)", (0, 360), 36)


def orientation_svg(result: Result) -> str | None:
    """The axes along which the beam went through each class, on the sphere: points, or a map where they are many.

    The map is of cells of equal area, relative to a uniform distribution.
    """
    rows = result.table[result.table["class_number"] > 0]
    angles = np.radians(rows[["rot", "tilt"]].to_numpy(dtype=np.float64))
    known = np.isfinite(angles).all(axis=1)
    if not known.any():
        return None
    longitude = np.mod(angles[known, 0] + np.pi, 2 * np.pi) - np.pi
    latitude = np.pi / 2 - np.arccos(np.cos(angles[known, 1]))
    numbers = rows["class_number"].to_numpy()[known]

    def points(axes: Any) -> None:
        size = float(np.clip(9000 / len(numbers), 3, 14))
        axes.scatter(longitude, latitude, c=[class_colour(int(n)) for n in numbers], s=size, alpha=0.8, linewidths=0)

    def cells(axes: Any) -> None:
        edges = np.linspace(-np.pi, np.pi, 49), np.arcsin(np.linspace(-1, 1, 25))
        count, *_ = np.histogram2d(longitude, latitude, bins=edges)
        density = count.T * count.size / count.sum()
        axes.pcolormesh(*edges, density, cmap="viridis", vmin=0, vmax=max(2.0, density.max()), rasterized=True)

    def draw(axes: Any) -> None:
        (points if len(numbers) <= _MOST_AXES else cells)(axes)
        axes.set_xticks(np.radians([-120, -60, 0, 60, 120]))
        axes.set_yticks(np.radians([-60, -30, 0, 30, 60]), [f"{tilt}°" for tilt in (150, 120, 90, 60, 30)])
        axes.tick_params(labelsize=7)
        axes.spines["geo"].set(visible=True)

    return _svg("orientation", draw, (4.2, 2.6), projection="mollweide")


def spread_svg(result: Result) -> str | None:
    """Histogram of the uncertainty of the angles."""
    name, label = ("angle_spread", "the rotation") if result.dimensions == 3 else ("psi_spread", "ψ")
    return _histogram("spread", _classified(result, name), f"uncertainty of {label} (°)", None, 40)


def probability_svg(result: Result) -> str | None:
    """Histogram of how sure the classes of the particles are."""
    values = _classified(result, "class_probability")
    return _histogram("probability", values, "probability of the class", (0, 1), 40)


def shift_svg(result: Result) -> str | None:
    """Histogram of the length of the shifts."""
    axes = "xyz"[: result.dimensions]
    classified = result.table.loc[result.table["class_number"] > 0, [f"origin_{axis}" for axis in axes]]
    length = np.linalg.norm(classified.to_numpy(dtype=np.float64), axis=1)
    unit = "voxels" if result.dimensions == 3 else "pixels"
    return _histogram("shift", length[np.isfinite(length)], f"length of the shift ({unit})", None, 40)


def score_svg(result: Result) -> str | None:
    """Histogram of the correlation of each particle with its class."""
    return _histogram("score", _classified(result, "score"), "score (correlation with the class)", None, 40)


def _classified(result: Result, column: str) -> NDArray[np.float64]:
    values = result.table.loc[result.table["class_number"] > 0, column].to_numpy(dtype=np.float64)
    return values[np.isfinite(values)]


def _histogram(
    name: str, values: NDArray[np.float64], label: str, limits: tuple[float, float] | None, bins: int
) -> str | None:
    if len(values) == 0:
        return None

    def draw(axes: Any) -> None:
        axes.stairs(*np.histogram(values, bins=bins, range=limits), fill=True, color=_ACCENT, alpha=0.85)
        axes.set(xlabel=label, ylabel="particles")
        if limits is not None:
            axes.set_xlim(limits)

    return _svg(name, draw, (4.2, 2.6))


def _median(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Median over the rows that know a value; the columns nobody knows stay NaN, without numpy's warning."""
    known = np.isfinite(rows).any(axis=0)
    median = np.full(rows.shape[1], np.nan)
    median[known] = np.nanmedian(rows[:, known], axis=0)
    return median


def _frame(width: float, height: float) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of the axes in a figure of this size in inches, with room for the labels."""
    left, bottom, right, top = 0.6, 0.5, 0.15, 0.1
    return left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height


def _svg(name: str, draw: Callable[[Any], None], size: tuple[float, float], *, projection: str | None = None) -> str:
    """Draw into one pair of axes and return the ``<svg>`` element; ``name`` keeps ids apart within a page."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
    }
    with rc_context(settings):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        axes = figure.add_axes(_frame(*size), projection=projection)
        axes.set_facecolor("none")
        axes.grid(color=_INK, alpha=0.1, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_INK, length=0)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set(color=_INK, alpha=0.35)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, dpi=144, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")
