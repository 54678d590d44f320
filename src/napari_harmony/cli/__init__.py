"""``napari-harmony`` on the command line.

Exit codes: 0 the job is complete, 1 it failed, 2 the input or the options cannot be used, 130 interrupted. Errors are
one line on standard error. Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

from napari_harmony.cli.main import console, main

__all__ = ["console", "main"]
