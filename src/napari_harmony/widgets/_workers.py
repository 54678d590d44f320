"""napari's worker threads, so that several of them may overlap."""

from __future__ import annotations

import warnings
from typing import Any

from napari.qt.threading import FunctionWorker, GeneratorWorker


class _KeepsWarnings:
    """A worker that leaves ``warnings.showwarning`` as it was.

    superqt puts its own there while a worker runs, for the whole process, and puts the former back at the end. Of two
    workers that overlap, the second puts back that of the first, which is gone by then: the next warning anywhere
    would raise "wrapped C/C++ object has been deleted".
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._show_warning = warnings.showwarning

    def work(self) -> Any:
        """Do the work, with warnings shown as they are without a worker; napari shows them from any thread."""
        warnings.showwarning = self._show_warning
        return super().work()  # type: ignore[misc]


class FunctionInThread(_KeepsWarnings, FunctionWorker):
    """For ``create_worker(function, _worker_class=...)``."""


class GeneratorInThread(_KeepsWarnings, GeneratorWorker):
    """The same for a generator function."""
