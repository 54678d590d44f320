"""Fixtures for tests of the engine on subtomograms."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def brief(brief_volume_training: None) -> None:
    """Every module here trains briefly, unless it is marked ``trains``."""
