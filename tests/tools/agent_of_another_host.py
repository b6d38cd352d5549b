"""An agent whose locks count for itself alone, as those of another host: for tests to start.

agent_of_another_host.py DIRECTORY [OPTION OF THE AGENT]…
"""

import os
import sys

from virtstore import meeting_place
from virtstore.agent.__main__ import main

if __name__ == "__main__":
    directory = sys.argv.pop(1)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    vars(meeting_place).update(directories=lambda: [directory])
    main()
