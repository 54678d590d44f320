"""The commands: what they write, what they print, and how they end."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_run import BOX, PIXEL_SIZE, FakeEngine, FakeModel

from napari_harmony.cli import main
from napari_harmony.cli.progress import BarReporter
from napari_harmony.engine.events import Preview, Progress
from napari_harmony.errors import InputError, InputWarning
from napari_harmony.outputs import load_output, names
from napari_harmony.particles.mrc import write_volume
from napari_harmony.particles.wedge import TiltRange


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def fails(capsys: pytest.CaptureFixture[str], arguments: Sequence[object], code: int) -> str:
    """Run a command that must end with ``code``; gives the one line it says about that."""
    assert main([str(a) for a in arguments]) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return lines[0]


class TestAlign:
    def test_writes_a_complete_folder_and_says_where(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "deep" / "out"
        assert main(["align", str(stack), "-o", str(out), "--classes", "4", "--seed", "7"]) == 0
        assert files(out) == {
            names.PARTICLES,
            names.AVERAGES,
            names.FRC,
            *names.MODEL,
            names.SUMMARY,
            names.REPORT,
        }
        result = load_output(out)
        assert result.classes == 4
        assert result.summary["seed"] == 7 and result.summary["parameters"]["classes"] == 4
        assert result.summary["seconds"]["search"] == 1.25
        assert result.summary["seconds"]["reading"] >= 0 and result.summary["seconds"]["total"] > 0
        assert capsys.readouterr().out.strip().endswith(str(out / names.REPORT))

    def test_options_reach_the_engine(self, engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
        options = "--transforms rotation,scale --device cpu --preset fast --max-shift 20 --mask-diameter 30.5"
        command = ["align", str(stack), "-o", str(tmp_path / "out"), *options.split(), "--objective", "harmony-2022"]
        assert main([*command, "--pixel-size", "3"]) == 0
        settings = engine.calls[0]["settings"]
        assert settings.transforms == ("rotation", "scale")
        assert (settings.device, settings.preset, settings.objective) == ("cpu", "fast", "harmony-2022")
        assert (settings.max_shift, settings.mask_diameter, settings.classes) == (20.0, 30.5, None)
        assert load_output(tmp_path / "out").pixel_size == 3.0

    def test_relion_format_adds_the_files_of_its_select_job(
        self, engine: FakeEngine, stack: Path, tmp_path: Path
    ) -> None:
        assert main(["align", str(stack), "-o", str(tmp_path / "out"), "--format", "relion"]) == 0
        assert set(names.RELION_JOB) <= files(tmp_path / "out")

    def test_a_saved_model_is_used_and_brings_its_transforms(
        self, engine: FakeEngine, stack: Path, tmp_path: Path
    ) -> None:
        FakeModel().save(tmp_path / "model")
        assert main(["align", str(stack), "-o", str(tmp_path / "a"), "--model", str(tmp_path / "model")]) == 0
        assert main(["apply", str(tmp_path / "model"), str(stack), "-o", str(tmp_path / "b")]) == 0
        chosen = ["--transforms", "rotation"]
        assert main(["apply", str(tmp_path / "model"), str(stack), "-o", str(tmp_path / "c"), *chosen]) == 0
        assert all(isinstance(call["model"], FakeModel) for call in engine.calls)
        used = [call["settings"].transforms for call in engine.calls]
        assert used == [("rotation", "translation"), ("rotation", "translation"), ("rotation",)]

    def test_warnings_of_input_and_run_are_shown_and_kept(
        self,
        engine: FakeEngine,
        stack: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        engine.summary = {"warnings": ["no significant structure"]}
        engine.on_event = lambda: warnings.warn("odd header", InputWarning, stacklevel=1)
        assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 0
        error = capsys.readouterr().err
        assert error.count("Warning: odd header") >= 1
        assert "Warning: no significant structure" in error
        assert load_output(tmp_path / "out").warnings == ("no significant structure", "odd header")


class TestJsonProgress:
    def test_every_line_is_an_object_and_the_last_says_done(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["align", str(stack), "-o", str(tmp_path / "out"), "--json-progress"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["event"] for line in lines] == ["progress", "preview", "loss", "progress", "done"]
        assert lines[0] == {
            "event": "progress",
            "stage": "search",
            "fraction": 0.1,
            "message": "iteration 1",
            "seconds_left": 90.0,
        }
        assert lines[1]["counts"] == [3.0, 4.0]
        parts = {"reconstruction": 5.0, "prior": 0.5}
        assert lines[2] == {"event": "loss", "done": 1, "total": 2, "value": 5.5, "parts": parts}
        assert lines[-1]["out"] == str(tmp_path / "out") and lines[-1]["classes"] == 3

    def test_plain_lines_go_to_standard_error(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["align", str(stack), "-o", str(tmp_path / "out")])
        captured = capsys.readouterr()
        assert captured.err.splitlines() == ["search: 10 %, about 1 min 30 s left (iteration 1)", "training: 90 %"]
        assert len(captured.out.splitlines()) == 1

    def test_errors_are_objects_too(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["align", str(stack), "-o", str(stack), "--json-progress"]) == 2
        captured = capsys.readouterr()
        event = json.loads(captured.out)
        assert (event["event"], event["exit_code"]) == ("error", 2)
        assert captured.err.strip() == f"Error: {event['message']}"

    def test_bar_shows_stages_that_look_like_markup(self, capsys: pytest.CaptureFixture[str]) -> None:
        with BarReporter() as bar:
            bar.show(Progress("[red]search", 0.5, "iteration 1", 12.0))
            bar.show(Preview(np.zeros((1, 2, 2), np.float32), np.ones(1, np.float32), 1))
            bar.note("[note]")
            bar.finish("done")
        captured = capsys.readouterr()
        assert captured.out == "done\n"
        assert "[note]" in captured.err


class TestBadInput:
    """Each in one line, exit 2, nothing written."""

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--classes", "many"], "--classes is 'many': give a whole number, or 'auto'."),
            (["--classes", "0"], "classes is 0"),
            (["--transforms", "rotation,shear"], "transforms: 'shear' is unknown"),
            (["--preset", "lazy"], "preset: 'lazy' is unknown"),
            (["--objective", "other"], "objective: 'other' is unknown"),
            (["--format", "mrc"], "--format: 'mrc' is unknown"),
            (["--max-shift", "-3"], "--max-shift is -3: give a positive number"),
            (["--mask-diameter", "nan"], "--mask-diameter is nan"),
            (["--pixel-size", "0"], "--pixel-size is 0"),
            (["--seed", "-1"], "--seed"),
            (["--seed", "x"], "--seed"),
            (["--model", "bundled", "--rescale"], "the bundled model takes particles of any pixel size"),
            (["--model", "nowhere"], "--model nowhere: there is no such file"),
            (["--no-such-option"], "--no-such-option"),
        ],
    )
    def test_options(
        self,
        engine: FakeEngine,
        stack: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        options: list[str],
        sentence: str,
    ) -> None:
        before = files(tmp_path)
        assert sentence in fails(capsys, ["align", stack, "-o", tmp_path / "out", *options], 2)
        assert files(tmp_path) == before
        assert engine.calls == []

    def test_missing_arguments(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "INPUT" in fails(capsys, ["align", "-o", "out"], 2)
        assert "No such command" in fails(capsys, ["aline"], 2)

    def test_no_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert fails(capsys, [], 2) == "Error: Missing command. See 'napari-harmony --help'."

    def test_inputs_that_cannot_be_read(
        self, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "text.star").write_text("hello\n")
        for name, sentence in [("none.star", "does not exist"), ("text.star", "outside any table")]:
            assert sentence in fails(capsys, ["align", tmp_path / name, "-o", tmp_path / "out"], 2)
        assert files(tmp_path) == {"text.star"}

    def test_what_the_engine_refuses_leaves_nothing(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        engine.failure = InputError("stack.mrcs: every image is\nconstant.")
        line = fails(capsys, ["align", stack, "-o", tmp_path / "a" / "out"], 2)
        assert line == "Error: stack.mrcs: every image is constant."
        assert files(tmp_path) == {"stack.mrcs"}
        assert engine.closed

    def test_outputs_that_cannot_be_written(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "this is a file" in fails(capsys, ["align", stack, "-o", stack], 2)
        assert "cannot be made" in fails(capsys, ["align", stack, "-o", stack / "x"], 2)
        assert "this is a file" in fails(capsys, ["train", stack, "-o", stack], 2)
        assert files(tmp_path) == {"stack.mrcs"}

    def test_output_over_the_input(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        assert main(["align", str(stack), "-o", str(out)]) == 0
        before = (out / names.PARTICLES).read_bytes()
        assert "overwrite this input" in fails(capsys, ["align", out / names.PARTICLES, "-o", out], 2)
        assert (out / names.PARTICLES).read_bytes() == before


class TestTrain:
    @pytest.mark.parametrize(
        ("target", "written"),
        [
            ("model", {"model", "model/model.json", "model/model.safetensors"}),
            ("m/mine.safetensors", {"m", "m/mine.json", "m/mine.safetensors"}),
        ],
    )
    def test_writes_a_model(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, target: str, written: set[str]
    ) -> None:
        for _ in range(2):  # a second training replaces the first model
            assert main(["train", str(stack), "-o", str(tmp_path / target)]) == 0
            assert files(tmp_path) == {"stack.mrcs", *written}

    def test_interrupted_training_resumes(self, engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
        command = ["train", str(stack), "-o", str(tmp_path / "model")]
        engine.failure = KeyboardInterrupt()
        assert main(command) == 130
        engine.failure = None
        assert main([*command, "--resume"]) == 0
        assert engine.calls[-1]["resume"] is True
        assert not (tmp_path / "model" / ".checkpoint").exists()


class TestInfo:
    def test_particles(self, stack: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(stack)]) == 0
        facts = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
        assert facts["particles"] == "12"
        assert facts["box"] == "16 px (40 A)"
        assert facts["format"] == "MRC stack"

    def test_star(self, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(shared_data / "real2d" / "sample_particles_relion31.star")]) == 0
        text = capsys.readouterr().out
        assert "RELION STAR (3.1 or 4)" in text
        assert "rlnCoordinateX" in text

    def test_output_and_model(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        main(["align", str(stack), "-o", str(out)])
        capsys.readouterr()
        assert main(["info", str(out)]) == 0
        text = capsys.readouterr().out
        assert "12, 11 in a class, 2 flagged" in text
        assert "12.5 A, 12.5 A, -" in text
        assert main(["info", str(out / "model.json")]) == 0
        assert "content         8" in capsys.readouterr().out

    def test_neither(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "neither a finished run nor a model" in fails(capsys, ["info", tmp_path], 2)

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        import napari_harmony

        assert main(["--version"]) == 0
        assert capsys.readouterr().out.strip() == f"napari-harmony {napari_harmony.__version__}"


class TestTiltRange:
    def test_a_tilt_range_is_taken_for_the_wedge(self, engine: FakeEngine, tmp_path: Path) -> None:
        folder = tmp_path / "boxes"
        folder.mkdir()
        for number, volume in enumerate(np.random.default_rng(0).normal(size=(12, BOX, BOX, BOX))):
            write_volume(folder / f"box_{number:02d}.mrc", volume, PIXEL_SIZE)
        command = ["align", str(folder), "-o", str(tmp_path / "out"), "--tilt-range", "-50", "62.5"]
        assert main(command) == 0
        assert engine.calls[0]["particles"].wedge == TiltRange(-50, 62.5)

    def test_images_have_none(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["align", str(stack), "-o", str(tmp_path / "out"), "--tilt-range", "-50", "60"]) == 2
        assert "images, which have no tilt range" in capsys.readouterr().err
