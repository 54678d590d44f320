"""The OUT folder of a run: written whole or not at all, read back into a ``Result``, exported as tables.

``write_output`` and ``load_output`` are inverses up to the digits of a STAR file; ``export_table`` writes a selection.
"""

from __future__ import annotations

from napari_harmony.outputs.export import export_table
from napari_harmony.outputs.folder import check_target, write_output
from napari_harmony.outputs.restore import is_output, load_output

__all__ = ["check_target", "export_table", "is_output", "load_output", "write_output"]
