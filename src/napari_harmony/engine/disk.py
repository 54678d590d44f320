"""Disks that become full while a run keeps something on them: one sentence, in which it says where."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_harmony.errors import InferenceError

#: What to do where the state of a run could not be kept.
MAKE_ROOM = "make room, and run the same command with --resume"


@contextmanager
def kept_on(folder: Path, what: str, advice: str) -> Iterator[None]:
    """Turn whatever goes wrong when a file is written into an ``InferenceError``.

    Parameters
    ----------
    folder : where it is written
    what : is written, as the message calls it
    advice : what to do
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InferenceError(f"{folder}: {what} could not be written ({_reason(error)}); {advice}.") from error


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    # safetensors says so in words of its own
    if number in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in str(error):
        return "the disk is full"
    return str(getattr(error, "strerror", None) or error)
