"""What can go wrong, in words a user can act on.

Every message is one sentence that names the file, row or field and says what to do.
"""

from __future__ import annotations


class HarmonyError(Exception):
    """Base of all errors raised on purpose by napari-harmony."""


class InputError(HarmonyError):
    """The user's input cannot be used as it is; the command line exits with 2."""


class InferenceError(HarmonyError):
    """A run failed for reasons outside the input, such as exhausted memory; the command line exits with 1.

    It is a plain ``Exception`` and never a ``RuntimeError``: superqt's generator worker takes a ``RuntimeError`` for
    its own deletion and swallows it, so the GUI would never learn of a CUDA out-of-memory.
    """


class TeamBroken(InferenceError):
    """Another of the processes that compute one run together does not answer any more."""


class InputWarning(UserWarning):
    """The user's input was read, but something in it deserves a look; ``warnings.warn`` carries one sentence."""
