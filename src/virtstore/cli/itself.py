"""The commands that are about virtstore itself: completion and help."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from virtstore.cli.completion import SCRIPTS
from virtstore.cli.help import told
from virtstore.cli.options import Common
from virtstore.cli.render import print_json
from virtstore.cli.words import refuse_no_command

_DEFAULTS: Final = Common()


class Script(msgspec.Struct, frozen=True):
    """What has a shell complete what is typed."""

    shell: Literal["bash", "zsh", "fish"]
    script: str


class Help(msgspec.Struct, frozen=True):
    """What is told of a command; of all of them if `command` is None."""

    command: str | None
    text: str


def completion(shell: Literal["bash", "zsh", "fish"], /, *, options: Common = _DEFAULTS) -> None:
    """Print the script that has a shell complete what is typed.

    It completes commands, options, hosts and paths, also paths on other hosts, which it asks for
    over a connection of ssh that stays for a minute. The Debian package has installed the scripts.

    An installed script of bash's is found by the package bash-completion. Without that, write
    'source <(virtstore completion bash)' to ~/.bashrc.

    Parameters
    ----------
    shell
        The shell that is to complete: the one that you type in.

    Examples
    --------
    virtstore completion bash > ~/.local/share/bash-completion/completions/virtstore
    virtstore completion zsh > ~/.zfunc/_virtstore      # a directory in $fpath
    virtstore completion fish > ~/.config/fish/completions/virtstore.fish
    """
    if options.json:
        print_json(Script(shell, SCRIPTS[shell]))
    else:
        print(SCRIPTS[shell], end="")


def help_(verb: str | None = None, /, *, options: Common = _DEFAULTS) -> None:
    """Tell what a command does, or which commands there are.

    Parameters
    ----------
    verb
        The command.

    Examples
    --------
    virtstore help
    virtstore help copy
    """
    if verb is not None:
        refuse_no_command([verb])
    if options.json:
        print_json(Help(verb, told(verb)))
    else:
        print(told(verb))
