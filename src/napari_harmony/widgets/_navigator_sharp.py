"""Sharp pictures of the navigator, drawn in a thread, one at a time; of several asked for, the last one counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_harmony.session import Session
from napari_harmony.widgets._navigator_work import draw_sharp
from napari_harmony.widgets._runner import Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_harmony.engine.events import Done


@dataclass(frozen=True, eq=False)
class _Request:
    model: Any
    code: NDArray[np.floating]

    def is_same(self, other: _Request) -> bool:
        return self.model is other.model and np.array_equal(self.code, other.code)


class SharpPicture(QObject):
    """Draws by the diffusion decoder without holding up the window.

    Signals
    -------
    drawn(code, picture) : what was asked for last is there
    failed(Exception) : it could not be drawn
    """

    drawn = Signal(object, object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._work = Session()  # the state of this work alone
        self.runner = Runner(self._work)
        self.runner.done.connect(self._on_done)
        self.runner.failed.connect(self.failed)
        self._wanted: _Request | None = None
        self._at: _Request | None = None
        self._latest: tuple[_Request, NDArray[np.float32]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a picture is being drawn."""
        return self._work.state.busy

    def ask(self, model: Any, code: NDArray[np.floating]) -> None:
        """Draw a code (d,); ``drawn`` follows unless another one is asked for before."""
        request = _Request(model, code)
        if self._latest is not None and self._latest[0].is_same(request):
            self._wanted = None
            self.drawn.emit(code, self._latest[1])
        elif self._wanted is None or not self.busy or not self._wanted.is_same(request):
            self._wanted = request
            if not self.busy:
                self._start()

    def abandon(self) -> None:
        """Nothing is wanted any more."""
        self._wanted = None
        self.runner.abandon()

    def _start(self) -> None:
        assert self._wanted is not None
        self._at = self._wanted
        self.runner.submit(partial(draw_sharp, self._at.model, self._at.code))

    def _on_done(self, done: Done) -> None:
        if self._wanted is None:
            return
        if self._wanted is not self._at:  # two pictures at once would take twice as long each
            self._start()
            return
        self._latest = self._wanted, done.value
        self.drawn.emit(self._wanted.code, done.value)
