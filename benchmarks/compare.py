"""What the 2D and the 3D benchmark share: the command line, running every method on every data set, and the table."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tables
from cases import WORK, Run
from methods import Options

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Benchmark:
    """One of the two benchmarks.

    Attributes
    ----------
    name : of the script and of the file of its records
    description : for ``--help``
    sets, methods : all that there are, by name
    run_method : (name, case, seed, options) -> Run
    score : (case, Run) -> scores by name
    columns, kind : of its table, and what that counts
    marks : between which the table stands in the README
    """

    name: str
    description: str
    sets: Mapping[str, Any]
    methods: Mapping[str, Any]
    run_method: Callable[[str, Any, int, Options], Run]
    score: Callable[[Any, Run], dict[str, float]]
    columns: tables.Columns = tables.COLUMNS
    kind: str = "particles"
    marks: tuple[str, str] = (tables.BEGIN, tables.END)


def parser_of(benchmark: Benchmark) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    parser = argparse.ArgumentParser(description=benchmark.description)
    parser.add_argument("--sets", default=",".join(benchmark.sets), help="of %(default)s")
    parser.add_argument("--methods", default=",".join(benchmark.methods), help="of %(default)s")
    parser.add_argument("--seeds", default="0", help="seeds of the methods, such as 0,1,2")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the data sets")
    parser.add_argument("--densities", help="comma-separated names or map files instead of the protocols' own")
    parser.add_argument("--count", type=int, help="particles per set instead of the protocols' own")
    parser.add_argument("--relion-dir", type=Path, help="read this finished RELION run instead of starting one")
    parser.add_argument("--threads", type=int, default=2, help="of RELION")
    parser.add_argument("--results", type=Path, default=HERE / "results" / f"{benchmark.name}.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data sets and runs")
    parser.add_argument("--table-only", action="store_true", help="run nothing, print and write the table")
    parser.add_argument("--argument", action="append", default=[], help="further argument for napari-harmony align")
    return parser


def chosen(names: str, known: Mapping[str, object], what: str) -> list[str]:
    """The names of a comma-separated list, all of them known."""
    for name in names.split(","):
        if name not in known:
            raise SystemExit(f"There is no {what} '{name}'; choose from {', '.join(known)}.")
    return names.split(",")


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "napari-harmony": version("napari-harmony"),
    }


def run(benchmark: Benchmark, arguments: argparse.Namespace, cases: Iterable[Any]) -> None:
    """Run what was asked for, keep every record as soon as it is there, and show the table."""
    methods = chosen(arguments.methods, benchmark.methods, "method")
    options = Options(arguments.relion_dir, arguments.threads, extra_arguments=tuple(arguments.argument))
    for case in () if arguments.table_only else cases:
        case.prepare()
        for name in methods:
            for seed in (int(s) for s in arguments.seeds.split(",")):
                record = record_of(benchmark, case, name, seed, options)
                tables.keep(arguments.results, record)
                print(tables.line(record, benchmark.columns), flush=True)
    text = tables.markdown(tables.load(arguments.results), benchmark.columns, benchmark.kind)
    print(text)
    tables.rewrite_section(arguments.readme, text, *benchmark.marks)


def record_of(benchmark: Benchmark, case: Any, name: str, seed: int, options: Options) -> tables.Record:
    """Run a method on a data set and score it."""
    load = os.getloadavg()[0]
    found = benchmark.run_method(name, case, seed, options)
    return case.key | {
        "method": found.method,
        "seed": seed,
        "scores": benchmark.score(case, found),
        "seconds": found.seconds,
        "peak_mb": found.peak_mb,
        "note": found.note,
        "arguments": list(options.extra_arguments) if name.startswith("harmony") else [],
        "load_before": load,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
    }
