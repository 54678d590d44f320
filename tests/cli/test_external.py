"""``napari-harmony relion``: what RELION's pipeline sees of an External job, with and without RELION."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_run
import numpy as np
import pytest
from fake_run import BOX, PIXEL_SIZE, FakeEngine

from napari_harmony.cli import main
from napari_harmony.cli.external import ABORT_NOW, ABORTED, FAILURE, SUCCESS
from napari_harmony.errors import InferenceError
from napari_harmony.outputs import names
from napari_harmony.outputs.relion_nodes import OUTPUT_NODES, PIPELINE
from napari_harmony.particles import open_particles
from napari_harmony.particles.mrc import write_stack
from napari_harmony.particles.relion import write_relion
from napari_harmony.particles.star import read_star

JOB = "External/job001/"
EMPTY_PIPELINE = "\n# version 30001\n\ndata_pipeline_general\n\n_rlnPipeLineJobCounter                       1\n\n"
ARGUMENTS = ("relion", "--o", JOB, "--in_parts", "Extract/job001/particles.star")


def make_project(folder: Path, count: int = 12, box: int = BOX) -> None:
    """A RELION project with a star file of extracted particles."""
    (folder / "Extract/job001").mkdir(parents=True)
    (folder / PIPELINE).write_text(EMPTY_PIPELINE)
    images = np.random.default_rng(0).normal(size=(count, box, box)).astype(np.float32)
    write_stack(folder / "Extract/job001/stack.mrcs", images, PIXEL_SIZE)
    particles = open_particles(folder / "Extract/job001/stack.mrcs")
    write_relion(folder / "Extract/job001/particles.star", particles, {}, place=folder)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, a project of twelve particles."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    return tmp_path


def markers(project: Path) -> list[str]:
    return sorted(path.name for path in (project / JOB).iterdir() if path.name.startswith("RELION_JOB"))


class TestEntry:
    def test_a_finished_job_names_its_results(
        self, engine: FakeEngine, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([*ARGUMENTS, "--classes", "4", "--max_shift", "20", "--j", "3"]) == 0
        assert markers(project) == [SUCCESS]
        nodes = read_star(project / JOB / OUTPUT_NODES).table("output_nodes")
        assert nodes is not None
        listed = dict(zip(nodes.texts("rlnPipeLineNodeName"), nodes.texts("rlnPipeLineNodeType"), strict=True))
        _, model, optimiser, _ = names.RELION_JOB
        assert listed == {f"{JOB}{names.PARTICLES}": "3", f"{JOB}{optimiser}": "9", f"{JOB}{model}": "8"}
        assert all(Path(name).is_file() for name in listed)
        settings = engine.calls[0]["settings"]
        assert (settings.classes, settings.max_shift) == (4, 20.0)
        assert os.environ["OMP_NUM_THREADS"] == "3"
        printed = capsys.readouterr()
        assert "search: 10 %" in printed.out
        assert printed.err == ""  # RELION shows it in red

    @pytest.mark.parametrize(
        ("word", "label"),
        [
            ("ParticlesData.star.relion", "ProcessData.star.relion.optimiser.class2d"),
            ("ParticleGroupMetadata.star.relion", "OptimiserData.star.relion.class2d"),
        ],
    )
    def test_later_versions_get_the_words_of_their_own_pipeline(
        self, engine: FakeEngine, project: Path, word: str, label: str
    ) -> None:
        nodes = "data_pipeline_nodes\n\nloop_\n_rlnPipeLineNodeName #1\n_rlnPipeLineNodeTypeLabel #2\n"
        (project / PIPELINE).write_text(f"{EMPTY_PIPELINE}{nodes}{ARGUMENTS[-1]} {word}.extract\n\n")
        assert main([*ARGUMENTS, "--j", "1"]) == 0
        table = read_star(project / JOB / OUTPUT_NODES).table("output_nodes")
        assert table is not None
        assert table.texts("rlnPipeLineNodeTypeLabel") == [word, label]
        assert "rlnPipeLineNodeType" not in table

    def test_a_failed_run(self, engine: FakeEngine, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        engine.failure = InferenceError("The memory of the device is exhausted.")
        assert main([*ARGUMENTS, "--j", "1"]) == 1
        assert markers(project) == [FAILURE]
        assert not (project / JOB / OUTPUT_NODES).exists()
        assert capsys.readouterr().err == f"Error: {engine.failure}\n"

    @pytest.mark.parametrize(
        ("more", "sentence"),
        [
            (["--in_parts", "none.star"], "none.star does not exist"),
            (["--classes", "many"], "--classes is 'many'"),
            (["--unheard", "of"], "--unheard"),
            (["--in_mask", "mask.mrc"], "give a parameter 'mask_diameter'"),
            (["--in_mics", "micrographs.star"], "leave 'Input micrographs' empty"),
            (["--j", "some"], "--j"),
        ],
    )
    def test_what_cannot_be_used_is_a_failure_that_relion_sees(
        self, engine: FakeEngine, project: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
    ) -> None:
        assert main([*ARGUMENTS, *more]) == 2
        assert markers(project) == [FAILURE]
        assert sentence in capsys.readouterr().err

    @pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["usual", "in background"])
    def test_the_request_to_abort_is_heeded_and_continuing_resumes(
        self, engine: FakeEngine, project: Path, handler: Any
    ) -> None:
        def ask() -> None:
            (project / JOB / ABORT_NOW).touch()
            time.sleep(30)

        engine.on_event = ask
        before = signal.signal(signal.SIGINT, handler)
        try:
            assert main([*ARGUMENTS, "--j", "1"]) == 130
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, before)
        assert engine.closed
        assert markers(project) == [ABORTED]
        engine.on_event = None
        assert main([*ARGUMENTS, "--j", "1"]) == 0
        assert engine.calls[-1]["resume"] is True
        assert markers(project) == [SUCCESS]

    def test_an_old_request_does_not_stop_the_next_run(self, engine: FakeEngine, project: Path) -> None:
        (project / JOB).mkdir(parents=True)
        (project / JOB / ABORT_NOW).touch()
        (project / JOB / FAILURE).touch()
        assert main([*ARGUMENTS, "--j", "1", "--pipeline_control", JOB]) == 0
        assert markers(project) == [SUCCESS]

    def test_help_and_a_missing_folder(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["relion", "--help"]) == 0
        assert "--in_parts" in capsys.readouterr().out
        assert main(["relion", "--in_parts", "particles.star"]) == 2
        assert "--o is missing" in capsys.readouterr().err


#: The program as RELION would start it, on an engine that answers at once.
EXECUTABLE = """#!{python}
import sys
from types import ModuleType
sys.path.insert(0, '{support}')
from fake_run import FakeEngine
from napari_harmony.cli import main
module = sys.modules["napari_harmony.engine.api"] = ModuleType("napari_harmony.engine.api")
module.align = FakeEngine().align
import napari_harmony.engine
napari_harmony.engine.api = module
sys.exit(main(["relion", *sys.argv[1:]]))
"""


def relion(project: Path, program: str, *arguments: str) -> str:
    """What one of RELION's programs prints in the project."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *arguments], cwd=project, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def add_job(project: Path, kind: str, **options: object) -> None:
    """Schedule a job in RELION's pipeline."""
    given = ";".join(f"{name} == {value}" for name, value in options.items())
    relion(project, "relion_pipeliner", "--addJob", kind, "--addJobOptions", given)


