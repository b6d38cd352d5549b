"""The changelog of a release is what was there, and each fragment under its heading."""

from __future__ import annotations

from release import changelog

_BEFORE = """# Changes

## 0.2.0, unreleased

Images

- One.

Resizing

- Two,
  in two lines.

## 0.1.0, 2026-11-28

Images

- Zero.
"""


def test_each_fragment_goes_to_the_end_of_its_group() -> None:
    texts = {"images-a.md": "Three.\n", "resizing-b.md": "Four,\nmore.\n", "hosts-c.md": "Five.\n"}
    assert (
        changelog.released(_BEFORE, texts, "0.2.0", "2027-01-02")
        == """# Changes

## 0.2.0, 2027-01-02

Images

- One.
- Three.

Resizing

- Two,
  in two lines.
- Four, more.

What a host allows

- Five.

## 0.1.0, 2026-11-28

Images

- Zero.
"""
    )


def test_a_version_of_which_nothing_is_there_yet_gets_a_section_above_all_others() -> None:
    after = changelog.released(_BEFORE, {"copies-a.md": "New."}, "0.3.0", "2027-02-03")
    head = "# Changes\n\n## 0.3.0, 2027-02-03\n\nCopies and archives\n\n- New.\n\n"
    assert after == head + _BEFORE.removeprefix("# Changes\n\n")


def test_every_fragment_belongs_to_a_group() -> None:
    for file, text in changelog.fragments().items():
        assert changelog.group_of(file.name)
        assert text.strip()
