"""What a host allows, no client can widen: not by its options, not by its environment, and
not with a key whose line in authorized_keys names the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import Client
from .conftest import Hosts, Refused, random_image
from .sshd import Remote
from .trees import MIB, digest_of


@pytest.fixture
def backups(b: Remote) -> Path:
    """Where alone the key `append` may do anything: to make new images."""
    backups = b.images / "backups"
    backups.mkdir()
    random_image(backups / "old", MIB)
    random_image(b.images / "secret", MIB)
    return backups


def test_an_append_key_makes_new_backups(client: Client, hosts: Hosts, backups: Path) -> None:
    source = random_image(hosts.a.images / "disk", 2 * MIB, seed=2)
    new = hosts.b.at(backups / "new", "b-append")
    client.json("copy", "--archive", hosts.a.at(source), new)
    assert client.json("verify", new)["digest"] == digest_of(source)
    client.json("create", hosts.b.at(backups / "empty", "b-append"), "1M")
    back = hosts.a.images / "back"
    client.json("copy", new, hosts.a.at(back))
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    "line",
    [
        "delete {old}",
        "grow {old} 5M",
        "shrink {old} 4K --discard-data",
        "compress {old}",
        "clean {old}",
        "copy --overwrite {disk} {old}",
        "copy --archive --overwrite {disk} {old}",
        "copy-contents {disk} {old}",
        "info {secret}",
        "list {parent}",
        "copy {secret} {disk}-2",
        "copy {disk} {parent}/new",
    ],
)
def test_an_append_key_overwrites_deletes_and_sees_nothing_else(
    hosts: Hosts, backups: Path, refused: Refused, line: str
) -> None:
    names = {
        "old": hosts.b.at(backups / "old", "b-append"),
        "secret": hosts.b.at(hosts.b.images / "secret", "b-append"),
        "parent": hosts.b.at(hosts.b.images, "b-append"),
        "disk": hosts.a.at(random_image(hosts.a.images / "disk", MIB, seed=2)),
    }
    refused("denied", *line.format(**names).split(), says="--access append|restricted to")


def test_whatever_agent_the_client_asks_for_the_keys_own_command_runs(
    client: Client, hosts: Hosts, backups: Path
) -> None:
    for name in (hosts.a, hosts.b):
        (name.images / "backups").mkdir(exist_ok=True)
    evil = hosts.directory / "evil"
    asking = client.having(VIRTSTORE_AGENT=f"touch {evil}; virtstore-agent --config {evil}")
    # `a-append` has no entry in hosts.toml, so the environment counts.
    secret = hosts.a.at(random_image(hosts.a.images / "secret", MIB), "a-append")
    assert asking.run("info", secret, "--json").error("denied")
    assert asking.run("delete", secret, "--json").error("denied")
    assert not evil.exists()


def test_a_read_key_reads(client: Client, hosts: Hosts) -> None:
    source = random_image(hosts.b.images / "disk", MIB)
    there = hosts.b.at(source, "b-read")
    assert client.json("info", there)["size"] == MIB
    client.json("copy", there, hosts.a.at(hosts.a.images))
    assert (hosts.a.images / "disk").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    "line", ["create {images}/new 1M", "delete {images}/disk", "copy {images}/disk {images}/2"]
)
def test_a_read_key_changes_nothing(hosts: Hosts, refused: Refused, line: str) -> None:
    random_image(hosts.b.images / "disk", MIB)
    words = line.format(images=hosts.b.at(hosts.b.images, "b-read"))
    refused("denied", *words.split(), says="--access read")


def test_the_clients_own_configuration_does_not_count_at_a_host(
    hosts: Hosts, refused: Refused
) -> None:
    everything = hosts.directory / "client" / "everything.toml"
    secret = hosts.a.at(random_image(hosts.a.outside / "secret", MIB))
    refused("denied", "info", "--config", everything, secret, says="administrator writes")
    refused("denied", "delete", "--config", everything, secret, says="administrator writes")


@pytest.mark.parametrize("name", ["a", "a-bare"])
def test_the_clients_own_environment_does_not_count_at_a_host(
    client: Client, hosts: Hosts, name: str
) -> None:
    """Its sshd accepts it. The agent of `a-bare` is started without --config, as in README."""
    everything = hosts.directory / "client" / "everything.toml"
    secret = hosts.a.at(random_image(hosts.a.outside / "secret", MIB), name)
    passed_on = "-o SendEnv=VIRTSTORE_CONFIG -o SendEnv=XDG_CONFIG_HOME"
    asking = client.having(
        VIRTSTORE_CONFIG=str(everything),
        VIRTSTORE_RSH=f"{client.environment['VIRTSTORE_RSH']} {passed_on}",
    )
    assert asking.run("info", secret, "--json").error("denied")


def test_a_user_who_came_by_ssh_names_a_configuration_of_this_machine(
    client: Client, hosts: Hosts
) -> None:
    """SSH_CONNECTION is in every shell of such a login; its agents here are no client's."""
    image = random_image(hosts.local / "disk", MIB)
    there = client.having(SSH_CONNECTION="192.0.2.1 50000 192.0.2.2 22")
    assert there.json("info", image)["size"] == MIB


def test_no_uploaded_image_becomes_the_configuration(client: Client, hosts: Hosts) -> None:
    """Also where it allows a directory that it does not lie in."""
    secret = random_image(hosts.a.outside / "secret", MIB)
    text = f'[[directory]]\npath = "{hosts.a.tree}"\naccess = "write"\n'
    (hosts.local / "source").write_text(text)
    uploaded = hosts.a.images / "evil.toml"
    client.json("copy", hosts.local / "source", hosts.a.at(uploaded))
    assert uploaded.read_text() == text
    asking = client.having(VIRTSTORE_AGENT=f"virtstore-agent --config {uploaded}")
    error = asking.run("info", hosts.a.at(secret, "a-bare"), "--json").error("denied")
    assert "lies below" in error["message"]


@pytest.mark.parametrize("restriction", ["", ".", "./", "..", "images", "/srv/../etc"])
def test_a_restriction_that_is_not_clear_allows_nothing(
    client: Client, hosts: Hosts, restriction: str
) -> None:
    agent = f"virtstore-agent --config {hosts.a.configuration} --restrict-to '{restriction}'"
    asking = client.having(VIRTSTORE_AGENT=agent)
    image = random_image(hosts.a.images / "disk", MIB)
    for words in (("info", hosts.a.at(image, "a-bare")), ("list", "a-bare:")):
        error = asking.run(*words, "--json").error("denied")
        assert "--restrict-to" in error["message"]
