"""Fixtures that all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

#: napari's settings and everything beside them are in a temporary folder: napari reads the variable when its settings
#: are first imported, which the other conftest files do.
_HOME = tempfile.TemporaryDirectory(prefix="napari-harmony-tests-")
os.environ["NAPARI_CONFIG"] = str(Path(_HOME.name) / "settings.yaml")
os.environ["NAPARI_HARMONY_CACHE"] = str(Path(_HOME.name) / "cache")

#: Fixtures that open windows.
_WINDOWED = {"make_napari_viewer", "qtbot", "qapp"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "trains: modules whose runs on subtomograms train the network for its full time")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes: those with windows come first, in one process, as the screen is one.

    The others stay together by file, for the sake of what a file makes once.
    """
    windowed = {item.path for item in items if _WINDOWED.intersection(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in windowed)
    for item in items:
        group = "windows" if item.path in windowed else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_unconfigure() -> None:
    _HOME.cleanup()


@pytest.fixture(autouse=True)
def own_library(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each test begins with an empty model library and no settings of an earlier run."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NAPARI_HARMONY_MODELS", str(folder / "models"))
    monkeypatch.setattr("napari_harmony.library.BUNDLED", folder / "bundled")
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
    from napari_harmony.engine.volumes import plans

    with pytest.MonkeyPatch.context() as patch:
        for preset in plans.STEPS:
            patch.setitem(plans.STEPS, preset, 2)
        yield
