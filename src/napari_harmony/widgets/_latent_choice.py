"""What the latent plot shows along its axes and by its colours: the rows of boxes above the picture."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QWidget

from napari_harmony.analysis.embedding import umap_problem
from napari_harmony.results import content_columns
from napari_harmony.widgets._latent_colours import CLASS, COUNT, numbers_of, words_of

if TYPE_CHECKING:
    from napari_harmony.analysis.embedding import Embedding
    from napari_harmony.results import Result


class Plot(Enum):
    """What the axes are made of."""

    COMPONENTS = "content: principal components"
    UMAP = "content: UMAP"
    COLUMNS = "two columns of the table"


@dataclass(frozen=True)
class Axis:
    """One thing an axis can show: column ``key`` of the result, or ``number`` of the embedding."""

    title: str
    key: str = ""
    number: int = 0


class Choice(QWidget):
    """Boxes for the plot, its two axes, and its colours.

    Signals
    -------
    plot_changed(Plot) : other axes are to be offered
    axes_changed() : another axis was chosen
    colour_changed() : other colours were chosen
    """

    plot_changed = Signal(object)
    axes_changed = Signal()
    colour_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot_box, self.x_box, self.y_box, self.colour_box = (QComboBox() for _ in range(4))
        self.plot_box.setToolTip("What the axes are made of: the content codes of the particles, or two columns.")
        self.x_box.setToolTip("The horizontal axis.")
        self.y_box.setToolTip("The vertical axis.")
        self.colour_box.setToolTip("What the colours mean.")
        for plot in Plot:
            self.plot_box.addItem(plot.value[0].upper() + plot.value[1:], plot)
        self._offer(Plot.UMAP, umap_problem(), "needs umap-learn")
        self._arrange()
        self.plot_box.currentIndexChanged.connect(lambda _: self.plot_changed.emit(self.plot))
        self.x_box.currentIndexChanged.connect(lambda _: self.axes_changed.emit())
        self.y_box.currentIndexChanged.connect(lambda _: self.axes_changed.emit())
        self.colour_box.currentIndexChanged.connect(lambda _: self.colour_changed.emit())

    def _arrange(self) -> None:
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(4)
        rows = (("Plot", self.plot_box, 0, 0, 3), ("x", self.x_box, 1, 0, 1), ("y", self.y_box, 1, 2, 1))
        for text, box, row, column, span in (*rows, ("Colour", self.colour_box, 2, 0, 3)):
            label = QLabel(text)
            label.setBuddy(box)
            # long names of columns must not make the dock wide
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.setMinimumContentsLength(6)
            layout.addWidget(label, row, column)
            layout.addWidget(box, row, column + 1, 1, span)
        layout.setColumnStretch(1, 1)
        layout.setColumnStretch(3, 1)

    @property
    def plot(self) -> Plot:
        """What the axes are made of."""
        return self.plot_box.currentData()

    @property
    def axes(self) -> tuple[Axis, Axis] | None:
        """What the horizontal and the vertical axis show; None where there is nothing to choose from."""
        x, y = self.x_box.currentData(), self.y_box.currentData()
        return (x, y) if x is not None and y is not None else None

    @property
    def colour(self) -> str:
        """Key of what the colours mean."""
        return self.colour_box.currentData() or CLASS

    def set_plot(self, plot: Plot) -> None:
        """Choose a plot; ``plot_changed`` follows where it is another."""
        self.plot_box.setCurrentIndex(self.plot_box.findData(plot))

    def set_axes(self, x: str, y: str) -> None:
        """Choose axes by their titles or keys."""
        with QSignalBlocker(self.x_box):
            _choose(self.x_box, x)
        _choose(self.y_box, y)
        self.axes_changed.emit()

    def set_colour(self, key: str) -> None:
        """Choose what the colours mean by its key."""
        self.colour_box.setCurrentIndex(self.colour_box.findData(key))

    def offer_result(self, result: Result | None) -> None:
        """Offer what a result has; what was chosen stays where it is still there. Emits nothing."""
        codes = result is not None and bool(content_columns(result.table.columns))
        why = "" if codes or result is None else "this result has no content codes"
        with QSignalBlocker(self.plot_box):
            self._offer(Plot.COMPONENTS, why, why)
            self._offer(Plot.UMAP, why or umap_problem(), why or "needs umap-learn")
            if why and self.plot is not Plot.COLUMNS:
                self.set_plot(Plot.COLUMNS)
        colours: list[tuple[str, str]] = []
        if result is not None:
            columns = (c for c in (*words_of(result), *numbers_of(result)) if c.key != CLASS)
            colours = [("class", CLASS), *((c.heading, c.key) for c in columns), ("number of particles", COUNT)]
        _fill(self.colour_box, colours)
        for box in (self.plot_box, self.x_box, self.y_box, self.colour_box):
            box.setEnabled(result is not None)

    def offer_embedding(self, embedding: Embedding) -> None:
        """Offer the axes of an embedding. Emits nothing."""
        shares = embedding.shares or (None,) * len(embedding.names)
        titles = [n if s is None else f"{n} ({100 * s:.0f} %)" for n, s in zip(embedding.names, shares, strict=True)]
        self._offer_axes([Axis(title, number=number) for number, title in enumerate(titles)])

    def offer_columns(self, result: Result) -> None:
        """Offer the columns of a result as axes. Emits nothing."""
        self._offer_axes([Axis(c.heading, key=c.key) for c in numbers_of(result)], ("score", "shift_spread"))

    def _offer_axes(self, axes: list[Axis], first: tuple[str, ...] = ()) -> None:
        for position, box in enumerate((self.x_box, self.y_box)):
            before = box.currentData()
            with QSignalBlocker(box):
                box.clear()
                for axis in axes:
                    box.addItem(axis.title, axis)
                same = (i for i, axis in enumerate(axes) if _same(axis, before))
                usual = next((i for i, axis in enumerate(axes) if first and axis.key == first[position]), position)
                box.setCurrentIndex(next(same, min(usual, len(axes) - 1)))

    def _offer(self, plot: Plot, problem: str, short: str) -> None:
        """Say beside a plot why it cannot be had."""
        model, row = self.plot_box.model(), self.plot_box.findData(plot)
        text = plot.value[0].upper() + plot.value[1:]
        self.plot_box.setItemText(row, f"{text} ({short})" if problem else text)
        self.plot_box.setItemData(row, problem or None, Qt.ItemDataRole.ToolTipRole)
        if isinstance(model, QStandardItemModel):
            model.item(row).setEnabled(not problem)


def _same(axis: Axis, before: Axis | None) -> bool:
    return before is not None and (axis.key, axis.number) == (before.key, before.number)


def _fill(box: QComboBox, items: list[tuple[str, Any]]) -> None:
    before = box.currentData()
    with QSignalBlocker(box):
        box.clear()
        for text, data in items:
            box.addItem(text, data)
        box.setCurrentIndex(max(0, box.findData(before)) if items else -1)


def _choose(box: QComboBox, wanted: str) -> None:
    for row in range(box.count()):
        axis = box.itemData(row)
        if wanted == axis.key or axis.title.startswith(wanted):
            box.setCurrentIndex(row)
            return
    raise ValueError(f"no axis is called {wanted}")
