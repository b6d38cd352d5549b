"""Sets in braces, where no shell has made several words of them."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from virtstore.cli.braces import expanded
from virtstore.errors import UsageError


@pytest.mark.parametrize(
    "text",
    ["a:/dev/vg0/{web,db}", "/x/{a,b}-{1,2,3}.img", "/x/web{,-data}", "/plain", "/x/{one}", "/x/{}",
     "a:/{images/web.img,dev/vg0/db}", "/x/{a,b", "/x/a,b}", "/x/{{a,b}"],
)  # fmt: skip
def test_a_set_is_the_words_that_bash_makes_of_it(text: str) -> None:
    argv = ["bash", "-c", f"printf '%s\\n' {text}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert expanded(text) == said.splitlines(), shlex.join(argv)


def test_absurdly_many_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="more than"):
        expanded("/" + "{a,b}" * 60)
