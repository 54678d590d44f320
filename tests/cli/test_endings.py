"""How commands end when something goes wrong: one line, the right code, and what was there before is there still."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_run import BOX, FakeEngine

from napari_harmony.cli import main
from napari_harmony.errors import InferenceError
from napari_harmony.outputs import load_output, names
from napari_harmony.particles.mrc import write_stack


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


class TestFailures:
    def test_failed_run_says_one_line_and_keeps_the_earlier_result(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        assert main(["align", str(stack), "-o", str(out)]) == 0
        before = {name: (out / name).read_bytes() for name in files(out)}
        engine.failure = InferenceError("The memory of the device is exhausted.")
        assert fails(capsys, ["align", stack, "-o", out, "--classes", "2"], 1) == f"Error: {engine.failure}"
        assert {name: (out / name).read_bytes() for name in before} == before

    def test_unexpected_error_points_to_debug(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        engine.failure = ZeroDivisionError("oops")
        command = ["align", str(stack), "-o", str(tmp_path / "out")]
        assert "ZeroDivisionError: oops" in fails(capsys, command, 1)
        with pytest.raises(ZeroDivisionError):
            main([*command, "--debug"])

    def test_run_without_a_result_is_a_failure(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from napari_harmony.engine import api

        api.align = lambda *a, **k: iter(())
        assert "without a result" in fails(capsys, ["align", stack, "-o", tmp_path / "out"], 1)
        assert not (tmp_path / "out").exists()

    def test_interrupt(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        engine.failure = KeyboardInterrupt()
        assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 130
        assert engine.closed
        error = capsys.readouterr().err
        assert error.splitlines()[-2:] == ["The same command with --resume continues this run.", "Interrupted."]
        kept = {"run.json", "state.safetensors", "live", "live/status.json"}
        assert files(tmp_path / "out") == {".checkpoint", *(f".checkpoint/{name}" for name in kept)}

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
    def test_terminated(self, engine: FakeEngine, stack: Path, tmp_path: Path) -> None:
        before = signal.getsignal(signal.SIGTERM)
        engine.on_event = lambda: os.kill(os.getpid(), signal.SIGTERM)
        assert main(["align", str(stack), "-o", str(tmp_path / "out")]) == 143
        assert engine.closed
        assert signal.getsignal(signal.SIGTERM) is before
        assert ".checkpoint/state.safetensors" in files(tmp_path / "out")

    def test_full_disk(
        self,
        engine: FakeEngine,
        stack: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(path: Path, *rest: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr("napari_harmony.outputs.folder.write_frc", fail)
        line = fails(capsys, ["align", stack, "-o", tmp_path / "out"], 1)
        assert line.endswith("frc.csv: No space left on device.")
        assert not (tmp_path / "out" / names.SUMMARY).exists()

    @pytest.mark.parametrize("options", [[], ["--json-progress"]])
    def test_a_run_whose_reader_has_gone_is_still_a_success(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
    ) -> None:
        class Gone(io.StringIO):
            def write(self, text: str) -> int:
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        monkeypatch.setattr(sys, "stdout", Gone())
        assert main(["align", str(stack), "-o", str(tmp_path / "out"), *options]) == 0
        assert load_output(tmp_path / "out").classes == 3


class TestResume:
    @pytest.fixture
    def interrupted(self, engine: FakeEngine, stack: Path, tmp_path: Path) -> list[str]:
        """The command of a run that was interrupted."""
        command = ["align", str(stack), "-o", str(tmp_path / "out"), "--classes", "3"]
        engine.failure = KeyboardInterrupt()
        assert main(command) == 130
        engine.failure = None
        return command

    def test_continues_and_cleans_up(
        self, engine: FakeEngine, interrupted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*interrupted, "--resume", "--device", "cpu"]) == 0
        assert engine.calls[-1]["resume"] is True
        assert engine.calls[-1]["checkpoint"] == tmp_path / "out" / ".checkpoint"
        assert "Continuing" in capsys.readouterr().err
        assert not (tmp_path / "out" / ".checkpoint").exists()

    def test_without_the_option_starts_again(self, engine: FakeEngine, interrupted: list[str], tmp_path: Path) -> None:
        engine.on_event = lambda: None
        assert main(interrupted) == 0
        assert engine.calls[-1]["resume"] is False

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--classes", "5"], "the interrupted run had classes 3, not 5"),
            (["--seed", "5"], "had seed 0, not 5"),
            (["--max-shift", "5"], "had max shift auto, not 5.0"),
            (["--pixel-size", "9"], "had pixel size 2.5, not 9.0"),
        ],
    )
    def test_other_settings_are_refused(
        self,
        engine: FakeEngine,
        interrupted: list[str],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        options: list[str],
        sentence: str,
    ) -> None:
        before = files(tmp_path)
        assert sentence in fails(capsys, [*interrupted, "--resume", *options], 2)
        assert files(tmp_path) == before

    def test_changed_input_is_refused(
        self, engine: FakeEngine, interrupted: list[str], stack: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_stack(stack, np.ones((12, BOX, BOX), np.float32), 2.5)
        os.utime(stack, ns=(1, 1))
        assert "the file has changed" in fails(capsys, [*interrupted, "--resume"], 2)

    def test_killed_before_anything_was_saved_starts_from_the_beginning(
        self, engine: FakeEngine, interrupted: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "out" / ".checkpoint" / "state.safetensors").unlink()
        assert main([*interrupted, "--resume"]) == 0
        assert engine.calls[-1]["resume"] is False

    def test_nothing_to_resume_starts_from_the_beginning(
        self, engine: FakeEngine, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["align", str(stack), "-o", str(tmp_path / "out"), "--resume"]) == 0
        assert engine.calls[-1]["resume"] is False
        assert "no interrupted run" in capsys.readouterr().err


def run(arguments: Sequence[object], **options: object) -> subprocess.CompletedProcess[str]:
    code = "from napari_harmony.cli import console; console()"
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], text=True, **options)  # type: ignore


@pytest.mark.skipif(os.name == "nt", reason="descriptors are closed in the POSIX way")
class TestClosedStreams:
    def test_broken_pipe_is_quiet_and_no_success(self, stack: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        done = run(["info", stack], stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        assert done.returncode == 1
        assert done.stderr == ""

    def test_full_disk_behind_standard_output(self, stack: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        with open("/dev/full", "w") as full:
            done = run(["info", stack], stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: standard output cannot be written")

    @pytest.mark.parametrize("descriptor", [1, 2])
    def test_closed_descriptor(self, stack: Path, tmp_path: Path, descriptor: int) -> None:
        log = tmp_path / "log"
        with log.open("w") as file:
            done = run(
                ["info", stack.with_name("none.star")],
                stdout=file,
                stderr=file,
                preexec_fn=lambda: os.close(descriptor),
            )
        assert done.returncode == 2
        assert ("does not exist" in log.read_text()) == (descriptor == 1)
