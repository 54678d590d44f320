"""Parts of the benchmark of further objectives, and the tables of checks."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import checks  # noqa: E402
import objectives  # noqa: E402
from napari_harmony.additions import ADDITIONS  # noqa: E402


def record(mode: str, seed: int, **scores: float) -> dict:
    return {"set": "V12", "mode": mode, "seed": seed, "scores": scores}


def test_every_mode_is_an_objective_that_there_is() -> None:
    added = [{addition.name for addition in objectives.additions_of(words)} for words in objectives.MODES.values()]
    assert set.union(*added) == set(ADDITIONS) and added[-1] == set(ADDITIONS)


def test_a_record_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "objectives.json"
    objectives.keep(path, record("Harmony", 0, accuracy=0.1))
    objectives.keep(path, record("Harmony", 1, accuracy=0.2))
    objectives.keep(path, record("Harmony", 0, accuracy=0.9, mig=math.nan))
    kept = {r["seed"]: r["scores"] for r in objectives.load(path)}
    assert kept == {0: {"accuracy": 0.9, "mig": None}, 1: {"accuracy": 0.2}}
    assert [p.name for p in tmp_path.iterdir()] == ["objectives.json"]


def test_the_table_shows_medians_and_ranges() -> None:
    rows = [record("Harmony", seed, accuracy=value) for seed, value in enumerate((0.5, 0.9, 0.7))]
    text = objectives.markdown([*rows, record("+ RoDi", 0, accuracy=0.8)])
    assert "| Harmony | 0.700 (0.500 to 0.900) |" in text
    assert "| + RoDi | 0.800 |" in text
    assert "+ LOOCC" not in text


def test_probes_read_what_is_there_and_no_more() -> None:
    random = np.random.default_rng(0)
    codes, labels = random.normal(size=(300, 4)), random.integers(0, 3, 300)
    factor = random.normal(size=300)
    assert objectives.probe(codes, labels) < 0.45
    assert objectives.probe(np.c_[codes, np.eye(3)[labels]], labels) > 0.99
    assert objectives.explained(codes, factor) < 0.05
    assert objectives.explained(np.c_[codes, factor], factor) > 0.99


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> checks.Part:
    monkeypatch.setattr(checks, "RESULTS", tmp_path)
    monkeypatch.setattr(checks, "README", tmp_path / "README.md")
    checks.README.write_text("# Before\n")
    better = checks.Rule(
        "a", "better with", lambda m: f"{m('with', 'score'):.1f}", lambda m: m("with", "score") > m("without", "score")
    )
    return checks.Part("trial", "Trial", "Scores.", (("score", "score"),), (better,))


def test_checks_are_of_medians_over_seeds(part: checks.Part) -> None:
    for seed, (one, two) in enumerate(((1.0, 0.0), (2.0, 9.0), (3.0, 1.0))):
        checks.keep(part, {"mode": "with", "seed": seed, "score": one})
        checks.keep(part, {"mode": "without", "seed": seed, "score": two})
    text = checks.section(part, checks.load(part))
    assert "| (a) better with | 2.0 | holds |" in text
    assert "seeds 0, 1, 2" in text


def test_what_was_not_measured_does_not_hold(part: checks.Part) -> None:
    checks.keep(part, {"mode": "with", "seed": 0, "score": 1.0})
    assert "**does not hold**" in checks.section(part, checks.load(part))


def test_a_section_is_rewritten_in_its_place(part: checks.Part) -> None:
    checks.rewrite(part, "first")
    checks.README.write_text(checks.README.read_text() + "\n# After\n")
    checks.rewrite(part, "second")
    text = checks.README.read_text()
    assert "first" not in text and text.index("# Before") < text.index("second") < text.index("# After")
    assert text.count("checks trial: begin") == 1
