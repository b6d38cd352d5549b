"""The pictures of the documents: `python -m pages.pictures` writes them to docs/pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from .drawing import Drawing

DIRECTORY: Final = Path(__file__).parents[1] / "docs" / "pictures"


def parts() -> Drawing:
    """Client, agents and what lies where."""
    drawing = Drawing(860, 330, "A client reaches an agent on each host by ssh")
    drawing.box(300, 20, 260, 92, "box", top=True)
    drawing.text(430, 40, "your machine", faint=True)
    drawing.box(322, 52, 216, 46, "ours", "virtstore", "command or Python")
    for x, name in ((20, "host a"), (460, "host b")):
        drawing.box(x, 176, 380, 140, "box")
        drawing.text(x + 16, 198, name, faint=True, anchor="start")
        drawing.box(x + 18, 210, 128, 88, "ours", "agent", "ends with", "the session")
        drawing.box(x + 186, 190, 176, 34, "data", "/srv/images")
        drawing.box(x + 186, 232, 176, 34, "data", "/dev/vg0")
        drawing.box(x + 186, 274, 176, 34, "held", "config.toml")
        drawing.arrow((x + 146, 230), (x + 166, 230), (x + 166, 207), (x + 186, 207))
        drawing.arrow((x + 146, 249), (x + 186, 249))
        drawing.arrow((x + 186, 291), (x + 146, 291))
    drawing.arrow((380, 98), (380, 144), (84, 144), (84, 210))
    drawing.arrow((480, 98), (480, 144), (524, 144), (524, 210))
    drawing.text(200, 136, "ssh", faint=True)
    drawing.text(502, 136, "ssh", faint=True)
    drawing.text(580, 60, "compressed blocks pass through,", faint=True, anchor="start")
    drawing.text(580, 78, "from one agent to the other;", faint=True, anchor="start")
    drawing.text(580, 96, "no daemon, no database", faint=True, anchor="start")
    return drawing


def copy() -> Drawing:
    """The way of a chunk, and how its target gets a name."""
    drawing = Drawing(860, 396, "The way of a copy, from the source's image to the target's name")
    for x, name in ((16, "source's agent"), (326, "client"), (500, "target's agent")):
        width = {16: 290, 326: 154, 500: 344}[x]
        drawing.box(x, 16, width, 364, "box")
        drawing.text(x + width // 2, 38, name, faint=True)
    drawing.box(36, 54, 232, 48, "data", "image", "in chunks of 1 MiB")
    drawing.box(36, 130, 232, 38, "zero", "zeros: a number")
    drawing.box(36, 178, 232, 38, "zero", "the target has it: “same”")
    drawing.box(36, 226, 232, 38, "ours", "partly: blocks that differ")
    drawing.box(36, 274, 232, 38, "ours", "else: compressed, once")
    drawing.box(36, 334, 232, 34, "held", "digest of all chunks")
    drawing.arrow((152, 102), (152, 130))
    for y in (149, 197, 245, 293):
        drawing.line((268, y), (288, y), (288, 234))
    drawing.box(342, 200, 122, 68, "box", "passes on", "unopened,", "over ssh")
    drawing.arrow((288, 234), (342, 234))
    drawing.arrow((464, 234), (520, 234))
    drawing.box(
        520, 54, 304, 48, "box", "what is there already", "its fingerprints go to the source"
    )
    drawing.arrow((520, 78), (268, 78))
    drawing.box(
        520, 136, 304, 44, "held", "room, policy, use, lock", "checked before the first byte"
    )
    drawing.box(
        520, 212, 304, 44, "ours", "NAME.virtstore-partial", "decompressed, written, hashed"
    )
    drawing.box(520, 276, 304, 44, "held", "same digest? flushed?", "else it stays partial")
    drawing.box(520, 338, 304, 34, "data", "NAME: by one rename")
    for y, end in ((102, 136), (180, 212), (256, 276), (320, 338)):
        drawing.arrow((672, y), (672, end))
    drawing.arrow((268, 351), (403, 351), (403, 298), (520, 298))
    return drawing


def archive() -> Drawing:
    """Where the parts of an archive lie."""
    drawing = Drawing(860, 270, "The layout of an archive")
    cells = (
        (20, 120, "data", "frame", "chunk 0"),
        (140, 120, "data", "frame", "chunk 1"),
        (260, 150, "zero", "frame", "64 chunks of zeros"),
        (410, 120, "data", "frame", "chunk 66"),
        (530, 130, "held", "JSON frame", "size, digest"),
        (660, 180, "ours", "seek table", "lengths, checksums"),
    )
    drawing.text(20, 40, "x.img.zst", bold=True, anchor="start")
    for x, width, colour, *lines in cells:
        drawing.box(x, 110, width, 66, colour, *lines)
    for x, y in ((80, 62), (200, 72), (335, 82), (470, 92)):
        drawing.arrow((750, 110), (750, y), (x, y), (x, 110))
    drawing.text(
        20,
        204,
        "Any zstd restores it: each data frame is an ordinary one,",
        faint=True,
        anchor="start",
    )
    drawing.text(
        20,
        222,
        "and the other two are of the kind that a decoder skips.",
        faint=True,
        anchor="start",
    )
    drawing.text(840, 204, "Who knows the table reads any chunk", faint=True, anchor="end")
    drawing.text(
        840, 222, "without those before it, and sees what is missing.", faint=True, anchor="end"
    )
    drawing.text(20, 252, "byte 0", faint=True, anchor="start")
    drawing.arrow((70, 248), (800, 248))
    drawing.text(840, 252, "end", faint=True, anchor="end")
    return drawing


_LEVELS: Final = ("nothing", "read", "append", "write")
#: What may be done, from which level on.
_MAY: Final = (
    ("list, info, verify, diff", 1),
    ("copy from it", 1),
    ("create, snapshot, copy to a new name", 2),
    ("compress --keep, uncompress --keep", 2),
    ("go on with a copy that was cut", 2),
    ("grow, shrink, growfs, shrinkfs, resize", 3),
    ("rename, copy-contents, copy --overwrite", 3),
    ("compress, uncompress (the source goes)", 3),
    ("delete, clean", 3),
)


def access() -> Drawing:
    """What each level of access may do."""
    drawing = Drawing(760, 66 + 34 * len(_MAY), "What each access level may do")
    for number, level in enumerate(_LEVELS):
        drawing.text(430 + 90 * number, 34, level, bold=True)
    for row, (what, least) in enumerate(_MAY):
        y = 66 + 34 * row
        drawing.rule(20, y - 17, 720)
        drawing.text(24, y + 5, what, anchor="start")
        for number in range(len(_LEVELS)):
            drawing.dot(430 + 90 * number, y, yes=number >= least)
    return drawing


PICTURES: Final[dict[str, Callable[[], Drawing]]] = {
    "parts": parts,
    "copy": copy,
    "archive": archive,
    "access": access,
}

if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (DIRECTORY / f"{name}.svg").write_text(picture().svg())
