"""An agent of a host that lacks a program: a program for tests to start.

lacking_agent.py PROGRAM [OPTION OF THE AGENT]…
"""

import sys

from virtstore import programs
from virtstore.agent.__main__ import main

if __name__ == "__main__":
    lacking = sys.argv.pop(1)
    found = programs.find
    vars(programs).update(find=lambda tool: None if tool == lacking else found(tool))
    main()
