"""Write ``docs/benchmarks.md`` from the records that the benchmarks kept: ``python benchmarks/page.py``.

Nothing is measured here. Repeats of a method are one row, with the medians of all figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import tables

HERE = Path(__file__).resolve().parent
RESULTS, PAGE, PLOT = HERE / "results", HERE.parent / "docs" / "benchmarks.md", "images/scaling.svg"
#: Scores that the page shows; all others are in the tables of ``benchmarks/README.md``.
SCORES = ("accuracy", "rotation_median", "rotation_under_10", "rotation_under_20", "shift_median", "view_spread")
#: Methods that are no programs to pick.
BOUNDS = ("oracle", "chance")
COSTS = ("time", "times ours", "memory", "measured")
#: Words for the parts of a profile that lie inside another.
INSIDE = "expectation: "

INTRODUCTION = """\
# Benchmarks

What the program does on data with a known truth, what other programs do on the same images, how time and memory grow,
and where the time goes. Every figure comes from a record in `benchmarks/results`; this page is written by
`make benchmarks-page`. The data sets, and how each method is run and scored, are described in `benchmarks/README.md`,
with all scores of every single run.
"""
PEERS = """\
## Beside other programs

V12 is 2,000 particles of 12 contents at a signal-to-noise ratio of 0.1, V12-low 4,000 at 0.03, S1 one object seen from
everywhere, T4 240 subtomograms of 4 objects behind a missing wedge. *oracle* knows the true templates, *chance* draws
at random; *pca-kmeans* groups the pixels as they are and is the least that one would try. Rows with several runs show
medians. *bundled* begins with the model that comes with the package, which has seen none of these contents,
*bundled-fast* learns nothing further, *bundled-network* is one pass of that model, and *bundled-agreed* that with
rotations on which the particles of a group agree. *time* is the wall time of the whole program, *times ours* that
over the time of *harmony*.
"""
ACRYO = """\
RELION's time on T4 is long because other programs ran beside it: it took 1,888 processor seconds.

acryo (0.9.1) is not in the tables: its classification takes poses and templates as given, and its alignment to true
templates took 0.18 s of one core per rotation, subtomogram and four templates, which is 26 hours for T4.
"""
GROWTH = """\
## How time and memory grow

One of three things grows while the others stay; `benchmarks/scaling.py` measures it. Images of more than 64 pixels are
cropped to 64 in Fourier space while they are read. Processor time is that of all threads.
"""
PROFILE = """\
## Where the time goes

