"""What the documentation of each module says of the options and abilities that all have."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  executable:
    description:
      - The C(virtstore) that is run where the module runs. A name is looked up in C(PATH).
    type: path
    default: virtstore
requirements:
  - virtstore, of this version or later, where the module runs
  - Python 3.9 or later there
attributes:
  async:
    description: A task that takes long can be given C(async) and C(poll).
    support: full
  check_mode:
    description:
      - C(virtstore --dry-run) checks all that it can without a change, and refuses what it would
        refuse.
      - What is not there yet is a warning in check mode, since an earlier task may be about to
        make it.
    support: full
  diff_mode:
    description: Says what there was, and what there is or would be.
    support: full
  platform:
    description: What the module runs on.
    support: full
    platforms: linux
notes:
  - A module runs where its task does. It reaches the hosts of its locations by ssh, as whoever
    runs the task,
    and each host's own configuration decides what may be done there.
  - C(environment) of the task passes on C(VIRTSTORE_RSH) and C(VIRTSTORE_AGENT).
  - A failure has an RV(ignore:error) with the C(code), C(message), C(host) and C(path) that
    virtstore told.
"""
