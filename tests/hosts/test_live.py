"""A live copy goes to another host as any copy does."""

from __future__ import annotations

import subprocess

from tests import guest
from tests.hosts.command import Client
from tests.hosts.sshd import Remote
from tests.libvirt_host import IMAGES, LibvirtHost


def test_a_running_domains_disk_goes_to_another_host_and_into_a_pipe(
    libvirt: LibvirtHost, client: Client, b: Remote
) -> None:
    libvirt.start("web", libvirt.disk("web.img"))
    libvirt.wait_for_writes("web.img", 2)
    config = libvirt.directory / "config.toml"
    config.write_text(f'[[directory]]\npath = "{IMAGES}"\naccess = "append"\n')
    here = client.having(VIRTSTORE_AGENT=libvirt.agent("--config", config))
    told = here.json("copy", IMAGES / "web.img", f"b:{b.images}/web.img", "--live")
    copied = (b.images / "web.img").read_bytes()
    assert told["size"] == len(copied)
    assert guest.counts(copied)
    assert guest.is_of_one_moment(copied)
    piped = subprocess.run(
        here.argv("copy", IMAGES / "web.img", "-", "--live", "--quiet"),
        env=here.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert guest.is_of_one_moment(piped.stdout)
    assert max(guest.counts(piped.stdout)) > max(guest.counts(copied))