def run_jobs(project: Path, *jobs: str) -> None:
    """Run scheduled jobs, one after the other."""
    relion(project, "relion_pipeliner", "--schedule", "test", "--sec_wait_after", "0", "--RunJobs", " ".join(jobs))


def pipeline(project: Path, block: str) -> list[Sequence[str]]:
    """The rows of a table of RELION's pipeline."""
    table = read_star(project / PIPELINE).table(block)
    assert table is not None
    return list(zip(*(table.texts(label) for label in table.labels), strict=True))


def test_relion_runs_it_in_its_pipeline_and_the_next_job_takes_the_particles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELION 3.1: scheduled, run, listed as finished with its output, which a following job selects from."""
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, count=40)
    executable = tmp_path / "harmony.py"
    executable.write_text(EXECUTABLE.format(python=sys.executable, support=Path(fake_run.__file__).parent))
    executable.chmod(0o755)
    parameters = {"param1_label": "classes", "param1_value": 2, "param2_label": "resume", "param2_value": ""}
    particles = ARGUMENTS[-1]
    add_job(tmp_path, "External", fn_exe=executable, in_part=particles, **parameters)
    run_jobs(tmp_path, JOB)
    log = (tmp_path / JOB / "run.err").read_text()
    assert markers(tmp_path) == [SUCCESS], log
    assert "particles" in (tmp_path / JOB / "run.out").read_text()
    finished = {row[0]: row[3] for row in pipeline(tmp_path, "pipeline_processes")}
    assert finished[JOB] == "2"  # RELION's number for success
    outputs = {row[1] for row in pipeline(tmp_path, "pipeline_output_edges") if row[0] == JOB}
    assert f"{JOB}{names.PARTICLES}" in outputs
    inputs = pipeline(tmp_path, "pipeline_input_edges")
    assert (particles, JOB) in inputs
    select = {"do_select_values": "Yes", "select_label": "rlnClassNumber", "select_minval": 2, "select_maxval": 2}
    add_job(tmp_path, "Select", fn_data=f"{JOB}{names.PARTICLES}", **select)
    run_jobs(tmp_path, "Select/job002/")
    assert (f"{JOB}{names.PARTICLES}", "Select/job002/") in pipeline(tmp_path, "pipeline_input_edges")
    selected = open_particles(tmp_path / "Select/job002/particles.star")
    whole = open_particles(tmp_path / JOB / names.PARTICLES)
    assert 0 < len(selected) == (whole.table["rlnClassNumber"] == 2).sum()