Processor seconds of a fit of V12 on one thread, beside what the same thread does at best: products of matrices in
single precision (`torch.matmul`) and copies of memory, measured in the same run. The search scores every particle
against every class at every rotation and shift. Its floor is one multiplication and addition per coefficient and score;
a half turn changes the sign of every other angular order and nothing else, so that half of them are enough, and where
the processor multiplies bfloat16, products are taken in it. Scores are reduced block by block while they are in the
cache: the bytes that must move are those of particles, coefficients and best scores. V12 has 12 contents: where more
classes are asked for, at most 12 of them can be matched to one, and the accuracy says little.
"""


def medians(records: list[tables.Record]) -> tables.Record:
    """One record of several repeats: the median of every figure that all or some of them have."""
    names = dict.fromkeys(name for r in records for name in r["scores"])
    scores = {name: middle(r["scores"].get(name) for r in records) for name in names}
    figures = {name: middle(r[name] for r in records) for name in ("seconds", "peak_mb")}
    return records[0] | {"scores": scores, "repeats": len(records), **figures}


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are known."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def grouped(records: list[tables.Record]) -> dict[str, list[list[tables.Record]]]:
    """Repeats of each method, by the words for their data set."""
    sets: dict[str, dict[str, list[tables.Record]]] = {}
    for r in sorted(records, key=_place):
        title = f"{r['set']}: {r['count']:,} particles, K = {r['classes']}"
        sets.setdefault(title, {}).setdefault(" ".join([r["method"], *r["arguments"]]), []).append(r)
    return {title: list(methods.values()) for title, methods in sets.items()}


def _place(r: tables.Record) -> tuple[Any, ...]:
    """Sets by name and size; of each the package first, and what is no program last."""
    size = (r["set"], r["count"], r["classes"])
    return (*size, r["method"] in BOUNDS, r["method"] != "harmony", r["method"], r["seed"])


def table(headings: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def peers(records: list[tables.Record], every: tables.Columns) -> str:
    """The tables of one benchmark, and what was not run."""
    text: list[str] = []
    for title, methods in grouped(records).items():
        ran = [medians(repeats) for repeats in methods if repeats[0]["scores"]]
        ours = next((r["seconds"] for r in ran if r["method"] == "harmony"), None)
        columns = [c for c in every if c[0] in SCORES and any(r["scores"].get(c[0]) is not None for r in ran)]
        rows = [
            [" ".join([r["method"], *r["arguments"]]), str(r["repeats"])]
            + [write(r["scores"][key]) if r["scores"].get(key) is not None else "" for key, _, write in columns]
            + [*cost(r, ours), r["date"]]
            for r in ran
        ]
        headings = [
            "method",
            "runs",
            *(heading for _, heading, _ in columns),
            "time",
            "times ours",
            "memory",
            "measured",
        ]
        notes = dict.fromkeys(f"- {r['method']}: {r['note']}." for repeats in methods for r in repeats if r["note"])
        text += [f"### {title}\n", table(headings, rows) if rows else "", "\n".join(notes) + "\n" if notes else ""]
    return "\n".join(text)


def cost(record: tables.Record, ours: float | None) -> list[str]:
    """Time, its ratio to ours, and memory; those that are not known are empty."""
    seconds, memory = record["seconds"], record["peak_mb"]
    ratio = f"{seconds / ours:.2g}" if seconds and ours else ""
    return [f"{seconds:,.0f} s" if seconds else "", ratio, f"{memory / 1024:.2f} GB" if memory else ""]


def growth(records: list[dict[str, Any]], picture: bool) -> str:
    """Every case of ``scaling.py``."""
    rows = [
        [
            " ".join([r["device"], *r["options"]]),
            f"{r['particles']:,}",
            str(r["classes"]),
            str(r["box"]),
            f"{r['seconds']:,.0f} s",
            f"{r['cpu_seconds']:,.0f} s",
            f"{1000 * r['cpu_seconds'] / r['particles']:.1f} s",
            f"{r['peak_mb'] / 1024:.2f} GB",
            "in memory" if r["passes"] is None else f"{r['passes']}, {r['cache_bytes'] / 1e6:,.0f} MB",
            f"{r['load_before']:.1f}",
        ]
        for r in sorted(records, key=lambda r: (r["device"], r["options"], r["particles"], r["classes"], r["box"]))
    ]
    headings = ["device", "particles", "classes", "box", "time", "processor", "per 1,000", "memory"]
    headings += ["passes and cache", "load before"]
    plot = f"![Time and memory against particles, classes and box]({PLOT})\n\n" if picture else ""
    return plot + table(headings, rows) + "\nThe *load* is that of the machine before the run: other work beside it."


def profile(record: dict[str, Any]) -> str:
    """The parts of one run, with the share of the machine's rates."""
    rates = record["rates"]
    rows = []
    for name, part in ordered(record["parts"]):
        seconds = part["seconds"]
        product = part["multiplied"] / seconds if part["multiplied"] else 0
        moved = part["moved"] / seconds if part["moved"] else 0
        rows.append(
            [
                f"- {name.removeprefix(INSIDE)}" if name.startswith(INSIDE) else name,
                f"{seconds:.1f} s",
                f"{2e-9 * part['multiplied']:,.0f}" if part["multiplied"] else "",
                f"{2e-9 * product:.0f}" if product else "",
                f"{100 * product / rates['float32']:.0f} %" if product else "",
                f"{1e-9 * part['moved']:.2f}" if moved else "",
                f"{100 * moved / rates['bytes']:.0f} %" if moved else "",
            ]
        )
    headings = ["part", "seconds", "GFLOP", "GFLOP per second", "of sgemm", "GB at least", "of copying"]
    title = f"### {record['particles']:,} particles, {record['classes']} classes\n"
    stages = ", ".join(f"{stage} {value:.1f} s" for stage, value in record["stages"].items())
    return "\n".join([title, verdict(record), table(headings, rows), f"Stages: {stages}.\n"])


