"""What both benchmarks share: the options, one record for every run, and the table in its place."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import compare
import tables
from cases import Run


@dataclass
class FakeCase:
    """A data set that notes whether it was made."""

    made: int = 0

    @property
    def key(self) -> dict[str, object]:
        return {"set": "S", "data_seed": 0, "densities": ["a"], "count": 3, "classes": 2}

    def prepare(self) -> None:
        self.made += 1


BENCHMARK = compare.Benchmark(
    "fake",
    "Compare.",
    {"S": 1},
    {"harmony": 1, "chance": 1},
    lambda name, _case, seed, options: replace(Run(name, seed), seconds=1.0, peak_mb=2.0, note=str(options.threads)),
    lambda _case, run: {"accuracy": 0.5 + 0.1 * run.seed},
)


def arguments(folder: Path, *given: str) -> object:
    (folder / "README.md").write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nbehind\n")
    places = ["--results", str(folder / "r.json"), "--readme", str(folder / "README.md")]
    return compare.parser_of(BENCHMARK).parse_args([*places, *given])


def test_every_method_and_seed_gives_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = FakeCase()
    compare.run(BENCHMARK, arguments(tmp_path, "--seeds", "0,1", "--argument=--preset", "--argument=fast"), [case])
    records = json.loads((tmp_path / "r.json").read_text())
    assert [(r["method"], r["seed"]) for r in records] == [("harmony", 0), ("harmony", 1), ("chance", 0), ("chance", 1)]
    assert [r["arguments"] for r in records[1:3]] == [["--preset", "fast"], []] and case.made == 1
    known = ["method", "seed", "scores", "seconds", "peak_mb", "note", "arguments", "load_before", "date", "machine"]
    assert list(records[0]) == [*case.key, *known]
    written = (tmp_path / "README.md").read_text()
    assert "0.600" in written and "old" not in written and written.startswith("before") and "behind" in written
    assert "harmony seed 1: accuracy 0.600" in capsys.readouterr().out


def test_the_table_alone_runs_nothing(tmp_path: Path) -> None:
    case = FakeCase()
    compare.run(BENCHMARK, arguments(tmp_path, "--methods", "chance"), [case])
    compare.run(BENCHMARK, arguments(tmp_path, "--table-only"), [case])
    assert case.made == 1 and "chance" in (tmp_path / "README.md").read_text()


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no method 'nothing'; choose from harmony, chance"):
        compare.run(BENCHMARK, arguments(tmp_path, "--methods", "chance,nothing"), [FakeCase()])
    with pytest.raises(SystemExit, match="no set 'T'"):
        compare.chosen("S,T", BENCHMARK.sets, "set")
