"""The 2D benchmark: make the data sets, run the methods, print one table.

``python benchmarks/particles_2d.py`` runs everything; ``--sets``, ``--methods`` and ``--seeds`` choose. Results are
kept in ``benchmarks/results/particles_2d.json``, one record per data set, method and seed, so that the table can be
put together piece by piece; every call prints the whole table and rewrites its section in ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import scoring
from cases import Case
from compare import Benchmark, chosen, parser_of, run
from methods import METHODS, run_method
from protocols import PROTOCOLS

BENCHMARK = Benchmark(
    "particles_2d",
    "Compare 2D alignment and classification on simulated particles.",
    PROTOCOLS,
    METHODS,
    run_method,
    scoring.score,
)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = parser_of(BENCHMARK)
    parser.add_argument("--classes", type=int, help="K instead of the protocols' own")
    return parser.parse_args()


def cases_of(arguments: argparse.Namespace) -> Iterator[Case]:
    """The data sets asked for."""
    for name in chosen(arguments.sets, PROTOCOLS, "set"):
        protocol = PROTOCOLS[name]
        if arguments.densities and protocol.densities:
            protocol = replace(protocol, densities=tuple(arguments.densities.split(",")))
        changes = {"count": arguments.count, "classes": arguments.classes}
        protocol = replace(protocol, **{k: v for k, v in changes.items() if v is not None})
        yield Case(protocol, arguments.data_seed, arguments.work)


def main() -> None:
    """Run what was asked for."""
    arguments = parse()
    run(BENCHMARK, arguments, list(cases_of(arguments)))


if __name__ == "__main__":
    main()
