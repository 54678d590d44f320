"""Checks of one added objective: what is measured with and without it, and whether its rules hold.

A script of checks says what a *part* is (name, title, rules) and how one seed is measured, and calls ``run_part``.
Records are kept in ``benchmarks/results/checks_<part>.json``, one per mode and seed; every call prints the table and
rewrites the part's section in ``benchmarks/README.md``. Rules speak of medians over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS, README = HERE / "results", HERE / "README.md"

Record = dict[str, Any]


class Medians:
    """Medians over the seeds, by mode and value; NaN where nothing was measured."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = list(records)

    def __call__(self, mode: str, value: str) -> float:
        found = [float(r[value]) for r in self._records if r["mode"] == mode and r.get(value) is not None]
        return statistics.median(found) if found else math.nan

    def all(self, mode: str, value: str) -> list[float]:
        """The value of every seed."""
        return [float(r[value]) for r in self._records if r["mode"] == mode and r.get(value) is not None]


@dataclass(frozen=True)
class Rule:
    """A rule fixed before it was measured.

    Attributes
    ----------
    letter : as "a"
    text : the rule in words, with its threshold
    reading : medians -> the numbers to show beside it
    holds : medians -> whether it holds (a comparison with NaN does not)
    """

    letter: str
    text: str
    reading: Callable[[Medians], str]
    holds: Callable[[Medians], bool]


@dataclass(frozen=True)
class Part:
    """The checks of one objective.

    Attributes
    ----------
    name : of the files and of the section
    title : of the section
    about : what was measured on what, a sentence or a few
    columns : values shown in the table of modes, name and heading
    rules : what must hold
    """

    name: str
    title: str
    about: str
    columns: tuple[tuple[str, str], ...]
    rules: tuple[Rule, ...]


def run_part(part: Part, measure: Callable[[int], Iterable[Record]]) -> None:
    """Measure the seeds of the command line, keep the records, print the tables and rewrite the section.

    ``measure`` gives the records of one seed: plain values with at least ``mode``.
    """
    parser = argparse.ArgumentParser(description=part.title)
    parser.add_argument("--seeds", default="0,1,2", help="numbers with commas; empty to print what is kept")
    seeds = [int(word) for word in parser.parse_args().seeds.split(",") if word.strip()]
    for seed in seeds:
        for record in measure(seed):
            keep(part, {**record, "seed": seed})
    text = section(part, load(part))
    print(text)
    rewrite(part, text)


def load(part: Part) -> list[Record]:
    """The records kept."""
    path = RESULTS / f"checks_{part.name}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def keep(part: Part, record: Record) -> None:
    """Add a record, in place of an earlier one of the same mode and seed."""
    others = [r for r in load(part) if (r["mode"], r["seed"]) != (record["mode"], record["seed"])]
    records = sorted([*others, record], key=lambda r: (r["mode"], r["seed"]))
    _replace(RESULTS / f"checks_{part.name}.json", json.dumps(records, indent=1) + "\n")


def section(part: Part, records: list[Record]) -> str:
    """The tables of modes and of rules, as Markdown."""
    medians = Medians(records)
    seeds = sorted({r["seed"] for r in records})
    modes = list(dict.fromkeys(r["mode"] for r in records))
    head = ["mode", *(heading for _, heading in part.columns)]
    rows = [[mode, *(_number(medians(mode, name)) for name, _ in part.columns)] for mode in modes]
    rules = [
        [f"({rule.letter}) {rule.text}", rule.reading(medians), "holds" if rule.holds(medians) else "**does not hold**"]
        for rule in part.rules
    ]
    told = f"{part.about} Medians over seeds {', '.join(map(str, seeds))}."
    parts = [f"### {part.title}", told, _table(head, rows), _table(["rule", "measured", ""], rules)]
    return "\n\n".join(parts)


def rewrite(part: Part, text: str) -> None:
    """Put the section between its marks in the README, at the end where it has none yet."""
    begin, end = f"<!-- checks {part.name}: begin -->", f"<!-- checks {part.name}: end -->"
    whole = README.read_text()
    if begin not in whole:
        whole = f"{whole.rstrip()}\n\n{begin}\n{end}\n"
    before, _, rest = whole.partition(begin)
    after = rest.partition(end)[2]
    _replace(README, f"{before}{begin}\n{text}\n{end}{after}")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_text(text)
    os.replace(beside, path)
