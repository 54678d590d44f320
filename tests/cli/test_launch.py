"""Jobs in two processes: the same result as of one, and an end with a sentence where one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from napari_harmony.cli import launch, main
from napari_harmony.cli.launch import Crew, crew_of, speaks
from napari_harmony.engine.processes import STARTED, Place
from napari_harmony.errors import InferenceError, InputError, TeamBroken
from napari_harmony.outputs import load_output, names
from napari_harmony.outputs.summary import read_summary

PROGRAM = "from napari_harmony.cli import console; console()"
OPTIONS = ("--classes", "2", "--preset", "fast", "--device", "cpu")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
def test_a_killed_process_ends_the_job_and_resuming_gives_what_one_process_gives(
    drawn_stack: Path, tmp_path: Path
) -> None:
    import psutil

    out, alone = tmp_path / "out", tmp_path / "alone"
    command = ("align", drawn_stack, "-o", out, *OPTIONS, "--devices", "2")
    killed = start(*command)
    wait_for(out / names.CHECKPOINT / "search.safetensors", killed)
    (other,) = psutil.Process(killed.pid).children()
    other.send_signal(signal.SIGKILL)
    said, complaint = killed.communicate(timeout=200)
    assert killed.returncode == 1 and said == ""
    assert complaint.splitlines()[-1] == (
        "Error: Process 2 of 2 ended unexpectedly; run the same command with --resume."
    )
    assert not (out / names.SUMMARY).exists()
    resumed = start(*command, "--resume")
    complaint = resumed.communicate(timeout=200)[1]
    assert resumed.returncode == 0 and "Continuing the interrupted run" in complaint
    assert main(["align", str(drawn_stack), "-o", str(alone), *OPTIONS]) == 0
    assert read_summary(out / names.SUMMARY)["processes"] == 2
    one, two = load_output(alone).table, load_output(out).table
    assert (one["class_number"] == two["class_number"]).mean() >= 0.98
    turned = (one["psi"] - two["psi"] + 180) % 360 - 180
    assert turned.abs().median() < 0.1 and (one["origin_x"] - two["origin_x"]).abs().median() < 0.1


def test_an_input_that_cannot_be_used_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.star")
    assert main(["align", missing, "-o", str(tmp_path / "out"), "--device", "cpu", "--devices", "2"]) == 2
    complaint = capfd.readouterr().err
    assert complaint.count("none.star") == 1 and len(complaint.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (("cpu", "none"), {}, "--devices is 'none'"),
        (("cuda:1", "2"), {}, "choose auto, cpu or cuda"),
        (("cpu", "1", 2), {}, "srun or torchrun"),
        (("cpu", "1", 2), {"NODE_RANK": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "number the 2 nodes from 0"),
        (("cpu", "3"), {**TORCHRUN, "RANK": "0"}, "leave out --devices"),
        (("cpu", "2", 3), {**TORCHRUN, "RANK": "0"}, "leave out --devices"),
    ],
)
def test_processes_that_cannot_be_are_refused(
    options: tuple[str, ...], environment: Mapping[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=words), crew_of(*options):
        pytest.fail("the block must not begin")


def test_processes_that_others_started_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, "RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    with crew_of("cpu") as crew:
        assert crew.place == Place("torchrun", 3, 2, 2) and not crew.first and not crew.children


def test_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a node that shares its files with the first process, only what is new."""
    assert speaks(InputError("x"))
    for name, value in {**TORCHRUN, "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert not speaks(InputError("x")) and not speaks(KeyboardInterrupt()) and speaks(InferenceError("x"))
    monkeypatch.setenv("RANK", "2")  # the first of the second node, where files may be missing
    assert speaks(InputError("x"))


def test_a_process_without_its_parent_says_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("ourselves", 3, 2, 2)
    crew = Crew(place, "cpu", parent=os.getppid())
    assert crew.lost() is None and crew.missing(0.0) is None  # it is left to the parent
    orphan = Crew(place, "cpu", parent=os.getppid() + 1)
    assert orphan.missing(0.0) == "Process 3 of 4 ended unexpectedly; run the same command with --resume."


def test_one_of_the_others_leaves_its_end_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_LEAVE", 0.0)
    ours = {STARTED: "1", "LOCAL_WORLD_SIZE": "2", "NAPARI_HARMONY_NODES": "1", "NODE_RANK": "0", "LOCAL_RANK": "1"}
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit), crew_of("cpu"):
        raise TeamBroken("somebody")


def test_processes_that_were_started_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    monkeypatch.setattr(launch, "_PROGRAM", "import time; time.sleep(60)")
    with pytest.raises(ZeroDivisionError), crew_of("cpu", "3") as crew:
        assert crew.place == Place("ourselves", 0, 3, 1) and len(crew.children) == 2
        raise ZeroDivisionError
    assert all(child.returncode == -signal.SIGTERM for child in crew.children)
    assert dict(os.environ) == before
