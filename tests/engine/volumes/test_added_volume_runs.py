"""Whole runs of subtomograms with further objectives: classes and poses stay, codes change, models are saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from engine_data import run
from volume_data import example, subtomograms

from napari_harmony.additions import ADDITIONS, additions_of
from napari_harmony.engine import api, schedule
from napari_harmony.engine.settings import Settings
from napari_harmony.models import HarmonyModel
from napari_harmony.results import content_columns


def test_subtomograms_keep_classes_and_poses_whatever_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(schedule.ADDED_STEPS, "fast", 2)
    settings = Settings(classes=3, preset="fast")
    added = run(api.align(subtomograms().particles, replace(settings, additions=additions_of(",".join(ADDITIONS)))))
    one, two = example().value.table, added.value.table
    codes = content_columns(one.columns)
    pd.testing.assert_frame_equal(one.drop(columns=codes), two.drop(columns=codes), check_exact=True)
    assert not one[codes].equals(two[codes])
    added.model.save(tmp_path)
    assert HarmonyModel.load(tmp_path).card.additions == tuple(ADDITIONS)
