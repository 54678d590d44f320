"""Shows pictures in the theme of the reader: for ``name.png`` also ``name-light.png``, each opening in full on a click.

A hook of MkDocs. Pages name the picture in the dark theme only, so that they read well elsewhere too.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_PICTURE = re.compile(r"!\[(?P<words>[^\]]*)\]\((?P<path>[^)\s#]+)\.png\)")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace every picture by its link, in both themes where there are both."""
    folder = posixpath.dirname(page.file.src_uri)

    def shown(match: re.Match[str]) -> str:
        words, path = match["words"], match["path"]
        light = posixpath.normpath(posixpath.join(folder, f"{path}-light.png"))
        if files.get_file_from_path(light) is None:
            return f"[![{words}]({path}.png)]({path}.png)"
        themes = ((f"{path}-light.png", "only-light"), (f"{path}.png", "only-dark"))
        return "\n".join(f"[![{words}]({file}#{theme})]({file})" for file, theme in themes)

    return _PICTURE.sub(shown, markdown)
