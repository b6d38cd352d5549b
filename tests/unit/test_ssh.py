"""How an agent is reached: exact argv, since a word too many is an option to ssh."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from virtstore import processor
from virtstore.cli import main as cli
from virtstore.cli import start
from virtstore.client import prestarted, sessions, ssh
from virtstore.client.ssh import agent_argv, can_share, hosts_file
from virtstore.errors import ConnectionFailed, UsageError
from virtstore.location import LOCAL, HostAddress


@pytest.fixture(autouse=True)
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hosts.toml would be; nothing of the user's own is in force."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("VIRTSTORE_RSH", "VIRTSTORE_AGENT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "virtstore").mkdir()
    return tmp_path / "virtstore" / "hosts.toml"


@pytest.mark.parametrize(
    ("address", "argv"),
    [
        (HostAddress("a"), ["ssh", "-T", "--", "a"]),
        (HostAddress("a", "u"), ["ssh", "-T", "--", "u@a"]),
        (HostAddress("a", None, 2222), ["ssh", "-T", "-p", "2222", "--", "a"]),
        (HostAddress("::1", "u"), ["ssh", "-T", "--", "u@::1"]),
    ],
)
def test_ssh_is_given_the_host_behind_two_hyphens(address: HostAddress, argv: list[str]) -> None:
    assert agent_argv(address) == [*argv, "virtstore-agent"]


def test_the_local_agent_is_this_very_python_and_not_what_lies_in_the_working_directory() -> None:
    python, *options, last = agent_argv(LOCAL, config="/c.toml")
    assert (python, last) == (sys.executable, "/c.toml")
    assert options == ["-X", "utf8", "-P", "-m", "virtstore.agent", "--config"]


def test_a_configuration_is_never_named_to_another_host() -> None:
    assert "--config" not in agent_argv(HostAddress("a"), config="/c.toml")


def test_the_environment_names_another_program_and_another_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VIRTSTORE_RSH", "/usr/bin/ssh -i 'my key'")
    monkeypatch.setenv("VIRTSTORE_AGENT", "sudo virtstore-agent")
    wanted = ["/usr/bin/ssh", "-i", "my key", "-T", "--", "a", "sudo virtstore-agent"]
    assert agent_argv(HostAddress("a")) == wanted
    assert agent_argv(LOCAL) == ["sudo", "virtstore-agent"]


@pytest.mark.parametrize(("variable", "host"), [("VIRTSTORE_RSH", "a"), ("VIRTSTORE_AGENT", None)])
@pytest.mark.parametrize("text", ["'", 'x "', "x\\"])
def test_what_is_no_command_line_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, host: str | None, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(UsageError, match=f"{variable}.* is no command line"):
        agent_argv(HostAddress(host))


def test_a_program_that_is_no_ssh_gets_no_options_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSTORE_RSH", "/opt/connect")
    assert agent_argv(HostAddress("a")) == ["/opt/connect", "--", "a", "virtstore-agent"]
    assert not can_share(HostAddress("a"))


def test_a_shared_connection_ends_with_its_last_session() -> None:
    argv = agent_argv(HostAddress("a"), control="/s/%C")
    wanted = ["-o", "ControlMaster=auto", "-o", "ControlPath=/s/%C", "-o", "ControlPersist=no"]
    assert argv == ["ssh", "-T", *wanted, "--", "a", "virtstore-agent"]
    assert not can_share(LOCAL)


def test_the_hosts_file_says_more_of_a_host(hosts: Path) -> None:
    hosts.write_text(
        '[hosts.a]\naddress = "ssh://root@10.0.0.5:2222"\nagent = "sudo virtstore-agent"\n'
        '[hosts.local]\nagent = "env X=1 virtstore-agent"\n'
    )
    assert hosts_file() == str(hosts)
    wanted = ["ssh", "-T", "-p", "2222", "--", "root@10.0.0.5", "sudo virtstore-agent"]
    assert agent_argv(HostAddress("a")) == wanted
    assert agent_argv(HostAddress("b")) == ["ssh", "-T", "--", "b", "virtstore-agent"]
    assert agent_argv(LOCAL) == ["env", "X=1", "virtstore-agent"]


def test_the_hosts_file_comes_before_the_environment(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTSTORE_AGENT", "elsewhere")
    hosts.write_text('[hosts.a]\nagent = "here"\n')
    assert agent_argv(HostAddress("a"))[-1] == "here"
    assert agent_argv(HostAddress("b"))[-1] == "elsewhere"


@pytest.mark.parametrize(
    "text",
    [
        "[hosts.a]\nadress = 'x'\n",
        "[hosts.a]\naddress = 5\n",
        "hosts = 1\n",
        "[a]\n",
        "not TOML",
        "[hosts.a]\naddress = '-oProxyCommand=x'\n",
        "[hosts.a]\naddress = 'b:/path'\n",
    ],
)
def test_a_hosts_file_that_makes_no_sense_is_refused(hosts: Path, text: str) -> None:
    hosts.write_text(text)
    with pytest.raises(UsageError):
        agent_argv(HostAddress("a"))


@pytest.mark.parametrize(
    ("line", "agents"),
    [
        ("info /x", 1),
        ("info a:/x", 1),
        ("-q info a:/x", 1),
        ("list a:", 1),
        ("storage-info a:", 1),
        ("grow u@a:/x 1G", 1),
        ("verify ssh://a:2222/x", 1),
        ("copy /x /y", 1),
        ("copy a:/x a:/y", 1),
        ("copy /x a:/y", 2),
        ("copy --level 3 a:/x /y --archive", 2),
        ("copy-contents a:/x /y", 2),
        ("diff /x a:/y", 2),
        ("diff a:/x a:/y", 1),
        ("copy a:/x b:/y", 0),
        ("copy --nice /x a:/y", 0),
        ("info /x --config /c.toml", 0),
    ],
)
def test_an_agent_that_is_started_ahead_is_the_one_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, line: str, agents: int
) -> None:
    """Another argv would be another agent, and the one that was started of no use."""
    started: list[list[str]] = []
    opened: list[list[str]] = []

    def fail(argv: list[str], *_: object, **__: object) -> None:
        opened.append(argv)
        raise ConnectionFailed("nobody is there")

    settings = {"ciphers": "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com"}
    monkeypatch.setattr(ssh, "_settings", lambda argv: settings)
    monkeypatch.setattr(processor, "has_aes", lambda: True)
    monkeypatch.setattr(prestarted, "start", started.append)
    monkeypatch.setattr(sessions, "Connection", fail)
    monkeypatch.setattr("os.nice", lambda more: 0)
    monkeypatch.setattr(sys, "argv", ["virtstore", *line.split()])
    start._start_agents(sys.argv[1:])
    with pytest.raises(SystemExit):
        cli.main()
    assert len(started) == agents
    assert all(argv in opened for argv in started)


ELSEWHERE = HostAddress("a")


def test_nobody_is_asked_by_a_session_without_questions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ssh, "_settings", lambda argv: {"ciphers": "x"})
    (runtime := tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    options = " ".join(ssh.options_without_questions(ELSEWHERE))
    assert "BatchMode=yes" in options
    # A longer path is no socket's.
    fits = len(f"{runtime}/virtstore/") <= 50
    assert (f"ControlPath={runtime}/virtstore/%C" in options) == fits
    assert (runtime / "virtstore").stat().st_mode & 0o777 == 0o700


def test_a_connection_that_a_user_shares_already_is_the_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ssh, "_settings", lambda argv: {"controlpath": "/x"})
    options = ssh.options_without_questions(ELSEWHERE)
    assert "BatchMode=yes" in options
    assert "Control" not in " ".join(options)


def test_a_directory_that_others_can_enter_is_none_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ssh, "_settings", lambda argv: {"ciphers": "x"})
    (runtime := tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    (runtime / "virtstore").mkdir(mode=0o755)
    assert "Control" not in " ".join(ssh.options_without_questions(ELSEWHERE))
    (runtime / "virtstore").rmdir()
    (runtime / "virtstore").symlink_to(tmp_path)
    assert "Control" not in " ".join(ssh.options_without_questions(ELSEWHERE))


def test_what_is_no_ssh_gets_no_options_without_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTSTORE_RSH", "docker exec -i")
    assert ssh.options_without_questions(ELSEWHERE) == ()
    assert ssh.options_without_questions(LOCAL) == ()
