"""Find the image files that a metadata file names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from napari_harmony.errors import InputError
from napari_harmony.particles.files import warn

#: Files and folders that stand in the root of a RELION or cryoSPARC project
PROJECT_MARKERS = ("default_pipeline.star", ".Nodes", ".gui_projectdir", "job_manifest.json", "project.json")

#: A comment of ours in written STAR files: where relative image paths start when it is not this folder or one above
ROOT_COMMENT = "# image paths are relative to: "
_ROOT = re.compile(rb"(?m)^# image paths are relative to: (.*?)[ \t\r]*$")


def project_root(folder: Path) -> Path | None:
    """The nearest folder at or above ``folder`` that looks like the root of a project, None if there is none."""
    for candidate in (folder, *folder.parents):
        if any((candidate / marker).exists() for marker in PROJECT_MARKERS):
            return candidate
    return None


def search_roots(metadata: Path) -> list[Path]:
    """Where relative paths of a metadata file may start: its folder, then those above up to the project's root.

    RELION itself knows only the project's root, which is where it runs.
    """
    folder = metadata.absolute().parent
    root = project_root(folder)
    above = [folder, *folder.parents]
    return above[: above.index(root) + 1] if root else above


class PathFinder:
    """Finds image files for one metadata file: from here, from its own folder, then from those above it.

    Parameters
    ----------
    metadata : the file that names the images
    head : first bytes of it, which may hold our comment on where paths start

    Attributes
    ----------
    used : folders under which relative paths were found
    """

    def __init__(self, metadata: Path, head: bytes = b"") -> None:
        self.metadata = metadata
        folder = metadata.absolute().parent
        hints = [folder / found.decode("utf-8", "surrogateescape") for found in _ROOT.findall(head[:4096])]
        self.roots = list(dict.fromkeys([Path.cwd(), *hints, *search_roots(metadata)]))
        self.used: list[Path] = []
        self._copies = [folder, *hints]
        self._by_name: dict[Path, str] = {}

    def find(self, text: str) -> Path:
        """The existing file that ``text`` means.

        Raises
        ------
        InputError : it is nowhere; the message lists the places
        """
        path = Path(text)
        if path.is_absolute():
            if path.is_file():
                return path
        else:
            for root in self.roots:
                if (root / path).is_file():
                    # The other stacks of the file lie there too, most likely: one look instead of several for each
                    self.roots.remove(root)
                    self.roots.insert(0, root)
                    self._use(root)
                    return root / path
        return self._beside(path)

    def _use(self, root: Path) -> None:
        if root not in self.used:
            self.used.append(root)

    def _beside(self, path: Path) -> Path:
        """A file of the same name next to the metadata, as after copying both out of a project."""
        for folder in self._copies if len(path.parts) > 1 else ():
            beside = folder / path.name
            if not beside.is_file():
                continue
            if self._by_name.setdefault(beside, str(path)) != str(path):
                raise InputError(
                    f"{self.metadata} names {self._by_name[beside]} and {path}, and only {beside} is there; "
                    "keep the folders of the stacks."
                )
            self._use(folder)
            warn(f"{path}, named in {self.metadata}, was not found; {beside} was taken for it.")
            return beside
        if path.is_absolute():
            raise InputError(f"{path}, named in {self.metadata}, does not exist; correct the path or copy the stack.")
        places = [str(root) for root in self.roots]
        shown = ", ".join(places[:6]) + (f" and {len(places) - 6} folders above" if len(places) > 6 else "")
        raise InputError(
            f"{path}, named in {self.metadata}, was not found (looked in {shown}); copy the stack, or work from the "
            "folder its path starts from."
        )


def root_comment(written: Path, roots: Sequence[Path]) -> str:
    """Our comment lines for a metadata file at ``written``, "" where its own folder and those above are enough."""
    reached = {folder.resolve() for folder in search_roots(written)}
    folder = written.absolute().parent
    lines = []
    for root in roots:
        if root.resolve() not in reached:
            try:
                text = Path(os.path.relpath(root, folder)).as_posix()
            except ValueError:  # another drive
                text = root.as_posix()
            lines.append(ROOT_COMMENT + text)
    return "\n".join(lines)
