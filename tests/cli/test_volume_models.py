"""Models of subtomograms on the command line: trained, applied, described."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from fake_run import FakeEngine, FakeModel

from napari_harmony.cli.main import main


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A folder of twelve volumes of noise."""
    folder = tmp_path / "cut"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=(12, 12, 12, 12)).astype(np.float32)
    for number, volume in enumerate(noise):
        with mrcfile.new(folder / f"{number:02d}.mrc") as file:
            file.set_data(volume)
            file.voxel_size = 10.0
    return folder


def test_a_model_is_trained_and_applied(engine: FakeEngine, volumes: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    limits = ["--start", "input", "--local-search", "12", "--symmetry", "C2", "--reference", "one.mrc"]
    assert main(["train", str(volumes), "-o", str(model), *limits]) == 0
    settings = engine.calls[0]["settings"]
    assert (settings.start, settings.local_search, settings.symmetry) == ("input", 12.0, "C2")
    assert settings.references == ("one.mrc",)
    assert main(["apply", str(model), str(volumes), "-o", str(out), "--symmetry", "C2"]) == 0
    assert isinstance(engine.calls[1]["model"], FakeModel) and engine.calls[1]["settings"].symmetry == "C2"
    assert (out / "particles.star").is_file() and "hrmContent0" in (out / "particles.star").read_text()
    assert main(["align", str(volumes), "-o", str(tmp_path / "again"), "--model", str(model)]) == 0
    assert isinstance(engine.calls[2]["model"], FakeModel)


@pytest.mark.parametrize(("entry", "kind"), [({}, "images"), ({"dimensions": 3}, "subtomograms")])
def test_info_says_what_a_model_is_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: dict[str, int], kind: str
) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"format_version": 1, "box": 20, **entry}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"a model of napari-harmony, of {kind}" in said and ("dimensions" in said) == bool(entry)