def verdict(record: dict[str, Any]) -> str:
    """What a profile amounts to, in words."""
    single, half, copied = (1e-9 * record["rates"][name] for name in ("float32", "bfloat16", "bytes"))
    useful, done = (100 * record[name] for name in ("expectation over sgemm", "done over sgemm"))
    return (
        f"Accuracy {record['accuracy']:.3f}, median rotation error {record['rotation_median']:.2f}°, "
        f"{sum(record['stages'].values()):.0f} s of processor time in all. This thread does {2 * single:.0f} GFLOP per "
        f"second in single precision and {2 * half:.0f} in bfloat16, and copies {copied:.0f} GB per second. **The "
        f"whole expectation step runs at {useful:.0f} % of the rate of `torch.matmul` in single precision, counted in "
        f"scores as they are defined, and at {done:.0f} % in multiplications that are done.**\n"
    )


def ordered(parts: dict[str, dict[str, float]]) -> list[tuple[str, dict[str, float]]]:
    """Parts from the longest, those inside another behind it."""
    outer = sorted((n for n in parts if not n.startswith(INSIDE)), key=lambda n: -parts[n]["seconds"])
    inner = sorted((n for n in parts if n.startswith(INSIDE)), key=lambda n: -parts[n]["seconds"])
    names = [name for one in outer for name in ([one, *inner] if f"{one}: " == INSIDE else [one])]
    return [(name, parts[name]) for name in names if parts[name]["seconds"] > 0]


def machines(records: Iterable[dict[str, Any]]) -> str:
    """What everything was measured on."""
    described = sorted({json.dumps(r["machine"], sort_keys=True) for r in records})
    lines = []
    for one in map(json.loads, described):
        versions = ", ".join(f"{name} {value}" for name, value in one.items() if name not in ("cpu", "cores"))
        lines.append(f"- {one['cores']} cores of {one['cpu']}: {versions}")
    return (
        "## Machine\n\n" + "\n".join(lines) + "\n\nNothing on this page was run on a graphics card unless it says so.\n"
    )


def page(results: Path = RESULTS, plot: bool = True) -> str:
    """The whole text, from the records in a folder; a section without records is left out."""
    read = {name: tables.load(results / f"{name}.json") for name in ("particles_2d", "subtomograms_3d", "scaling")}
    profiles = tables.load(results / "profile_engine.json")
    parts = [INTRODUCTION]
    if read["particles_2d"] or read["subtomograms_3d"]:
        parts += [PEERS, peers(read["particles_2d"], tables.COLUMNS)]
        parts += [peers(read["subtomograms_3d"], tables.COLUMNS_3D), ACRYO]
    if read["scaling"]:
        parts += [GROWTH, growth(read["scaling"], plot)]
    if profiles:
        parts += [PROFILE, *(profile(record) for record in profiles)]
    parts.append(machines([*(r for records in read.values() for r in records), *profiles]))
    return "\n".join(part.strip() + "\n" for part in parts if part.strip())


def main() -> None:
    """Write the page."""
    text = page(plot=(PAGE.parent / PLOT).is_file())
    beside = PAGE.with_suffix(".tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, PAGE)
    print(PAGE)


if __name__ == "__main__":
    main()
