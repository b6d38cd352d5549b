"""What the manual says beside what it reads from the code."""

from __future__ import annotations

from typing import Final

Terms = tuple[tuple[str, str], ...]

ABOUT: Final = (
    "virtstore manages the disk images of virtual machines: files in directories, logical volumes"
    " and block devices, on this machine and on any that ssh reaches. An image's handle is its host"
    " and path; nothing is registered, and no daemon runs. On each host an agent,"
    " virtstore-agent(8), does the work for the length of a session, and allows what that host's"
    " virtstore.toml(5) allows.",
    "Results go to standard output, everything else to standard error. With --json the result, or"
    " the error, is one JSON document on standard output.",
)
SIZES: Final = (
    "A number is bytes. K, M, G, T, P and KiB to PiB are powers of 1024, KB to PB powers of 1000;"
    " case does not matter. grow and resize also take +SIZE, shrink and resize -SIZE."
)
DONE: Final = "0 if it was done."
STATUS_OF_SEVERAL: Final = (
    "Each of several locations is done whatever becomes of the others; the status is that of the"
    " first that failed."
)
OTHER_STATUSES: Final = "virtstore(1) lists those of failures."
#: When commands exit 1 though nothing failed.
NO_ERROR: Final = {
    "diff": "the images differ",
    "doctor": "there is a problem or a warning",
}
STATUSES: Final = (
    STATUS_OF_SEVERAL,
    'With --json a failure is {"error": {"code", "message", "host", "path"}}, and what differs or'
    " is wrong is an ordinary result: so a script tells status 1 of diff or doctor from a failure.",
)
ENVIRONMENT: Final[Terms] = (
    ("VIRTSTORE_RSH", "The program in place of ssh, with its options."),
    ("VIRTSTORE_AGENT", "How an agent is started: a path, or sudo virtstore-agent."),
    ("VIRTSTORE_CONFIG", "The configuration of an agent on this machine, as --config."),
)
FILES: Final[Terms] = (
    ("/etc/virtstore/config.toml", "What the agent of this host may touch."),
    ("/etc/virtstore/conf.d/*.toml", "More of the same, read in the order of their names."),
    (
        "~/.config/virtstore/config.toml",
        "In place of both, if it is there, for an agent that is not root.",
    ),
    ("~/.config/virtstore/hosts.toml", "How the agents of some hosts are reached."),
    (
        "/etc/virtstore/backup/NAME.toml",
        "What --job NAME of backup, prune and backups does, unless there is"
        " ~/.config/virtstore/backup/NAME.toml.",
    ),
)
SIGNALS: Final[Terms] = (
    (
        "SIGINT, SIGTERM, SIGHUP",
        "End what is being done, in order; what is half-done is cleaned up, or listed as partial.",
    ),
    ("SIGUSR1", "Print how far it is, in a line on standard error."),
)

AGENT_SUMMARY: Final = "serves one session of virtstore on standard input and output"
AGENT: Final = (
    "virtstore(1) starts it, over ssh or as a child process; it is not meant for a person's hands."
    " It does what the configuration of its host allows, and nothing that a client says can widen"
    " that. Its options are for the command= of an authorized key: they narrow what is allowed.",
    "Each request that changes something, and each that is refused, is one line in the host's"
    " journal, unless the configuration says otherwise.",
)
AGENT_EXAMPLES: Final[Terms] = (
    (
        "A key that may only make new backups, in authorized_keys of the backup host:",
        'restrict,command="virtstore-agent --restrict-to /srv/backups --access append"'
        " ssh-ed25519 AAAA… alice",
    ),
    (
        "A user who may start it as root, without arguments, in sudoers:",
        'alice ALL=(root) NOPASSWD: /usr/bin/virtstore-agent ""',
    ),
)

TOML_SUMMARY: Final = "what virtstore may touch on a host, and how hosts are reached"
TOML: Final = (
    "Without a configuration nothing is allowed. An agent refuses to work where any part of it is"
    " wrong: an unknown key, a value that makes no sense, a file that others could have written."
    " Roots of later files are added to those of earlier ones; a limit replaces an earlier one.",
    "A file is TOML. Tables in double brackets may be there several times.",
)
HOSTS: Final = (
    "In hosts.toml, which is the client's: how virtstore(1) reaches the agent of the host that is"
    " called NAME in locations. Whatever is not said there is ssh's own configuration's."
)
HOST_KEYS: Final[Terms] = (
    ("address", "Where the host is: [USER@]HOST, or ssh://[USER@]HOST[:PORT]."),
    ("agent", "How its agent is started, such as sudo virtstore-agent."),
)
TOML_EXAMPLES: Final[Terms] = (
    (
        "A host with images in a directory and a volume group, and backups that nobody may remove:",
        """
        [[directory]]
        path = "/mnt/images"
        access = "write"

        [[directory]]
        path = "/mnt/backups"
        access = "append"

        [[volume_group]]
        name = "vg0"
        access = "write"
        """,
    ),
    (
        "A host that is reached under another address, where root is needed (hosts.toml):",
        """
        [hosts.a]
        address = "alice@10.0.0.5"
        agent = "sudo virtstore-agent"
        """,
    ),
)
