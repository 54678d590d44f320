"""Every program a user might pick instead, on every set, in one command; what is measured already is not run again.

``python benchmarks/peers.py`` runs RELION, ASPIRE, PCA with k-means and the package on V12, V12-low and T4, and on
sets of 20,000 and 100,000 particles made like V12. ``--most 300`` leaves out what is expected to take longer than
300 s, going by the same program on the same kind of set, and says so in the record. Records go where those of
``particles_2d.py`` and ``subtomograms_3d.py`` go; ``page.py`` shows them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import particles_2d
import subtomograms_3d
import tables
from cases import WORK, Case, Run
from cases_3d import Case3D
from compare import Benchmark, chosen, record_of
from methods import Options
from protocols import PROTOCOLS
from protocols_3d import PROTOCOLS_3D

RESULTS = Path(__file__).parent / "results"
#: Protocol of each set, and its number of particles where that is not the protocol's own.
SETS: dict[str, tuple[str, int | None]] = {
    "V12": ("V12", None),
    "V12-low": ("V12-low", None),
    "T4": ("T4", None),
    "20k": ("V12", 20_000),
    "100k": ("V12", 100_000),
}
METHODS = ("harmony", "relion", "aspire", "pca-kmeans")
#: Seeds of each method: the slow ones are run once.
SEEDS = {"harmony": (0, 1, 2), "pca-kmeans": (0, 1, 2)}


@dataclass(frozen=True)
class Planned:
    """One run: a method with a seed on a data set of one of the two benchmarks."""

    benchmark: Benchmark
    case: Any
    method: str
    seed: int

    @property
    def file(self) -> Path:
        """Where its record goes."""
        return RESULTS / f"{self.benchmark.name}.json"

    def recorded(self, records: list[tables.Record]) -> bool:
        """Whether it was run before."""
        wanted = self.case.key | {"method": self.method, "seed": self.seed, "arguments": []}
        return any(r["scores"] and all(r.get(k) == v for k, v in wanted.items()) for r in records)

    def expected(self, records: list[tables.Record]) -> float | None:
        """Seconds, in proportion to particles, by runs of the method on sets of the same name; None without any."""
        key = self.case.key
        rates = [
            r["seconds"] / r["count"]
            for r in records
            if r["method"] == self.method and r["set"] == key["set"] and r["seconds"] and not r["arguments"]
        ]
        return median(rates) * key["count"] if rates else None


def planned(sets: list[str], methods: list[str], work: Path = WORK) -> Iterator[Planned]:
    """All runs of some methods on some sets."""
    for name in sets:
        protocol, count = SETS[name]
        case: Any
        if protocol in PROTOCOLS:
            flat = PROTOCOLS[protocol]
            case, benchmark = Case(replace(flat, count=count or flat.count), 0, work), particles_2d.BENCHMARK
        else:
            case, benchmark = Case3D(PROTOCOLS_3D[protocol], 0, work), subtomograms_3d.BENCHMARK
        for method in methods:
            if method in benchmark.methods:
                yield from (Planned(benchmark, case, method, seed) for seed in SEEDS.get(method, (0,)))


def perform(run: Planned, options: Options, most: float | None) -> tables.Record | None:
    """Run it unless that was done before, or would take more than ``most`` seconds; keeps and returns its record."""
    records = tables.load(run.file)
    if run.recorded(records):
        return None
    expected = run.expected(records)
    benchmark = run.benchmark
    if most is not None and expected is not None and expected > most:
        note = f"not run: {expected / 3600:.1f} h expected, from its time on fewer particles"
        benchmark = replace(benchmark, run_method=lambda name, _case, seed, _options: Run(name, seed, note=note))
    else:
        run.case.prepare()
    record = record_of(benchmark, run.case, run.method, run.seed, options)
    tables.keep(run.file, record)
    return record


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS), help="of %(default)s")
    parser.add_argument("--methods", default=",".join(METHODS), help="of %(default)s")
    parser.add_argument("--most", type=float, metavar="SECONDS", help="leave out what is expected to take longer")
    parser.add_argument("--threads", type=int, default=2, help="of RELION")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for data sets and runs")
    given = parser.parse_args()
    methods = chosen(given.methods, dict.fromkeys(METHODS), "method")
    for run in planned(chosen(given.sets, SETS, "set"), methods, given.work):
        record = perform(run, Options(threads=given.threads), given.most)
        if record is not None:
            print(tables.line(record, run.benchmark.columns), flush=True)


if __name__ == "__main__":
    main()
