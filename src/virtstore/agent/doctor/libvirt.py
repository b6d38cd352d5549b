"""libvirt: whether it tells of its domains, and which of its pools lie in no root."""

from __future__ import annotations

from collections.abc import Iterator

from virtstore import programs
from virtstore.agent import libvirt_pools
from virtstore.agent.policy import Policy
from virtstore.errors import Error
from virtstore.findings import note, ok, warning
from virtstore.libvirt import virsh
from virtstore.libvirt.domains import domains
from virtstore.model import Finding


def answers() -> Iterator[Finding]:
    """Nothing where there is no libvirt."""
    if not virsh.is_there():
        return
    without = (
        "which domain has an image is not known, and nothing protects the disks of those that are"
        " shut off"
    )
    if programs.missing("virsh"):
        yield warning(
            f"libvirt runs here and virsh is missing: {without}",
            f"install it (Debian: apt install {programs.package('virsh')})",
        )
        return
    try:
        domains()
    except (Error, OSError) as error:
        yield warning(
            f"libvirt does not tell of its domains: {without} ({error})",
            "see on the host what 'virsh -r -c qemu:///system list --all' says; it may have to be"
            " started again ('systemctl restart libvirtd')",
        )
        return
    yield ok("libvirt tells of its domains")


def pools(policy: Policy) -> Iterator[Finding]:
    for pool in libvirt_pools.pools(policy):
        what = f"libvirt's pool {pool.name} ({pool.path})"
        if pool.remedy:
            told = f"{what} lies in no root, so virtstore does not manage it"
            yield note(told, pool.remedy)
        else:
            yield ok(f"{what} lies in a root")
