"""The 2D benchmark: make the data sets, run the methods, print one table.

``python benchmarks/particles_2d.py`` runs everything; ``--sets``, ``--methods`` and ``--seeds`` choose. Results are
kept in ``benchmarks/results/particles_2d.json``, one record per data set, method and seed, so that the table can be
put together piece by piece; every call prints the whole table and rewrites its section in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import scoring
import tables
from cases import WORK, Case
from methods import METHODS, Options, run_method
from protocols import PROTOCOLS

HERE = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare 2D alignment and classification on simulated particles.")
    parser.add_argument("--sets", default=",".join(PROTOCOLS), help="of %(default)s")
    parser.add_argument("--methods", default=",".join(METHODS), help="of %(default)s")
    parser.add_argument("--seeds", default="0", help="seeds of the methods, such as 0,1,2")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the data sets")
    parser.add_argument("--densities", help="comma-separated names or map files instead of the protocols' own")
    parser.add_argument("--count", type=int, help="particles per set instead of the protocols' own")
    parser.add_argument("--classes", type=int, help="K instead of the protocols' own")
    parser.add_argument("--relion-dir", type=Path, help="read this finished RELION run instead of starting one")
    parser.add_argument("--threads", type=int, default=2, help="of RELION")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "particles_2d.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data sets and runs")
    parser.add_argument("--table-only", action="store_true", help="run nothing, print and write the table")
    parser.add_argument("--argument", action="append", default=[], help="further argument for napari-harmony align")
    return parser.parse_args()


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    """The data sets asked for."""
    chosen = []
    for name in arguments.sets.split(","):
        if name not in PROTOCOLS:
            raise SystemExit(f"There is no set '{name}'; choose from {', '.join(PROTOCOLS)}.")
        protocol = PROTOCOLS[name]
        if arguments.densities and protocol.densities:
            protocol = replace(protocol, densities=tuple(arguments.densities.split(",")))
        changes = {"count": arguments.count, "classes": arguments.classes}
        protocol = replace(protocol, **{k: v for k, v in changes.items() if v is not None})
        chosen.append(Case(protocol, arguments.data_seed, arguments.work))
    return chosen


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


def main() -> None:
    """Run what was asked for, keep every record as soon as it is there, and show the table."""
    arguments = parse()
    methods = arguments.methods.split(",")
    if unknown := set(methods) - set(METHODS):
        raise SystemExit(f"There is no method '{sorted(unknown)[0]}'; choose from {', '.join(METHODS)}.")
    options = Options(arguments.relion_dir, arguments.threads, extra_arguments=tuple(arguments.argument))
    for case in [] if arguments.table_only else cases_of(arguments):
        case.prepare()
        for name in methods:
            for seed in (int(s) for s in arguments.seeds.split(",")):
                load = os.getloadavg()[0]
                run = run_method(name, case, seed, options)
                record = case.key | {
                    "method": run.method,
                    "seed": seed,
                    "scores": scoring.score(case, run),
                    "seconds": run.seconds,
                    "peak_mb": run.peak_mb,
                    "note": run.note,
                    "arguments": list(options.extra_arguments) if name.startswith("harmony") else [],
                    "load_before": load,
                    "date": datetime.date.today().isoformat(),
                    "machine": machine(),
                }
                tables.keep(arguments.results, record)
                print(tables.line(record), flush=True)
    records = tables.load(arguments.results)
    text = tables.markdown(records)
    print(text)
    tables.rewrite_section(arguments.readme, text)


if __name__ == "__main__":
    main()
