"""The changelog of a release, of the fragments that each change left in changelog.d.

    python -m release.changelog VERSION     writes CHANGELOG.md, and removes the fragments

A fragment is a file of its own, so that two changes never meet in one line. It is called
GROUP-WORDS.md, and holds what users are told. The groups are the headings of a version.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
DIRECTORY: Final = _ROOT / "changelog.d"
CHANGELOG: Final = _ROOT / "CHANGELOG.md"

#: What a fragment's name begins with, and its heading.
GROUPS: Final = {
    "images": "Images",
    "copies": "Copies and archives",
    "resizing": "Resizing",
    "hosts": "What a host allows",
    "commands": "Commands, messages and the API",
}


def fragments() -> dict[Path, str]:
    """The texts of all fragments, in the order of their names."""
    return {file: file.read_text() for file in sorted(DIRECTORY.glob("*-*.md"))}


def group_of(name: str) -> str:
    """The heading under which a fragment of this name goes; `KeyError` where there is none."""
    return GROUPS[name.partition("-")[0]]


def released(changelog: str, texts: Mapping[str, str], version: str, day: str) -> str:
    """The changelog with the section of a version, dated, that has each text (by its fragment's
    name) at the end of its group. What is in that section already, unreleased, stays first."""
    title, *sections = changelog.strip().split("\n\n## ")
    unreleased = f"{version}, unreleased\n\n"
    if not sections or not sections[0].startswith(unreleased):
        sections.insert(0, unreleased)
    blocks = sections[0].removeprefix(unreleased).split("\n\n")
    for heading in GROUPS.values():
        items = [_item(text) for name, text in texts.items() if group_of(name) == heading]
        if items:
            _add(blocks, heading, "\n".join(items))
    sections[0] = "\n\n".join([f"{version}, {day}", *filter(None, blocks)])
    return "\n\n## ".join([title, *sections]) + "\n"


def _add(blocks: list[str], heading: str, items: str) -> None:
    """Put items behind those of a heading, which is the block before theirs."""
    if heading not in blocks:
        blocks += [heading, items]
        return
    blocks[blocks.index(heading) + 1] += f"\n{items}"


def _item(text: str) -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, 100, initial_indent="- ", subsequent_indent="  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version")
    version = parser.parse_args().version
    found = fragments()
    texts = {file.name: text for file, text in found.items()}
    day = datetime.now(UTC).date().isoformat()
    CHANGELOG.write_text(released(CHANGELOG.read_text(), texts, version, day))
    for file in found:
        file.unlink()


if __name__ == "__main__":
    main()
