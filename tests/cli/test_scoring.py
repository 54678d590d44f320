"""``evaluate`` and ``demo``: a run against its truth."""

from __future__ import annotations

import json
from dataclasses import replace
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


@pytest.fixture
def scored_run(tmp_path: Path) -> tuple[Path, Path]:
    """A finished run on 60 images whose content code holds the content and an occupancy, and its truth."""
    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.images import ArrayImages

    generator = np.random.default_rng(1)
    array = generator.normal(size=(60, 4, 4)).astype(np.float32)
    particles = Particles(ArrayImages(array), pd.DataFrame(index=pd.RangeIndex(60)), PIXEL_SIZE)
    result = make_result(particles, content=2)
    occupancy = generator.uniform(0, 1, 60)
    table = result.table.assign(class_number=np.arange(60) % 3 + 1, content_1=occupancy, scale=1.0).fillna(0.0)
    out = write_output(tmp_path / "scored", particles, result.with_table(table))
    truth = table[["psi", "origin_x", "origin_y"]].assign(content=table["class_number"], occupancy=occupancy)
    truth.to_csv(tmp_path / "scored.csv", index=False)
    return out, tmp_path / "scored.csv"


def test_how_well_content_and_pose_are_told_apart_has_a_heading_of_its_own(
    scored_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(scored_run[0]), "--truth", str(scored_run[1])]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Disentanglement, of 60 particles")
    assert any(line.startswith("rotation median") for line in lines[:start])
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 4]] == [
        *("dci disentanglement", "dci completeness", "dci informativeness"),
    ]
    header = next(line for line in lines if line.startswith("share explained by"))
    assert header.split()[3:] == ["content", "occupancy", "rotation", "shift_x", "shift_y"]
    row = next(line for line in lines[lines.index(header) :] if line.startswith("content "))
    assert float(row.split()[2]) > 0.7 and float(row.split()[3]) < 0.3
    assert "  scale as a code: it is the same for all particles." in lines
    assert main([*command, "--no-disentanglement"]) == 0
    assert "Disentanglement" not in capsys.readouterr().out


def test_the_same_as_json(scored_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(scored_run[0]), "--truth", str(scored_run[1]), "--json"]
    assert main(command) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] == 1.0
    apart = scores["disentanglement"]
    assert apart["particles"] == 60 and 0.5 < apart["scores"]["dci_informativeness"] <= 1
    assert apart["of_factors"]["occupancy"]["sap"] > 0.8
    assert set(apart["cross_talk"]) == set(apart["information"]) == {"content", "rotation", "shift", "contrast"}
    assert main([*command, "--no-disentanglement"]) == 0
    assert "disentanglement" not in json.loads(capsys.readouterr().out)


def test_axes_of_the_content_are_tracked_where_there_is_a_model(
    scored_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from napari_harmony.models import HarmonyModel, ModelCard, build_network

    # the other part is slow and has tests of its own
    monkeypatch.setattr("napari_harmony.cli.scoring.disentanglement_scores", lambda *_: None)
    torch.manual_seed(0)
    card = ModelCard(
        box=16, pixel_size=7.5, original_box=64, transforms=("rotation", "translation"), content=2, hypotheses=4,
        mask_diameter=100.0, max_shift=20.0, seed=5, particles=10, epochs=2, classes=0, package_version="1.2.3",
    )  # fmt: skip
    command = ["evaluate", str(scored_run[0]), "--truth", str(scored_run[1])]
    assert main(command) == 0
    assert "axes of the content" not in capsys.readouterr().out
    HarmonyModel(build_network(card).eval(), card).save(scored_run[0])
    assert main([*command, "--json"]) == 0
    tracking = json.loads(capsys.readouterr().out)["content_tracking"]
    assert len(tracking["directions"]) == 2 and 0 <= tracking["score"] <= 1
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("axes of the content"))
    row = lines[start + 1].split()
    assert row[:2] == ["axis", "1"] and row[7:] != []
    assert float(row[5]) == pytest.approx(tracking["directions"][0]["activity"], abs=1e-3)
    other = replace(card, content=3)
    HarmonyModel(build_network(other).eval(), other).save(scored_run[0])
    assert main([*command, "--json"]) == 0
    assert "content_tracking" not in json.loads(capsys.readouterr().out)


