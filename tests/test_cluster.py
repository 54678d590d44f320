"""Batch scripts for a cluster."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from napari_harmony.cluster import Resources, memory_for, slurm_script
from napari_harmony.errors import InputError

COMMAND = "napari-harmony align '/data/my particles.star' -o /data/out --classes 20"


def options(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH ")]
    return dict(line.split("=", 1) for line in lines)


def test_the_script_asks_for_what_was_chosen() -> None:
    script = slurm_script(COMMAND, Path("/data/out"), Resources(4, 2, 24, 12, "gpu"), "my particles")
    found = options(script)
    assert found["cpus-per-task"] == "2" and found["gres"] == "gpu:2" and found["mem"] == "24G"
    assert found["nodes"] == "1" and found["ntasks-per-node"] == "2"
    assert found["time"] == "12:00:00" and found["partition"] == "gpu" and found["job-name"] == "my-particles"
    assert found["output"] == '"/data/out.log"'


def test_nothing_is_asked_for_that_is_not_wanted() -> None:
    found = options(slurm_script(COMMAND, Path("/data/out"), Resources(gpus=0)))
    assert "gres" not in found and "partition" not in found


def test_the_options_stand_before_the_first_command() -> None:
    lines = slurm_script(COMMAND, Path("/data/out"), Resources()).splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    first = min(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert lines[0].startswith("#!") and last < first


def test_a_shell_runs_exactly_the_command_and_continues_it(tmp_path: Path) -> None:
    program = tmp_path / "napari-harmony"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\n')
    program.chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(slurm_script(COMMAND, tmp_path / "out", Resources()))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "6"}
    said = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["6", *shlex.split(COMMAND)[1:], "--resume"]


def test_several_processes_are_started_by_srun(tmp_path: Path) -> None:
    program = tmp_path / "srun"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    script = slurm_script(COMMAND, tmp_path / "out", Resources(cores=8, gpus=2, nodes=3))
    (tmp_path / "job.sh").write_text(script)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "4"}
    run = subprocess.run(
        ["bash", str(tmp_path / "job.sh")], env=environment, capture_output=True, text=True, check=True
    )
    started = ["--kill-on-bad-exit=1", "--cpus-per-task=4", *shlex.split(COMMAND), "--resume"]
    assert run.stdout.splitlines() == started
    assert options(script)["nodes"] == "3" and options(script)["cpus-per-task"] == "4"
    # without graphics cards each node is one process with all its cores
    alone = options(slurm_script(COMMAND, tmp_path / "out", Resources(cores=8, gpus=0, nodes=2)))
    assert alone["ntasks-per-node"] == "1" and alone["cpus-per-task"] == "8"


def test_a_command_that_continues_already_is_left_alone() -> None:
    assert slurm_script(f"{COMMAND} --resume", Path("/data/out"), Resources()).count("--resume") == 1


@pytest.mark.parametrize("wrong", ['a"b', "50%", "new\nline", "back\\slash"])
def test_a_name_that_slurm_would_read_otherwise_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="choose another folder"):
        slurm_script(COMMAND, Path("/data") / wrong, Resources())


@pytest.mark.parametrize("wrong", [{"cores": 0}, {"gpus": -1}, {"memory": 0}, {"hours": 0}, {"partition": "a b; rm"}])
def test_resources_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Resources(**wrong)  # type: ignore[arg-type]


def test_memory_has_room_above_the_estimate() -> None:
    assert memory_for(0) == 4
    assert memory_for(10 * 2**30) == 15
    assert memory_for(10 * 2**30 + 1) == 16
