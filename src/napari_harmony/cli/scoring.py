"""``napari-harmony evaluate``: a finished run against a known truth."""

from __future__ import annotations