def test_too_few_particles_are_said(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth_of(out).to_csv(tmp_path / "truth.csv", index=False)
    assert main(["evaluate", str(out), "--truth", str(tmp_path / "truth.csv")]) == 0
    printed = capsys.readouterr().out
    assert "12 particles with codes and factors are fewer than 40" in printed and "mig" not in printed


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


@pytest.fixture
def subtomogram_run(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A finished run on subtomograms and the truth that makes it perfect: another gauge, another count of classes."""
    from scipy.spatial.transform import Rotation

    from napari_harmony.particles.dataset import Particles
    from napari_harmony.particles.volumes import ArrayVolumes

    array = np.random.default_rng(0).normal(size=(12, 4, 4, 4)).astype(np.float32)
    particles = Particles(ArrayVolumes(array), pd.DataFrame(index=pd.RangeIndex(12)), PIXEL_SIZE)
    result = make_result(particles)
    table = result.table.assign(class_number=np.arange(12) % 3 + 1).fillna(0.0)
    out = write_output(tmp_path / "out3d", particles, result.with_table(table))
    angles, origins = ["rot", "tilt", "psi"], ["origin_x", "origin_y", "origin_z"]
    gauge = Rotation.from_euler("ZYZ", [20, 100, -70], degrees=True)
    truth = pd.DataFrame({"content": 7 - table["class_number"]})
    pose = gauge * Rotation.from_euler("ZYZ", table[angles].to_numpy(), degrees=True)
    truth[angles] = pose.as_euler("ZYZ", degrees=True)
    truth[origins] = table[origins]
    return out, truth


@pytest.mark.parametrize("kind", ["csv", "star"])
def test_a_perfect_run_on_subtomograms_scores_perfectly(
    subtomogram_run: tuple[Path, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (out, truth), path = subtomogram_run, tmp_path / f"truth.{kind}"
    if kind == "csv":
        truth.to_csv(path, index=False)
    else:
        origins = truth[["origin_x", "origin_y", "origin_z"]] * PIXEL_SIZE
        rows = pd.concat([truth[["content", "rot", "tilt", "psi"]], origins], axis=1).to_csv(
            sep=" ", header=False, index=False
        )
        labels = ["ClassNumber", "AngleRot", "AngleTilt", "AnglePsi", *(f"Origin{axis}Angst" for axis in "XYZ")]
        path.write_text("data_particles\n\nloop_\n" + "".join(f"_rln{label}\n" for label in labels) + rows + "\n")
    assert main(["evaluate", str(out), "--truth", str(path), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] == 1.0
    assert scores["rotation_median"] == pytest.approx(0.0, abs=1e-3)
    assert scores["rotation_under_20"] == 1.0 and scores["flips"] == 0.0
    assert scores["shift_median"] == pytest.approx(0.0, abs=1e-3)


def test_symmetry_is_an_option_of_subtomograms(
    subtomogram_run: tuple[Path, pd.DataFrame], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, truth = subtomogram_run
    path = tmp_path / "truth.csv"
    # half of the true particles turned by half a turn about z, their axis of symmetry: rot is the outer angle
    turned = truth.assign(rot=truth["rot"] + 180 * (np.arange(12) % 4 == 0))
    turned.to_csv(path, index=False)
    medians = {}
    for group in ("C1", "c2"):
        assert main(["evaluate", str(run), "--truth", str(path), "--symmetry", group, "--json"]) == 0
        medians[group] = json.loads(capsys.readouterr().out)["rotation_mean"]
    assert medians["C1"] > 30 and medians["c2"] < 1e-2
    assert main(["evaluate", str(run), "--truth", str(path), "--symmetry", "Q7"]) == 2
    assert "there is no symmetry 'Q7'" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--truth", str(path), "--symmetry", "C2"]) == 2
    assert "this run was on images" in capsys.readouterr().err


def test_info_says_that_a_run_was_on_subtomograms(
    subtomogram_run: tuple[Path, pd.DataFrame], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(subtomogram_run[0])]) == 0
    assert "12 subtomograms, 12 in a class" in capsys.readouterr().out
