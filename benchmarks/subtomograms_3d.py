"""The 3D benchmark: make the data sets, run the methods, print one table.

``python benchmarks/subtomograms_3d.py`` runs everything; ``--sets``, ``--methods`` and ``--seeds`` choose. Results are
kept in ``benchmarks/results/subtomograms_3d.json``, one record per data set, method and seed; every call prints the
whole table and rewrites its section in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import tables
from cases_3d import Case3D, score, with_changes
from compare import Benchmark, chosen, parser_of, run
from methods_3d import METHODS, run_method
from protocols_3d import PROTOCOLS_3D

BENCHMARK = Benchmark(
    "subtomograms_3d",
    "Compare 3D alignment and classification on simulated subtomograms.",
    PROTOCOLS_3D,
    METHODS,
    run_method,
    score,
    tables.COLUMNS_3D,
    "subtomograms",
    (tables.BEGIN_3D, tables.END_3D),
)


def cases_of(arguments: argparse.Namespace) -> Iterator[Case3D]:
    """The data sets asked for."""
    for name in chosen(arguments.sets, PROTOCOLS_3D, "set"):
        protocol = with_changes(PROTOCOLS_3D[name], arguments.densities, arguments.count)
        yield Case3D(protocol, arguments.data_seed, arguments.work)


def main() -> None:
    """Run what was asked for."""
    arguments = parser_of(BENCHMARK).parse_args()
    run(BENCHMARK, arguments, list(cases_of(arguments)))


if __name__ == "__main__":
    main()
