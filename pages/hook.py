"""mkdocs' hook: adds the pages that are made from the code, which no directory holds."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pages import commands, json_keys, python_names

_MADE = {
    "reference/commands.md": commands.page,
    "reference/json-keys.md": json_keys.page,
    "reference/python-names.md": python_names.page,
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, page in _MADE.items():
        files.append(File.generated(config, path, content=page()))
    return files
