"""The *Models* dock: the model library, what each model is, and what can be done with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QFile, QSize, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QKeySequence, QShortcut, QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_harmony.errors import HarmonyError
from napari_harmony.library import Entry, Library, default_library, mismatch, why_not_rescaled
from napari_harmony.preferences import plugin_settings
from napari_harmony.session import session_of
from napari_harmony.widgets._column import Column
from napari_harmony.widgets._dock import Dock, adopt_particles
from napari_harmony.widgets._model_card import ModelCardView
from napari_harmony.widgets._model_list import ModelList
from napari_harmony.widgets._work import TRAIN, Action, Request
from napari_harmony.widgets._workers import FunctionInThread

if TYPE_CHECKING:
    import napari

EMPTY = (
    "No models yet.\n\nTrain one in the Harmony dock and keep it here (Keep last model), or import one that was "
    "saved elsewhere."
)
_NONE = "Choose a model in the list."
_NO_MODEL = "No model was trained or used on these particles yet."
_COPYING = "A model is being copied into the library."
_TIPS = {
    "use": "Choose this model in the Harmony dock, where Align and Cluster then use it.",
    "tune": "Go on training this model on the particles chosen in the Harmony dock, with the settings there. The model "
    "stays as it is; the new one has its classes, and can be kept afterwards.",
    "train": "Open the Harmony dock, set to train a new model on its particles.",
    "keep": "Copy the model that was trained or used last on these particles into the library.",
    "import": "Copy a model that was saved elsewhere (model.json with model.safetensors) into the library.",
    "rename": "Give the model another name (F2).",
    "delete": "Move the model into the system's trash (Delete).",
    "open": "Open the folder of the model in the file manager.",
}


class ModelManager(Dock):
    """The dock; it shows the default library, and compares with the particles of the session."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.session = session_of(napari_viewer)
        self.library: Library = default_library()
        self._adding = False
        self._make_parts()
        self._arrange()
        self.bind()

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        self.list = ModelList()
        self.list.setMinimumHeight(120)
        self.list.chosen.connect(self._on_chosen)
        self.list.activated_entry.connect(self.use)
        # later: the row that was edited goes when the list is made anew
        self.list.renamed.connect(self.rename, Qt.ConnectionType.QueuedConnection)
        self.empty_label = QLabel(EMPTY)
        self.empty_label.setWordWrap(True)
        self.empty_label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.card = ModelCardView()
        self.fit_label = QLabel()
        self.message_label = QLabel()
        for label in (self.fit_label, self.message_label):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.hide()
        actions: dict[str, tuple[str, Callable[[], Any]]] = {
            "use": ("&Use in Harmony", self.use),
            "tune": ("&Fine-tune", self.tune),
            "train": ("&Train new...", self.train),
            "keep": ("&Keep last model", self.keep),
            "import": ("&Import...", self.ask_and_import),
            "rename": ("Re&name", self.list.begin_rename),
            "delete": ("&Delete...", self.ask_and_delete),
            "open": ("&Open folder", self.open_folder),
        }
        self.buttons = {name: QPushButton(text) for name, (text, _) in actions.items()}
        for name, (_, act) in actions.items():
            self.buttons[name].clicked.connect(lambda _checked=False, act=act: act())
        self.buttons["use"].setStyleSheet("font-weight: bold; padding: 6px;")
        delete = QShortcut(QKeySequence(QKeySequence.StandardKey.Delete), self.list)
        delete.setContext(Qt.ShortcutContext.WidgetShortcut)
        delete.activated.connect(self.ask_and_delete)

    def _arrange(self) -> None:
        of_model = QGridLayout()
        of_model.addWidget(self.buttons["use"], 0, 0, 1, 2)
        for place, name in enumerate(("tune", "rename", "delete", "open")):
            of_model.addWidget(self.buttons[name], 1 + place // 2, place % 2)
        new = QGridLayout()
        for column, name in enumerate(("train", "keep", "import")):
            new.addWidget(self.buttons[name], 0, column)
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setSpacing(6)
        layout.addWidget(self.empty_label, 1)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.card)
        layout.addWidget(self.fit_label)
        layout.addLayout(of_model)
        layout.addWidget(_rule())
        layout.addLayout(new)
        layout.addWidget(self.message_label)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Column(body, 260))
        self._body = body

    def sizeHint(self) -> QSize:
        """As high as the contents, but never more than a small screen has."""
        return QSize(340, min(700, self._body.sizeHint().height()))

    # -- life cycle -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.library = default_library()
        self.listen(self.library.changed, self.refresh)
        self.listen(self.session.data_changed, self.refresh)
        self.listen(self.session.model_changed, self._on_model)
        self.listen(self._viewer.layers.events.inserted, self._on_layers)
        self._on_layers()
        settings = plugin_settings()
        if settings is not None:
            self.listen(settings.models.events.model_folder, self._on_folder)
        self.refresh()

    def _on_layers(self, _event: Any = None) -> None:
        """The models are looked at for particles that are open, whether or not the Harmony dock is."""
        adopt_particles(self._viewer, self.session)

    def _on_folder(self, _event: Any = None) -> None:
        """The library lies elsewhere now."""
        self.unbind()
        self.bind()

    def showEvent(self, event: QShowEvent) -> None:
        """Look into the folder again: models may have been copied by other means."""
        super().showEvent(event)
        self.refresh()

    # -- what is shown ----------------------------------------------------------------------------------------------

    def refresh(self, _changed: Any = None, current: str | None = None) -> None:
        """Show the models as they are now, and stand on the one named ``current``."""
        entries = self.library.entries()
        self.list.setVisible(bool(entries))
        self.empty_label.setVisible(not entries)
        self.list.show_entries(entries, self.session.data, current)

    def _on_model(self, _model: Any) -> None:
        self.update_buttons()

    def _on_chosen(self, entry: Entry | None) -> None:
        self.card.show_entry(entry)
        text = self._fit_words(entry)
        self.fit_label.setText(text)
        self.fit_label.setVisible(bool(text))
        self.update_buttons()

    def _fit_words(self, entry: Entry | None) -> str:
        """Whether the model fits the particles of the session, in a sentence or two."""
        particles, layer = self.session.data, self.session.layer
        if entry is None or entry.card is None or entry.problem or particles is None:
            return ""
        if not (reason := mismatch(entry.card, particles)):
            name = f"'{layer.name}'" if layer is not None else "chosen in the Harmony dock"
            return f"Fits the particles {name}."
        return why_not_rescaled(entry.card, particles) or f"{reason} They can be rescaled to it as they are read."

    def update_buttons(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        entry = self.list.entry
        own = _NONE if entry is None else "It comes with napari-harmony and stays as it is." if entry.bundled else ""
        reasons = {
            "use": self._why_not_use(entry),
            "tune": self._why_not_tune(entry),
            "keep": _COPYING if self._adding else "" if self.session.model is not None else _NO_MODEL,
            "import": _COPYING if self._adding else "",
            "rename": own,
            "delete": own,
            "open": _NONE if entry is None else "",
        }
        for name, button in self.buttons.items():
            why = reasons.get(name, "")
            button.setEnabled(not why)
            button.setToolTip(why or _TIPS[name])
        self.buttons["use"].setText("&Use in Harmony, rescaling" if self._rescales(entry) else "&Use in Harmony")

    def _why_not_use(self, entry: Entry | None) -> str:
        if entry is None:
            return _NONE
        if entry.problem or entry.card is None:
            return entry.problem
        data = self.session.data
        return why_not_rescaled(entry.card, data) if data is not None and mismatch(entry.card, data) else ""

    def _why_not_tune(self, entry: Entry | None) -> str:
        if why := self._why_not_use(entry):
            return why
        if self.session.data is None or self.session.layer is None:
            return "Choose particles in the Harmony dock first: the model is trained on with them."
        if entry is not None and entry.card is not None and entry.card.objective != "harmony":
            return f"Models of the objective {entry.card.objective} cannot be trained on: train a new one."
        return ""

    def _rescales(self, entry: Entry | None) -> bool:
        """Whether the particles must be rescaled for the model, and can be."""
        data = self.session.data
        if entry is None or entry.card is None or data is None or not mismatch(entry.card, data):
            return False
        return not why_not_rescaled(entry.card, data)

    # -- what can be done -------------------------------------------------------------------------------------------

    def use(self, _entry: Entry | None = None) -> None:
        """Choose the model in the Harmony dock."""
        entry = self.list.entry
        if entry is None or self._why_not_use(entry):
            return
        models = self._harmony().form.models
        models.set_file(entry.folder)
        models.rescale_box.setChecked(self._rescales(entry))
        self.say(f"'{entry.name}' is chosen in the Harmony dock.")

    def tune(self) -> None:
        """Go on training the model on the particles of the session, as a run of the Harmony dock."""
        entry, layer = self.list.entry, self.session.layer
        if entry is None or self._why_not_tune(entry):
            return
        harmony, data = self._harmony(), self.session.data
        settings = self._try(lambda: harmony.settings)
        if settings is None or data is None:
            return
        # Align then takes the model that was trained last
        harmony.form.model_box.setCurrentIndex(harmony.form.model_box.findData(TRAIN))
        request = Request(
            Action.TRAIN,
            data,
            settings,
            entry.folder,
            layer.name,
            weakref.ref(layer),
            rescale=self._rescales(entry),
        )
        if why := harmony.runs.why_not(request):
            self.say(why, error=True)
            return
        harmony.runs.submit(request)
        self.say(f"'{entry.name}' is being trained on; Keep last model then adds the new one to the library.")

    def train(self) -> None:
        """Set the Harmony dock to train a new model."""
        box = self._harmony().form.model_box
        box.setCurrentIndex(box.findData(TRAIN))

    def _harmony(self) -> Any:
        """The Harmony dock, brought to the front."""
        dock, widget = self._viewer.window.add_plugin_dock_widget("napari-harmony", "Harmony")
        dock.show()
        dock.raise_()
        return widget

    def keep(self) -> None:
        """Copy the model of the session into the library, and let the user type a name."""
        model, layer = self.session.model, self.session.layer
        if model is not None:
            self.add(model, f"{layer.name if layer is not None else 'model'} {date.today().isoformat()}")

    def ask_and_import(self) -> None:
        """Let the user choose a model, and copy it into the library."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Import a model", "", "Harmony model (model.json *.json *.safetensors)"
        )
        if path:
            folder = Path(path).parent
            self.add(Path(path), folder.name or "model")

    def add(self, source: Any, wish: str) -> None:
        """Add a model under a free name like ``wish``, which can be typed over; it is copied in a thread."""
        name = self._try(lambda: self.library.free_name(wish))
        if name is None or self._adding:
            return
        self._adding = True
        self.update_buttons()
        self.say(f"'{name}' is being copied into the library.")
        copied = create_worker(_added, self.library, source, name, _ignore_errors=True, _worker_class=FunctionInThread)
        copied.returned.connect(self._on_added)
        copied.start()

    def _on_added(self, added: Entry | str) -> None:
        self._adding = False
        if isinstance(added, str):
            self.update_buttons()
            self.say(added, error=True)
            return
        self.library.changed.emit()
        self.refresh(current=added.name)
        self.say(f"'{added.name}' is in the library now; type another name if you like.")
        self.list.setFocus()
        self.list.begin_rename()

    def rename(self, entry: Entry, name: str) -> None:
        """Give a model another name."""
        renamed = self._try(lambda: self.library.rename(entry.name, name))
        if renamed is not None:
            self.refresh(current=renamed.name)
            self.say(f"'{entry.name}' is called '{renamed.name}' now.")

    def ask_and_delete(self) -> None:
        """Move the model into the trash, once the user has said yes."""
        entry = self.list.entry
        if entry is None or entry.bundled:
            return
        if not self._sure(f"Move the model '{entry.name}' to the trash?", str(entry.folder)):
            return
        self._try(lambda: self.library.delete(entry.name, discard=_into_trash))
        if entry.folder.exists() and self._sure(
            f"'{entry.name}' cannot be moved to the trash. Delete it for good?", str(entry.folder)
        ):
            self._try(lambda: self.library.delete(entry.name))
        if not entry.folder.exists():
            self.say(f"'{entry.name}' was deleted.")

    def _sure(self, question: str, detail: str) -> bool:
        box = QMessageBox(QMessageBox.Icon.Question, "Delete a model", question, parent=self)
        box.setInformativeText(detail)
        box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(QMessageBox.StandardButton.Cancel)
        return box.exec() == QMessageBox.StandardButton.Yes

    def open_folder(self) -> None:
        """Show the model's folder in the file manager."""
        if self.list.entry is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.list.entry.folder)))

    def _try(self, action: Callable[[], Any]) -> Any:
        """Do something at the user's wish; what went wrong is said under the buttons."""
        self.say("")
        try:
            return action()
        except (HarmonyError, OSError) as error:
            self.say(str(error), error=True)
            return None

    def say(self, text: str, *, error: bool = False) -> None:
        """Say in a sentence what was done, or what went wrong."""
        self.message_label.setStyleSheet("color: #e05252;" if error else "")
        self.message_label.setText(text)
        self.message_label.setVisible(bool(text))


def _added(library: Library, source: Any, name: str) -> Entry | str:
    """Copy a model into the library, without telling anybody; or what went wrong, in words."""
    try:
        return library.add(source, name, announce=False)
    except (HarmonyError, OSError) as error:
        return str(error)


def _into_trash(folder: Path) -> None:
    """Move a folder into the system's trash; it stays where there is none."""
    QFile(str(folder)).moveToTrash()


def _rule() -> QWidget:
    """A thin line between what is done with a model and what makes new ones."""
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
