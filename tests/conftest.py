"""Fixtures that all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    _keep_out_of_the_home_folder(config)
    config.addinivalue_line("markers", "trains: modules whose runs on subtomograms train the network for its full time")


def _keep_out_of_the_home_folder(config: pytest.Config) -> None:
    """napari's settings, the last settings of a run and the model library of all tests are in a temporary folder."""
    folder = tempfile.TemporaryDirectory(prefix="napari-harmony-tests-")
    config.add_cleanup(folder.cleanup)
    # napari reads the variable when its settings are imported
    os.environ["NAPARI_CONFIG"] = str(Path(folder.name) / "settings.yaml")
    os.environ["NAPARI_HARMONY_MODELS"] = str(Path(folder.name) / "models")


@pytest.fixture(autouse=True)
def own_library(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each test begins with an empty model library and no settings of an earlier run."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NAPARI_HARMONY_MODELS", str(folder / "models"))
    monkeypatch.setattr("napari_harmony.widgets._remembered.remembered_file", lambda: folder / "last-run.json")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real test data are not there ({folder} does not exist)")
    return folder


@pytest.fixture(scope="module")
def brief_volume_training(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs on subtomograms train for two passes: poses and classes come from the search, so tests need no more."""
    if request.node.get_closest_marker("trains") is not None:
        yield
        return
    from napari_harmony.engine.volumes import learning

    with pytest.MonkeyPatch.context() as patch:
        for preset in learning.STEPS:
            patch.setitem(learning.STEPS, preset, 2)
        yield
