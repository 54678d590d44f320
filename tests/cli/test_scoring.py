"""``evaluate`` and ``demo``: a run against its truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import PIXEL_SIZE, FakeEngine, make_result

from napari_harmony.cli import main
from napari_harmony.cli.demo import PICTURE, SAMPLE, TRUTH, has_display
from napari_harmony.cli.scoring import read_truth
from napari_harmony.outputs import names, write_output
from napari_harmony.particles import open_particles


@pytest.fixture
def out(stack: Path, tmp_path: Path) -> Path:
    """A finished run in which every particle has a class and a pose."""
    particles = open_particles(stack)
    result = make_result(particles)
    table = result.table.assign(class_number=np.arange(12) % 3 + 1, psi=np.linspace(-170, 170, 12))
    table[["origin_x", "origin_y"]] = table[["origin_x", "origin_y"]].fillna(0.0)
    return write_output(tmp_path / "out", particles, result.with_table(table))


def truth_of(out: Path) -> pd.DataFrame:
    """The truth that makes the run perfect, with other class numbers and a turned and shifted gauge."""
    from napari_harmony.outputs import load_output

    table = load_output(out).table
    psi = table["psi"] + 30.0
    return pd.DataFrame(
        {"content": 7 - table["class_number"], "psi": psi, "origin_x": table["origin_x"], "origin_y": table["origin_y"]}
    )


@pytest.mark.parametrize("kind", ["csv", "npz", "star"])
def test_a_perfect_run_scores_perfectly(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    truth, path = truth_of(out), tmp_path / f"truth.{kind}"
    if kind == "csv":
        truth.to_csv(path, index=False)
    elif kind == "npz":
        np.savez(path, **{name: truth[name].to_numpy() for name in truth})
    else:
        rows = "".join(
            f"{row.content} {row.psi} {row.origin_x * PIXEL_SIZE} {row.origin_y * PIXEL_SIZE}\n"
            for row in truth.itertuples()
        )
        labels = "_rlnClassNumber\n_rlnAnglePsi\n_rlnOriginXAngst\n_rlnOriginYAngst\n"
        path.write_text(f"data_particles\n\nloop_\n{labels}{rows}\n")
    assert main(["evaluate", str(out), "--truth", str(path), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] == 1.0
    assert scores["rotation_median"] == pytest.approx(0.0, abs=1e-3)
    assert scores["shift_median"] == pytest.approx(0.0, abs=1e-3)
    assert main(["evaluate", str(out), "--truth", str(path)]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("truth.txt", b"", "a truth is read from .csv, .npz, .star"),
        ("truth.csv", None, "does not exist"),
        ("truth.csv", b"psi\n1\n", "no column of the true contents"),
        ("truth.csv", b"content\n1\n2\n", "it has 2 rows, but the run had 12 particles"),
        ("truth.npz", b"PK\x03\x04nothing", "no .npz file"),
        ("truth.star", b"data_x\n\nloop_\n_a\n1\n", "no table with rlnClassNumber"),
    ],
)
def test_truths_that_cannot_be_used(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["evaluate", str(out), "--truth", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    from napari_harmony.errors import InputError

    np.savez(tmp_path / "truth.npz", content=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="plain arrays"):
        read_truth(tmp_path / "truth.npz", 1.0)


def test_demo_writes_sample_result_picture_and_scores(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_harmony.particles import simulate

    whole = simulate.sample_particles
    monkeypatch.setattr(simulate, "sample_particles", lambda seed: whole(30, seed))
    out = tmp_path / "demo"
    assert main(["demo", "--no-gui", "-o", str(out), "--seed", "2"]) == 0
    assert {names.PARTICLES, names.REPORT} <= {path.name for path in out.iterdir()}
    assert len(open_particles(out / SAMPLE)) == len(pd.read_csv(out / TRUTH)) == 30
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert engine.calls[0]["settings"].classes == 5 and engine.calls[0]["settings"].seed == 2
    printed = capsys.readouterr().out
    assert "particles in the right class" in printed and str(out / names.REPORT) in printed
    assert main(["demo", "--no-gui", "-o", str(out), "--json-progress"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 <= last["scores"]["accuracy"] <= 1


def test_display_is_found_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not has_display()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_display()
