"""Files on disk: checks before opening, replacement as a whole when writing, compressed files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from napari_harmony.errors import InputError, InputWarning

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz")


def warn(sentence: str) -> None:
    """Tell the user about something odd in the input, through the ``warnings`` module."""
    warnings.warn(sentence, InputWarning, stacklevel=3)


def check_file(path: Path) -> None:
    """Raise ``InputError`` unless ``path`` is a readable file with something in it."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a directory; give a particle file such as .star, .cs, .mrcs or .tif.")
        if not path.exists():
            broken = " (a link whose target is gone)" if path.is_symlink() else ""
            raise InputError(f"{path} does not exist{broken}; check the name.")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes); write or copy it again.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path and its permissions.") from error


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` only when the block ends without an error.

    It is written beside ``path`` (same file system), so that a reader sees either the old file or the whole new one.
    Missing folders are made. Raises ``InputError`` where the place cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another folder.") from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    # There is no way to ask for the mask without setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def inner_suffix(path: Path) -> str:
    """Lower-case suffix that says the format: that before ``.gz``, ``.bz2`` or ``.xz`` where there is one."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED_SUFFIXES else suffix


class Decompressed:
    """A compressed file unpacked into a temporary folder that lives as long as this object.

    Image access needs to jump about in the file, which compressed streams do not allow.
    """

    def __init__(self, source: Path) -> None:
        folder = tempfile.mkdtemp(prefix="napari-harmony-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / source.stem
        try:
            with _opener(source) as packed, self.path.open("wb") as plain:
                shutil.copyfileobj(packed, plain, 4 * 2**20)
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise InputError(f"{source} is a damaged compressed file; copy it again ({error}).") from error
        except OSError as error:
            raise InputError(f"{source} cannot be decompressed ({error}); is there space?") from error


def compression(path: Path) -> str | None:
    """``"gz"``, ``"bz2"`` or ``"xz"`` by the first bytes of the file, None for a plain file."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic[:3] == b"\x1f\x8b\x08":
        return "gz"
    if magic[:3] == b"BZh" and magic[3:4].isdigit():
        return "bz2"
    return "xz" if magic == b"\xfd7zXZ\x00" else None


def _opener(path: Path) -> Any:
    openers: dict[str | None, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    return openers[compression(path)](path, "rb")
