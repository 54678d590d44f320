"""A disk that fills up in the middle of a run: one sentence, what was kept stays whole, and resuming ends the run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open

from napari_harmony.cli import main
from napari_harmony.outputs import load_output, names

OPTIONS = ("--classes", "2", "--preset", "fast", "--device", "cpu")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for what the search found, but not for the state of a training."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mounting, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_goes_on_when_there_is_room_again(
    drawn_stack: Path, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, alone = small_disk / "out", tmp_path / "alone"
    command = ["align", str(drawn_stack), "-o", str(out), *OPTIONS]
    assert main(command) == 1
    complaint = capfd.readouterr().err.splitlines()[-1]
    assert "the disk is full" in complaint and "make room" in complaint
    assert not (out / names.SUMMARY).exists()
    checkpoint = out / names.CHECKPOINT
    assert not list(checkpoint.glob("*.part")) and not (checkpoint / "training.safetensors").exists()
    with safe_open(str(checkpoint / "search.safetensors"), "pt") as kept:
        assert len(list(kept.keys()))
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert main([*command, "--resume"]) == 0
    assert main(["align", str(drawn_stack), "-o", str(alone), *OPTIONS]) == 0
    pd.testing.assert_frame_equal(load_output(out).table, load_output(alone).table)
