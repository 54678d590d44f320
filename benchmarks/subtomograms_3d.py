"""The 3D benchmark: make the data sets, run the methods, print one table.

``python benchmarks/subtomograms_3d.py`` runs everything; ``--sets``, ``--methods`` and ``--seeds`` choose. Results are
kept in ``benchmarks/results/subtomograms_3d.json``, one record per data set, method and seed; every call prints the
whole table and rewrites its section in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import datetime
import os
from pathlib import Path

import tables
from cases import WORK
from cases_3d import Case3D, score, with_changes
from methods import Options
from methods_3d import METHODS, run_method
from particles_2d import machine
from protocols_3d import PROTOCOLS_3D

HERE = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare 3D alignment and classification on simulated subtomograms.")
    parser.add_argument("--sets", default=",".join(PROTOCOLS_3D), help="of %(default)s")
    parser.add_argument("--methods", default=",".join(METHODS), help="of %(default)s")
    parser.add_argument("--seeds", default="0", help="seeds of the methods, such as 0,1,2")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the data sets")
    parser.add_argument("--densities", help="comma-separated names or map files instead of the protocols' own")
    parser.add_argument("--count", type=int, help="particles per set instead of the protocols' own")
    parser.add_argument("--relion-dir", type=Path, help="read this finished RELION run instead of starting one")
    parser.add_argument("--threads", type=int, default=2, help="of RELION")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "subtomograms_3d.json")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data sets and runs")
    parser.add_argument("--table-only", action="store_true", help="run nothing, print and write the table")
    parser.add_argument("--argument", action="append", default=[], help="further argument for napari-harmony align")
    return parser.parse_args()


def chosen(names: str, known: dict[str, object], what: str) -> list[str]:
    """The names of a comma-separated list, all of them known."""
    for name in names.split(","):
        if name not in known:
            raise SystemExit(f"There is no {what} '{name}'; choose from {', '.join(known)}.")
    return names.split(",")


def main() -> None:
    """Run what was asked for, keep every record as soon as it is there, and show the table."""
    arguments = parse()
    sets, methods = chosen(arguments.sets, PROTOCOLS_3D, "set"), chosen(arguments.methods, METHODS, "method")
    options = Options(arguments.relion_dir, arguments.threads, extra_arguments=tuple(arguments.argument))
    for set_name in [] if arguments.table_only else sets:
        protocol = with_changes(PROTOCOLS_3D[set_name], arguments.densities, arguments.count)
        case = Case3D(protocol, arguments.data_seed, arguments.work)
        case.prepare()
        for name in methods:
            for seed in (int(s) for s in arguments.seeds.split(",")):
                load = os.getloadavg()[0]
                run = run_method(name, case, seed, options)
                record = case.key | {
                    "method": run.method,
                    "seed": seed,
                    "scores": score(case, run),
                    "seconds": run.seconds,
                    "peak_mb": run.peak_mb,
                    "note": run.note,
                    "arguments": list(options.extra_arguments) if name == "harmony" else [],
                    "load_before": load,
                    "date": datetime.date.today().isoformat(),
                    "machine": machine(),
                }
                tables.keep(arguments.results, record)
                print(tables.line(record, tables.COLUMNS_3D), flush=True)
    text = tables.markdown(tables.load(arguments.results), tables.COLUMNS_3D, "subtomograms")
    print(text)
    tables.rewrite_section(arguments.readme, text, tables.BEGIN_3D, tables.END_3D)


if __name__ == "__main__":
    main()
