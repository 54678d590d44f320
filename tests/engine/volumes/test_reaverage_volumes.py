"""Averages of subtomograms once more, in the poses that a run found."""

from __future__ import annotations

import numpy as np
from engine_data import run
from volume_data import example, subtomograms

from napari_harmony.edits import Merge, apply_edit, due_averages, recompute
from napari_harmony.engine import api


def test_classes_that_nobody_edited_average_to_what_the_run_gave() -> None:
    result = example().value
    wanted = tuple(int(number) for number in np.flatnonzero(result.counts) + 1)
    again = run(api.average_classes(subtomograms().particles, result, wanted, device="cpu")).value
    for number, average in zip(wanted, again.averages, strict=True):
        assert np.corrcoef(average.ravel(), result.averages[number - 1].ravel())[0, 1] > 0.97
    assert again.frc.shape == (len(wanted), result.frc.shape[1])
    assert again.half_averages.shape == (2, *again.averages.shape)


def test_merged_classes_of_a_run_have_halves_that_are_written_like_those_of_a_run() -> None:
    result = example().value
    one, two = (int(number) for number in (np.flatnonzero(result.counts) + 1)[:2])
    merged = apply_edit(result, Merge((one, two)))
    done = run(recompute(subtomograms().particles, merged, device="cpu")).value
    assert due_averages(done) == () and done.counts[one - 1] == result.counts[[one - 1, two - 1]].sum()
    assert result.half_averages is not None and done.half_averages is not None
    assert done.half_averages.shape == result.half_averages.shape
    assert done.half_averages[:, one - 1].std() > 0 and not done.half_averages[:, two - 1].any()
