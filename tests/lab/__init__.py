"""The lab: a Linux of our own, as an ordinary process, to be root in.

User-mode Linux boots from this machine's own tree, read-only, so the project and its
interpreter are simply there; what it writes goes to tmpfs and to disks of its own, image
files in a temporary directory. It needs no root, no KVM and nothing prepared.

- `uml.py` boots it on its disks; `machine.py` is one boot: what a command said, its end,
  and the power cut.
- `init` and `fstab` make a running machine of the tree, in there.
- `inside/` holds ordinary tests that run in there: one boot, and fresh disks, a file.
- `replay.py` lets pytest out here report them one by one.
- `hosts.py`, in there, makes two hosts with an sshd and a configuration each.

`python -m tests.lab COMMAND…` runs one command in there, `--shell` gives a shell.
"""
