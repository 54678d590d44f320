"""Which model a run uses: trained on the particles, the one trained last, one of the library, or one from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QVBoxLayout, QWidget

from napari_harmony.engine.costs import Task
from napari_harmony.errors import InputError
from napari_harmony.library import Entry, card_facts, default_library, mismatch, why_not_rescaled
from napari_harmony.models.card import ModelCard, model_files, read_card
from napari_harmony.widgets._work import LAST, TRAIN

if TYPE_CHECKING:
    from napari_harmony.particles.dataset import Particles

OPEN = "open"
_TIP = "Train a model on these particles, or use one of the library (dock 'Models'), or one that lies elsewhere."
_RESCALE_TIP = (
    "Bring the particles to the pixel size and box of the model as they are read. Files and layers stay as they are, "
    "and the result is in the pixels of these particles."
)


class _Box(QComboBox):
    """Looks into the library each time it is opened."""

    about_to_open = Signal()

    def showPopup(self) -> None:
        """Ask for the models as they are now."""
        self.about_to_open.emit()
        super().showPopup()


class ModelChoice(QWidget):
    """A list of models, and whether particles are rescaled for the one that is chosen.

    Signals
    -------
    changed : another model is chosen, or rescaling is
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._last = False
        self._opened: Path | None = None
        self._cards: dict[str, ModelCard | None] = {}
        self._problems: dict[str, str] = {}
        self._particles: Particles | None = None
        self.box = _Box()
        self.box.setToolTip(_TIP)
        self.box.setMinimumContentsLength(8)  # a long name must not widen the dock
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.rescale_box = QCheckBox("rescale particles to it")
        self.rescale_box.setToolTip(_RESCALE_TIP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.box)
        layout.addWidget(self.rescale_box)
        self.refresh()
        self.box.about_to_open.connect(self.refresh)
        self.box.activated.connect(self._on_chosen)
        self.box.currentIndexChanged.connect(self._on_index)
        self.rescale_box.toggled.connect(self.changed)
        self._show_rescaling()

    # -- what is offered --------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Offer what there is now; the choice stays where it still can be had."""
        before = self.box.currentData()
        self.box.blockSignals(True)
        self.box.clear()
        self._cards, self._problems = {}, {}
        self._add("train on these particles", TRAIN, _TIP)
        if self._last:
            self._add("the model of the last run", LAST, "The model that was trained on, or used for, these particles.")
        for entry in default_library().entries():
            if self._suits(entry):
                self._add_entry(entry)
        if self._opened is not None:
            self._add_opened(self._opened)
        self._add("open a saved model...", OPEN, "Choose the model.json of a model that lies elsewhere.")
        index = self.box.findData(before) if before not in (None, OPEN) else 0
        self.box.setCurrentIndex(max(0, index))
        self.box.blockSignals(False)
        if self.box.currentData() != before:
            self._on_index(self.box.currentIndex())

    def _suits(self, entry: Entry) -> bool:
        """Whether to offer a model: of those of the package, the one for particles like these."""
        if not entry.bundled or entry.card is None or self._particles is None:
            return True
        return entry.card.dimensions == self._particles.dimensions

    def _add(self, text: str, key: str, tip: str) -> None:
        self.box.addItem(text, key)
        self.box.setItemData(self.box.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)

    def _add_entry(self, entry: Entry) -> None:
        facts = card_facts(entry.card) if entry.card is not None else {}
        tip = entry.problem or "\n".join(f"{name}: {words}" for name, words in facts.items())
        title = entry.title
        if entry.bundled and entry.card is not None and entry.card.general:
            title += ": any subtomograms" if entry.card.dimensions == 3 else ": any images"
        self._add(title, str(entry.folder), tip)
        self._cards[str(entry.folder)] = entry.card
        if entry.problem:
            self._problems[str(entry.folder)] = entry.problem

    def _add_opened(self, path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        self._add(f"saved model: {folder.name}", str(path), str(path))
        card_path = model_files(path)[1]
        try:
            self._cards[str(path)] = read_card(card_path)[0] if card_path.is_file() else None
        except InputError as error:
            self._problems[str(path)] = str(error)

    def set_last(self, there: bool) -> None:
        """Offer the model of the last run, or not."""
        if there is not self._last:
            self._last = there
            self.refresh()
        self.changed.emit()

    def set_file(self, path: Path) -> None:
        """Choose a saved model: its folder, or a file in it."""
        self.refresh()
        if self.box.findData(str(path)) < 0:  # else it is one of the library
            self._opened = path
            self.refresh()
        self.box.setCurrentIndex(self.box.findData(str(path)))
        self.changed.emit()

    def set_particles(self, particles: Particles | None) -> None:
        """The particles that the model is to be used on."""
        self._particles = particles
        self.refresh()
        self._show_rescaling()

    # -- what is chosen ---------------------------------------------------------------------------------------------

    @property
    def model(self) -> str | Path:
        """``TRAIN``, ``LAST``, or the path of a saved model."""
        key = str(self.box.currentData())
        return key if key in (TRAIN, LAST) else Path(key)

    @property
    def task(self) -> Task:
        """What a run with it does with particles."""
        key = str(self.box.currentData())
        card = self._cards.get(key)
        return "fit" if key == TRAIN else "adapt" if card is not None and card.general else "apply"

    @property
    def rescale(self) -> bool:
        """Whether particles are rescaled to the model; only ever where they do not fit it."""
        return bool(self._mismatch()) and not self._why_not_rescaled() and self.rescale_box.isChecked()

    @property
    def problem(self) -> str:
        """Why the chosen model cannot be used on the particles, and what to do; "" where it can."""
        broken = self._problems.get(str(self.box.currentData()), "")
        reason = broken or self._mismatch()
        if not reason or broken:
            return reason
        if why_not := self._why_not_rescaled():
            return why_not
        return (
            "" if self.rescale_box.isChecked() else f"{reason} Tick 'rescale' under the model to use it all the same."
        )

    def _card(self) -> ModelCard | None:
        return self._cards.get(str(self.box.currentData()))

    def _mismatch(self) -> str:
        card = self._card()
        return mismatch(card, self._particles) if card is not None and self._particles is not None else ""

    def _why_not_rescaled(self) -> str:
        card = self._card()
        return why_not_rescaled(card, self._particles) if card is not None and self._particles is not None else ""

    def _show_rescaling(self) -> None:
        self.rescale_box.setVisible(bool(self._mismatch()) and not self._why_not_rescaled())

    def _on_index(self, _index: int) -> None:
        self._show_rescaling()
        self.changed.emit()

    def _on_chosen(self, _index: int) -> None:
        if self.box.currentData() == OPEN:
            path, _ = QFileDialog.getOpenFileName(
                self, "Open a saved model", "", "Harmony model (model.json *.safetensors)"
            )
            if path:
                self.set_file(Path(path))
            else:
                self.box.setCurrentIndex(0)
        self.changed.emit()
