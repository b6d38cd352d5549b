"""The README's tour does what it shows, for a user whose PATH has no /usr/sbin, outside of /srv."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

_README: Final = Path(__file__).parents[2] / "README.md"
_SHOWN_HOME: Final = "/home/you"
_MARK: Final = "----"


def _tour() -> list[tuple[str, list[str]]]:
    """Each command of the tour, with its further lines, and what it is shown to print."""
    text = _README.read_text().partition("## Five minutes")[2].partition("\n## ")[0]
    commands: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S):
        here = False
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
                here = "<<END" in line
            elif here:
                commands[-1] = (f"{commands[-1][0]}\n{line}", [])
                here = line != "END"
            else:
                commands[-1][1].append(line)
    return commands


def _shape(text: str, home: str) -> list[str]:
    """Lines without what differs between machines: sizes, times, digests, owners, columns."""
    text = text.replace(home, "~")
    text = re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", text)
    text = re.sub(r"^(owner: +)\S+", r"\1USER", text, flags=re.M)
    text = re.sub(r"[0-9]+(\.[0-9]+)?( [KMG]?i?B\b)?", "N", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_tour_prints_what_the_readme_shows(tmp_path: Path) -> None:
    commands = _tour()
    assert len(commands) > 12
    script = "".join(f"{command}\necho; echo {_MARK}\n" for command, _ in commands)
    ours = str(Path(sys.executable).parent)  # wherever the environment of the tests is
    script = script.replace("$PWD/.venv/bin", ours)
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        env={"HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        cwd=_README.parent,
        stdout=subprocess.PIPE,
        check=False,
        timeout=600,
    )
    printed = done.stdout.decode().split(f"\n{_MARK}\n")
    assert len(printed) == len(commands) + 1
    for (command, shown), said in zip(commands, printed, strict=False):
        assert _shape(said, str(tmp_path)) == _shape("\n".join(shown), _SHOWN_HOME), command
