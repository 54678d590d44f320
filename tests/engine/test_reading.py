"""Batches are read one ahead, in order, and what goes wrong comes when it is due."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from napari_harmony.engine.reading import read_ahead
from napari_harmony.errors import InputError


class Slow:
    """Images whose value is their row; every read is noted, and that of row 2 is announced."""

    def __init__(self, broken: int = -1) -> None:
        self.asked: list[int] = []
        self.broken, self.reading = broken, threading.Event()

    def read(self, rows: range) -> np.ndarray:
        self.asked.append(rows.start)
        assert threading.current_thread() is not threading.main_thread()
        if rows.start == self.broken:
            raise InputError("image 4 cannot be read.")
        if rows.start == 2:
            self.reading.set()
        return np.arange(rows.start, rows.stop, dtype=np.int16)[:, None, None] * np.ones((1, 2, 2))


BATCHES = [range(2), range(2, 4), range(4, 5)]


def test_batches_come_in_order_and_the_next_is_read_meanwhile() -> None:
    source = Slow()
    coming = read_ahead(source, BATCHES)  # type: ignore[arg-type]
    first = next(coming)
    assert source.reading.wait(5)  # nobody has asked for the second batch yet
    assert source.asked == [0, 2]
    assert first.dtype == np.float32 and first[:, 0, 0].tolist() == [0, 1]
    assert [batch[:, 0, 0].tolist() for batch in coming] == [[2, 3], [4]]
    assert list(read_ahead(source, [])) == []  # type: ignore[arg-type]


def test_what_goes_wrong_is_raised_when_the_batch_is_due() -> None:
    coming = read_ahead(Slow(broken=4), BATCHES)  # type: ignore[arg-type]
    assert [len(next(coming)), len(next(coming))] == [2, 2]
    with pytest.raises(InputError, match="image 4"):
        next(coming)


def test_who_stops_early_leaves_no_thread() -> None:
    source = SimpleNamespace(read=lambda rows: np.zeros((len(rows), 2, 2)))
    coming = read_ahead(source, BATCHES)  # type: ignore[arg-type]
    next(coming)
    coming.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reading")]
