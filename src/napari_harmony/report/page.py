"""Gather what the report shows and fill in its template."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_harmony.report import figures
from napari_harmony.report.pictures import central_slices, class_colour, data_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_harmony.analysis.fsc import MaskedFsc
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.results import Result

ROWS = 25
#: Of so many particles it is looked what the content code tells of their transformations: a second or two of work.
LOOKED_AT = 1000
DASH = "–"


@dataclass(frozen=True)
class Figure:
    """A plot with the words around it; ``svg`` is trusted markup, the rest is text."""

    title: str
    svg: str
    note: str = ""


def render_report(
    particles: Particles, result: Result, summary: dict[str, Any], curves: Sequence[MaskedFsc | None] = ()
) -> str:
    """The report as one HTML page.

    Parameters
    ----------
    particles : the input
    result : of these particles
    summary : what ``summary.json`` holds
    curves : of half maps of subtomograms under a mask, one for each class, where there are some

    Every text that comes from outside (names, paths, warnings) is escaped by the template.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=particles.path.name if particles.path is not None else "particles",
        warnings=[_sentence(w) for w in summary.get("warnings", [])],
        tiles=_tiles(result, summary),
        dimensions=result.dimensions,
        classes=_class_cards(result),
        wide_figures=_wide_figures(result, curves),
        figures=_figures(result),
        knowledge=_knowledge(result, summary.get("leakage") or {}),
        pose_headings=[heading for _, heading, _ in _pose_columns(result)],
        particles=_particle_rows(result),
        total=len(result),
        provenance=_provenance(summary),
        version=summary.get("versions", {}).get("napari-harmony", ""),
        created=summary.get("created", ""),
    )


def _sentence(text: object) -> str:
    words = str(text).strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _tiles(result: Result, summary: dict[str, Any]) -> list[tuple[str, str]]:
    classified = result.table[result.table["class_number"] > 0]
    finite = result.resolution[np.isfinite(result.resolution)]
    seconds = _total_seconds(summary)
    spread = classified[_spread(result)].median()
    return [
        ("particles", f"{len(result):,}"),
        ("classified", f"{len(classified):,}"),
        ("flagged", f"{int(result.flagged.sum()):,}"),
        ("classes", str(result.classes)),
        ("best resolution", f"{finite.min():.1f} Å" if len(finite) else DASH),
        (f"median uncertainty of {'the rotation' if result.dimensions == 3 else 'ψ'}", _number(spread, 1, "°")),
        ("median score", _number(classified["score"].median(), 3)),
        ("wall time", _duration(seconds) if seconds is not None else DASH),
    ]


def _spread(result: Result) -> str:
    """The column that says how sure the rotation is."""
    return "angle_spread" if result.dimensions == 3 else "psi_spread"


def _total_seconds(summary: dict[str, Any]) -> float | None:
    seconds = summary.get("seconds") or {}
    if not isinstance(seconds, dict):
        return None
    known = {k: v for k, v in seconds.items() if isinstance(v, int | float)}
    if "total" in known:
        return float(known["total"])
    return float(sum(known.values())) if known else None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _class_cards(result: Result) -> list[dict[str, str]]:
    """One card per class, the most populated first."""
    counts = result.counts
    total = max(int(counts.sum()), 1)
    return [
        {
            "number": str(index + 1),
            "colour": class_colour(index + 1),
            "image": data_uri(_picture(result.averages[index])),
            "count": f"{counts[index]:,}",
            "share": f"{100 * counts[index] / total:.1f} %",
            "resolution": _number(result.resolution[index], 1, " Å"),
        }
        for index in np.argsort(-counts, kind="stable").tolist()
    ]


def _picture(average: NDArray[np.float32]) -> NDArray[np.floating]:
    """An average as an image: itself, or the central slices of a volume."""
    return central_slices(average) if average.ndim == 3 else average


def _wide_figures(result: Result, curves: Sequence[MaskedFsc | None]) -> list[Figure]:
    svg = figures.frc_svg(result)
    kind = "shell" if result.dimensions == 3 else "ring"
    note = (
        f"Fourier {kind} correlation between two half-set averages of each class; the halves were split before "
        "alignment. Below the noise floor a curve says nothing."
    )
    shown = [Figure("Resolution of the class averages", svg, note)] if svg else []
    masked = figures.masked_fsc_svg(curves, result.average_pixel_size)
    if masked:
        note = (
            "Shell correlation of the half maps under the outline of their class (thin lines), and what is left of it "
            "when the part that the mask itself makes, measured with randomised phases, is taken off (thick lines)."
        )
        shown.append(Figure("The same under a mask, corrected", masked, note))
    return shown


