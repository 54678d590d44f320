"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "trains: modules whose runs on subtomograms train the network for its full time")


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
