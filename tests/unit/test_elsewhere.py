"""What an image names by a path, as the kernel would find it from the image's directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtstore.backends.base import NOWHERE, Elsewhere
from virtstore.errors import Denied

#: What a header may name, and what an image in /srv/images means by it.
MEANT = {
    "golden.qcow2": "/srv/images/golden.qcow2",
    "./golden.qcow2": "/srv/images/golden.qcow2",
    "sub//golden.qcow2": "/srv/images/sub/golden.qcow2",
    "../golden/x.img": "/srv/golden/x.img",
    "./../golden/./x.img": "/srv/golden/x.img",
    "../../../../etc/shadow": "/etc/shadow",
    "../images/x.img": "/srv/images/x.img",
    "/srv//golden/x.img": "/srv/golden/x.img",
    "...": "/srv/images/...",
    "..x/y": "/srv/images/..x/y",
}


@pytest.mark.parametrize("named", MEANT)
def test_a_path_is_meant_from_the_directory_of_who_names_it(named: str) -> None:
    assert Elsewhere("/srv/images", NOWHERE.opened).path_of(named) == MEANT[named]


@pytest.mark.parametrize("named", ["sub/../../x", "../a/../../x", "/srv/images/../x", "x/.."])
def test_what_may_lead_elsewhere_through_a_link_keeps_its_dots_and_is_refused(named: str) -> None:
    assert ".." in Elsewhere("/srv/images", NOWHERE.opened).path_of(named).split("/")


def test_upwards_leads_from_where_a_directory_really_is(tmp_path: Path) -> None:
    (real := tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "images").symlink_to(real)
    elsewhere = Elsewhere(f"{tmp_path}/images", NOWHERE.opened)
    assert elsewhere.path_of("../golden/x.img") == f"{tmp_path}/data/golden/x.img"
    for named in ("x.img", "../images/x.img", f"{real}/x.img", f"{tmp_path}/images/x.img"):
        assert elsewhere.path_of(named) == f"{tmp_path}/images/x.img"


def test_a_store_that_nobody_told_of_others_opens_none() -> None:
    with pytest.raises(Denied), NOWHERE.opened("/srv/golden/x.img"):
        pass