def _figures(result: Result) -> list[Figure]:
    candidates = [
        ("Content of the particles", figures.embedding_svg(result)),
        ("Probability of the class", figures.probability_svg(result)),
        *([("Viewing axes (tilt against rot)", figures.orientation_svg(result))] if result.dimensions == 3 else []),
        ("In-plane rotation" if result.dimensions == 3 else "Rotation", figures.rotation_svg(result)),
        ("Uncertainty of the rotation", figures.spread_svg(result)),
        ("Shift", figures.shift_svg(result)),
        ("Score", figures.score_svg(result)),
    ]
    return [Figure(title, svg) for title, svg in candidates if svg]


def _knowledge(result: Result, leaks: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What the content code tells of each estimated transformation: its name, explained share, nats, leakage."""
    from napari_harmony.analysis.disentanglement import assess, study_of_estimates

    found = assess(study_of_estimates(result.table, result.dimensions), most=LOOKED_AT)
    shares, nats = found.cross_talk.get("content", {}), found.information.get("content", {})
    leaked = {name: _percent(leak.get("share")) for name, leak in leaks.get("factors", {}).items()}
    rows = [(name, _percent(share), _number(nats[name], 2), leaked.get(name, DASH)) for name, share in shares.items()]
    if rows and leaked:
        rows.append(("all together", DASH, DASH, _percent(leaks.get("overall", {}).get("share"))))
    return rows


def _percent(share: float | None) -> str:
    return _number(None if share is None else 100 * share, 0, " %")


def _pose_columns(result: Result) -> list[tuple[str, str, int]]:
    """Columns of the pose with their headings and digits, in the order of the table."""
    angles = [("rot", "rot (°)", 1), ("tilt", "tilt (°)", 1)] if result.dimensions == 3 else []
    unit = "voxel" if result.dimensions == 3 else "px"
    origins = [(f"origin_{axis}", f"origin {axis} ({unit})", 2) for axis in "xyz"[: result.dimensions]]
    spreads = (_spread(result), "± (°)", 1), ("shift_spread", f"± ({unit})", 2)
    return [*angles, ("psi", "ψ (°)", 1), spreads[0], *origins, spreads[1]]


def _particle_rows(result: Result) -> list[dict[str, Any]]:
    rows = []
    poses = _pose_columns(result)
    for index, row in enumerate(result.table.head(ROWS).to_dict("records")):
        number = int(row["class_number"])
        rows.append(
            {
                "index": index + 1,
                "class": str(number) if number else DASH,
                "colour": class_colour(number),
                "probability": _number(row["class_probability"], 2),
                "pose": [_number(row[name], digits) for name, _, digits in poses],
                "scale": _number(row["scale"], 3),
                "contrast": _number(row["contrast"], 2),
                "score": _number(row["score"], 3),
                "flags": [flag for flag in str(row["flags"] or "").split(",") if flag],
            }
        )
    return rows


def _provenance(summary: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titled lists of what is known about the run, in reading order; empty ones are left out."""
    groups: list[tuple[str, Any]] = [
        ("Input", _some(summary, "input", "particles_in", "box", "pixel_size", "pixel_size_known", "ctf")),
        ("Parameters", summary.get("parameters")),
        ("Run", _some(summary, "device", "seed", "created")),
        ("Seconds", summary.get("seconds")),
        ("Flags", summary.get("flags")),
        ("Versions", summary.get("versions")),
    ]
    return [
        (title, [(str(key).replace("_", " "), _plain(value)) for key, value in values.items()])
        for title, values in groups
        if isinstance(values, dict) and values
    ]


def _some(summary: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: summary[key] for key in keys if summary.get(key) is not None}


def _plain(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or DASH
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or DASH
    return str(value)


def _number(value: Any, digits: int, unit: str = "") -> str:
    return f"{float(value):.{digits}f}{unit}" if value is not None and np.isfinite(value) else DASH
