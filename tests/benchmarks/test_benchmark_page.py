"""The page of benchmarks says what the records say, and the records of profiles and of growth what was measured."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import page
import peers
import profile_engine
import scaling
import tables
from methods import Options
from naive_peer import naive_labels

MACHINE = {"cpu": "C", "cores": 2, "python": "3", "torch": "2", "napari-harmony": "1"}


def record(method: str, seed: int, accuracy: float | None, seconds: float | None, **more: object) -> tables.Record:
    scores = {} if accuracy is None else {"accuracy": accuracy}
    known = {
        "set": "V12",
        "count": 2000,
        "classes": 12,
        "densities": ["a"],
        "data_seed": 0,
        "arguments": [],
        "note": "",
    }
    cost = {"arguments": [], "note": "", "seconds": seconds, "peak_mb": None, "date": "2026-01-02", "machine": MACHINE}
    return known | cost | {"method": method, "seed": seed, "scores": scores} | more


RECORDS = [
    record("relion", 0, 0.8, 300.0),
    record("harmony", 0, 0.9, 10.0),
    record("harmony", 1, 1.0, 20.0),
    record("harmony", 2, 0.7, 60.0),
    record("chance", 0, 0.1, None),
    record("aspire", 0, None, None, note="not run: 9.0 h expected"),
]


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_repeats_are_one_row_of_medians_with_the_time_beside_ours() -> None:
    text = page.peers(RECORDS, tables.COLUMNS)
    assert lines_of(text, "| harmony") == ["| harmony | 3 | 0.900 | 20 s | 1 |  | 2026-01-02 |"]
    assert lines_of(text, "| relion") == ["| relion | 1 | 0.800 | 300 s | 15 |  | 2026-01-02 |"]
    assert lines_of(text, "| aspire") == [] and "- aspire: not run: 9.0 h expected." in text
    rows = [line.split(" | ")[0] for line in lines_of(text, "| ")]
    assert rows == ["| method", "| ---", "| harmony", "| relion", "| chance"]


def test_the_page_holds_what_there_are_records_of(tmp_path: Path) -> None:
    (tmp_path / "particles_2d.json").write_text(json.dumps(RECORDS))
    text = page.page(tmp_path)
    assert "## Beside other programs" in text and "### V12: 2,000 particles, K = 12" in text
    assert "How time and memory grow" not in text and "Where the time goes" not in text
    assert "2 cores of C: napari-harmony 1, python 3, torch 2" in text


TIMING = {"seconds": 12.34, "cpu_seconds": 20.0, "peak_mb": 1024.4}


def grown(particles: int, classes: int = 12, box: int = 64, **large: int) -> dict:
    size, summary = scaling.Size(particles, classes, box), {"seconds": {"reading": 1.0}, "large": large or None}
    found = scaling.record_of(size, "cpu", [], TIMING, summary)
    return found | {"accuracy": 1.0, "load_before": 0.0, "machine": MACHINE}


def test_growth_is_told_with_passes_where_there_were_portions(tmp_path: Path) -> None:
    records = [grown(1000), grown(2000, passes=4, cache_bytes=84_000_000)]
    text = page.growth(records, picture=False)
    assert "| cpu | 1,000 | 12 | 64 | 12 s | 20 s | 20.0 s | 1.00 GB | in memory | 0.0 |" in text
    assert "| 10.0 s | 1.00 GB | 4, 84 MB |" in text


def test_ladders_differ_in_one_thing_alone() -> None:
    sizes = scaling.sizes(scaling.Size(10, 3, 64), [5, 10], [2], [])
    assert [(s.particles, s.classes, s.box) for s in sizes] == [(5, 3, 64), (10, 2, 64), (10, 3, 64)]
    records = [grown(2000), grown(500), grown(2000, classes=4), grown(700, classes=9)]
    assert [[r["particles"] for r in group] for group in scaling.ladder(records, "particles")] == [[500, 2000]]
    assert [[r["classes"] for r in group] for group in scaling.ladder(records, "classes")] == [[4, 12]]
    assert scaling.ladder(records, "box") == []


def test_a_newer_record_of_a_case_replaces_the_older_and_is_plotted(tmp_path: Path) -> None:
    file = tmp_path / "scaling.json"
    for one in (grown(500), grown(1000), grown(500) | {"seconds": 99.0}):
        scaling.keep(one, file)
    assert [(r["particles"], r["seconds"]) for r in scaling.kept(file)] == [(500, 99.0), (1000, 12.3)]
    scaling.plot(scaling.kept(file), tmp_path / "images" / "scaling.svg")
    assert (tmp_path / "images" / "scaling.svg").read_text().count("<use") > 8


def test_parts_of_a_profile_count_what_is_done_inside_them() -> None:
    profile, spent = profile_engine.Profile(), []

    def busy(seconds: float) -> float:
        begin = time.process_time()
        while time.process_time() - begin < seconds:
            pass
        return seconds

    def steps(seconds: float) -> object:
        yield busy(seconds)
        return spent

    assert profile.watched("a", busy, lambda s: (5.0, 7.0))(0.01) == 0.01
    followed = profile.followed("b", steps, lambda s: (1.0, 2.0))(0.01)
    next(followed)
    busy(0.03)
    with pytest.raises(StopIteration):
        next(followed)
    a, b = profile.parts["a"], profile.parts["b"]
    assert (a.calls, a.multiplied, a.moved, b.calls, b.multiplied) == (1, 5.0, 7.0, 1, 1.0)
    assert 0.01 <= a.seconds < 0.03 and 0.01 <= b.seconds < 0.03


def test_a_profile_sets_parts_beside_the_rates_of_the_machine() -> None:
    parts = {
        "averages": {"seconds": 3.0, "calls": 1, "multiplied": 0.0, "moved": 0.0},
        "expectation": {"seconds": 2.0, "calls": 1, "multiplied": 60e9, "moved": 4e9},
        "expectation: product": {"seconds": 1.0, "calls": 1, "multiplied": 30e9, "moved": 0.0},
    }
    found = {"particles": 2000, "classes": 12, "accuracy": 1.0, "rotation_median": 0.6, "stages": {"reading": 5.0}}
    found |= {"rates": {"float32": 40e9, "bfloat16": 80e9, "bytes": 20e9}, "parts": parts}
    text = page.profile(found | {"expectation over sgemm": 0.75, "done over sgemm": 0.375})
    assert lines_of(text, "| exp") == ["| expectation | 2.0 s | 120 | 60 | 75 % | 4.00 | 10 % |"]
    assert lines_of(text, "| - ") == ["| - product | 1.0 s | 60 | 60 | 75 % |  |  |"]
    assert [line.split(" | ")[0] for line in lines_of(text, "| ")][2:] == ["| averages", "| expectation", "| - product"]
    assert "at 75 % of the rate" in text and "80 GFLOP per second in single precision" in " ".join(text.split())


def test_operations_of_the_expectation_are_those_of_its_definition() -> None:
    from engine_data import basis_of, observations

    from napari_harmony.engine.scoring import Moves, Turned
    from napari_harmony.engine.search import Templates, pose_grid

    basis, grid = basis_of(), pose_grid(8, 1.0, 1.0, 1.0)
    data = observations(torch.randn(3, 32, 32), basis)
    templates = Templates(torch.randn(2, basis.size), torch.zeros(2))
    useful, _ = profile_engine.of_expectation(data, templates, grid)
    assert useful == 3 * 2 * 8 * len(grid.shift) * basis.size
    moves = Moves.of(basis, grid.shift, 32, torch.float32)
    turned = Turned.of(basis, templates.coefficients, grid.psi)
    done, _ = profile_engine.of_product(turned, moves.analysed(data.matched))
    assert done == useful / 2


def test_planned_runs_are_left_out_where_they_were_done_or_take_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "RESULTS", tmp_path)
    (small,) = peers.planned(["V12"], ["relion"], tmp_path)
    (large,) = peers.planned(["20k"], ["relion"], tmp_path)
    tables.keep(small.file, record("relion", 0, 0.8, 600.0) | small.case.key)
    assert peers.perform(small, Options(), None) is None
    assert large.expected(tables.load(large.file)) == pytest.approx(6000)
    done = peers.perform(large, Options(), 300.0)
    assert done is not None and done["note"] == "not run: 1.7 h expected, from its time on fewer particles"
    assert not large.case.folder.exists() and len(tables.load(large.file)) == 2


def test_pca_and_kmeans_part_what_looks_different() -> None:
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(30, 16, 16, generator=generator)
    images[::2, 4:8, 4:8] += 3
    images[1::2, 8:12, 8:12] += 3
    labels = naive_labels(images.numpy(), 2, 0)
    assert len(set(labels[::2])) == len(set(labels[1::2])) == 1 and labels[0] != labels[1]
