"""How virtstore starts its own programs: by the very files that are running.

In a tree of its own (release/bundle.py) Python runs isolated and without the system's packages
(`-I -S`), and finds no module by itself; there the launchers lie beside the packages. Anywhere
else a module is run by its name.
"""

from __future__ import annotations

import os
import sys


def agent_argv() -> list[str]:
    """The argv of an agent of this virtstore."""
    # -X utf8: it need not start itself anew for that, see streams.py.
    python = [sys.executable, "-X", "utf8"]
    if tree := tree_of_bundle():
        return [*python, "-I", "-S", os.path.join(tree, "bin", "virtstore-agent")]
    return [*python, "-P", "-m", "virtstore.agent"]


def tree_of_bundle() -> str | None:
    """The bundle that this virtstore runs from; None where it is installed otherwise."""
    return os.path.dirname(_tree()) if sys.flags.no_site else None


def module_argv(module: str) -> list[str]:
    """The argv that runs the `main()` of a module of this virtstore; arguments follow."""
    if sys.flags.no_site:
        start = f"import sys; sys.path.insert(0, {_tree()!r}); from {module} import main; main()"
        return [sys.executable, "-I", "-S", "-c", start]
    # -P: a directory called virtstore where the user happens to stand is not ours.
    return [sys.executable, "-P", "-m", module]


def _tree() -> str:
    """The directory that has the package `virtstore`."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
