"""Records of benchmark runs: kept in a JSON file, shown as Markdown tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
#: What makes two records results of the same experiment; the newer replaces the older.
KEY = ("set", "densities", "count", "classes", "data_seed", "method", "seed", "arguments")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def percent(value: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


Columns = tuple[tuple[str, str, Callable[[float], str]], ...]
#: Score, heading, and how it is written. A column is shown where a method of the set has the score.
COLUMNS: Columns = (
    ("accuracy", "accuracy", "{:.3f}".format),
    ("merged_accuracy", "merged", "{:.3f}".format),
    ("ari", "ARI", "{:.3f}".format),
    ("homogeneity", "homogeneity", "{:.3f}".format),
    ("rotation_median", "rotation, median", "{:.2f}°".format),
    ("rotation_under_10", "under 10°", percent),
    ("strict_rotation_under_10", "under 10°, strict", percent),
    ("flips", "flips", percent),
    ("shift_median", "shift, median", "{:.2f} px".format),
    ("fisher_lee_correlation", "angle corr.", "{:.3f}".format),
    ("circular_correlation", "circular corr.", "{:.3f}".format),
    ("view_spread", "view spread", "{:.1f}°".format),
    ("neighbour_spread", "neighbour spread", "{:.1f}°".format),
    ("frc_half", "FRC 0.5", "{:.1f} Å".format),
    ("neighbour_purity", "neighbour purity", "{:.3f}".format),
)
#: The same for subtomograms.
BEGIN_3D, END_3D = "<!-- measured in 3D: begin -->", "<!-- measured in 3D: end -->"
COLUMNS_3D: Columns = (
    *COLUMNS[:5],
    *((f"rotation_under_{limit}", f"under {limit}°", percent) for limit in (10, 15, 20)),
    ("strict_rotation_under_20", "under 20°, strict", percent),
    ("flips", "flips", percent),
    ("shift_median", "shift, median", "{:.2f} voxel".format),
    ("fsc_half", "FSC 0.5", "{:.1f} Å".format),
    ("per_second", "subtomograms per second", "{:.0f}".format),
)


def load(path: Path) -> list[Record]:
    """All records of a file, none where it does not exist."""
    return json.loads(path.read_text()) if path.is_file() else []


def keep(path: Path, record: Record) -> None:
    """Add a record, in place of an older one of the same experiment; one that was not run replaces nothing."""

    def key(r: Record) -> str:
        return json.dumps([r.get(name) for name in KEY])

    record = _finite(record)
    older = load(path)
    if record["note"].startswith("not run") and any(key(r) == key(record) for r in older):
        return
    records = [r for r in older if key(r) != key(record)] + [record]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(records, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def _finite(value: Any) -> Any:
    """The same with null for every number that is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value


def line(record: Record, columns: Columns = COLUMNS) -> str:
    """One line about one record."""
    shown = _shown([_finite(record)], columns)
    scores = [f"{heading} {write(record['scores'][name])}" for name, heading, write in shown]
    end = f"{record['seconds']:.0f} s" if record["seconds"] and math.isfinite(record["seconds"]) else ""
    return f"{record['set']} {record['method']} seed {record['seed']}: " + ", ".join([*scores, end, record["note"]])


def _shown(records: list[Record], columns: Columns) -> list[tuple[str, str, Callable[[float], str]]]:
    return [c for c in columns if any(r["scores"].get(c[0]) is not None for r in records)]


def markdown(records: list[Record], columns: Columns = COLUMNS, kind: str = "particles") -> str:
    """One table per data set, rows in the order of the records."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        densities = ", ".join(record["densities"])
        title = f"{record['set']}: {record['count']} {kind}, K = {record['classes']}"
        title += f", {densities}" if densities else ""
        groups.setdefault(f"{title}, data seed {record['data_seed']}", []).append(record)
    return "\n".join(_table(title, rows, columns) for title, rows in sorted(groups.items())) + _footer(records)


def _table(title: str, records: list[Record], every: Columns) -> str:
    columns = _shown(records, every)
    headings = ["method", "seed", *(heading for _, heading, _ in columns), "wall time", "peak memory"]
    lines = [f"### {title}", "", "| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    notes: list[str] = []
    for record in sorted(records, key=lambda r: (r["method"] in ("oracle", "chance"), r["method"], r["seed"])):
        scores = record["scores"]
        if record["note"] and (note := f"{record['method']}: {record['note']}.") not in notes:
            notes.append(note)
        if not scores:
            continue
        name = " ".join([record["method"], *record.get("arguments", [])])
        cells = [name, str(record["seed"])]
        cells += [write(scores[key]) if scores.get(key) is not None else "" for key, _, write in columns]
        cells.append(f"{record['seconds']:.0f} s" if record["seconds"] else "")
        cells.append(f"{record['peak_mb'] / 1024:.2f} GB" if record["peak_mb"] else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _footer(records: list[Record]) -> str:
    machines = {json.dumps(r["machine"], sort_keys=True) for r in records}
    described = [json.loads(m) for m in sorted(machines)]
    return "".join(
        f"\nMeasured on {m['cores']} cores of {m['cpu']}, Python {m['python']}, torch {m['torch']}, "
        f"napari-harmony {m['napari-harmony']}.\n"
        for m in described
    )


def rewrite_section(readme: Path, text: str, first: str = BEGIN, last: str = END) -> None:
    """Put the tables between two marks of a file.

    Raises
    ------
    ValueError : the marks are not there
    """
    whole = readme.read_text()
    before, begin, rest = whole.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"{readme} has no section between '{first}' and '{last}'")
    temporary = readme.with_suffix(".tmp")
    temporary.write_text(f"{before}{first}\n{text}\n{last}{after}")
    os.replace(temporary, readme)
