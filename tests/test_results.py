"""What a result says about itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_harmony.results import COLUMNS, Result, columns_of, content_columns


@pytest.fixture
def result() -> Result:
    table = pd.DataFrame({name: np.zeros(6) for name in COLUMNS})
    table["class_number"] = [1, 2, 2, 0, 4, 2]
    table["flags"] = ["", "junk", "junk,shift-bound", "not-finite", "", ""]
    for code in (0, 1, 10, 2):
        table[f"content_{code}"] = np.full(6, float(code))
    blank = np.zeros((4, 3), np.float32)
    return Result(
        table=table,
        averages=np.zeros((4, 8, 8), np.float32),
        average_pixel_size=2.0,
        frc=blank,
        frc_floor=blank,
        frc_frequency=np.arange(3, dtype=np.float32),
        resolution=np.full(4, np.nan, np.float32),
        pixel_size=2.0,
        summary={"warnings": ["look here"]},
    )


def test_counts_cover_every_class_and_leave_out_the_unclassified(result: Result) -> None:
    assert result.counts.tolist() == [1, 3, 0, 1]
    assert result.members(2).tolist() == [1, 2, 5]
    assert result.members(0).tolist() == [3]


def test_content_codes_are_ordered_by_number_not_by_name(result: Result) -> None:
    assert content_columns(result.table.columns) == ["content_0", "content_1", "content_2", "content_10"]
    assert result.content[0].tolist() == [0.0, 1.0, 2.0, 10.0]
    assert result.content.dtype == np.float32


def test_flags_are_counted_word_by_word(result: Result) -> None:
    assert result.flagged.tolist() == [False, True, True, True, False, False]
    assert result.flag_counts == {"junk": 2, "shift-bound": 1, "not-finite": 1}


def test_missing_flags_count_as_none(result: Result) -> None:
    table = result.table.assign(flags=[None, "junk", np.nan, "", None, None])
    changed = result.with_table(table)
    assert changed.flagged.sum() == 1
    assert changed.flag_counts == {"junk": 1}


def test_warnings_come_from_the_summary(result: Result) -> None:
    assert result.warnings == ("look here",)


def test_dimensions_and_their_columns(result: Result) -> None:
    assert result.dimensions == 2
    assert columns_of(2) == COLUMNS
    volumes = replace(result, averages=np.zeros((4, 8, 8, 8), np.float32))
    assert volumes.dimensions == 3
    assert volumes.classes == 4
    assert {"rot", "tilt", "psi", "origin_z", "angle_spread"} <= set(columns_of(3))
    assert "psi_spread" not in columns_of(3)
