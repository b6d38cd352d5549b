"""What providers say is put together, and where none can speak an image is not taken for free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from tests.contract.memory import Contents, MemoryImage

from virtstore.agent.evidence import Scan, Use
from virtstore.backends.base import Identity, Image
from virtstore.errors import InUse as InUseError
from virtstore.model import Domain, InUse

READER = Use(InUse("process", "reader"), writes=False)
WRITER = Use(InUse("process", "writer"), writes=True)
RUNNING = Use(
    InUse("domain", "domain web is running"), writes=True, domain=Domain("web", "running")
)
DEFINED = Use(
    InUse("domain", "domain db, shut off, is defined on it"),
    writes=False,
    defined=True,
    domain=Domain("db", "shut off"),
)


class Knows:
    """A provider that knows of some uses of the images that it speaks for."""

    def __init__(self, image: Image, *uses: Use) -> None:
        self.image = image
        self.uses = uses

    def speaks_for(self, image: Image) -> bool:
        return image.identity == self.image.identity

    def gather(self, images: Sequence[Image]) -> Iterator[tuple[Identity, Use]]:
        for image in images:
            if self.speaks_for(image):
                yield from ((image.identity, use) for use in self.uses)


@pytest.fixture
def image() -> MemoryImage:
    return MemoryImage(Contents())


def test_an_image_for_which_no_provider_speaks_is_refused_like_one_in_use(
    image: MemoryImage,
) -> None:
    other = MemoryImage(Contents())
    for providers in ([], [Knows(other, READER)], None):
        uses = Scan(providers).of(image)
        assert uses.shown == ()
        assert uses.in_use
        for writers_only in (False, True):
            with pytest.raises(InUseError, match="cannot be told whether somebody uses it"):
                uses.refuse(writers_only=writers_only)


def test_one_provider_that_speaks_for_it_is_enough(image: MemoryImage) -> None:
    other = MemoryImage(Contents())
    uses = Scan([Knows(other), Knows(image)]).of(image)
    uses.refuse()
    assert not uses.in_use


def test_what_several_providers_know_is_listed_once_and_refused(image: MemoryImage) -> None:
    uses = Scan([Knows(image, READER, READER), Knows(image, WRITER, READER)]).of(image)
    assert uses.shown == (READER.evidence, WRITER.evidence)
    with pytest.raises(InUseError, match=r"\(process: reader; process: writer\)"):
        uses.refuse()
    with pytest.raises(InUseError, match=r"\(process: writer\)"):
        uses.refuse(writers_only=True)


def test_an_image_with_many_names_is_asked_about_once(image: MemoryImage) -> None:
    names = [MemoryImage(image.contents) for _ in range(3)]
    found = Scan([Knows(image, READER)]).of_each(names)
    assert found[image.identity].known == (READER,)


def test_many_images_are_asked_about_at_once(image: MemoryImage) -> None:
    other = MemoryImage(Contents())
    found = Scan([Knows(image, READER), Knows(other, WRITER)]).of_each([image, other])
    assert found[image.identity].shown == (READER.evidence,)
    assert found[other.identity].shown == (WRITER.evidence,)


def test_companions_are_shown_and_do_not_count_and_we_ourselves_are_neither(
    image: MemoryImage,
) -> None:
    ours = [WRITER._replace(whose="companion"), READER._replace(whose="self")]
    uses = Scan([Knows(image, *ours)]).of(image)
    assert uses.shown == (WRITER.evidence,)
    assert uses.users == frozenset()
    uses.refuse()


def test_who_goes_in_a_moment_is_passing_only_where_nobody_stays(image: MemoryImage) -> None:
    udev = READER._replace(evidence=InUse("process", "udev"), passing=True)
    assert Scan([Knows(image, udev)]).of(image).passing
    assert not Scan([Knows(image, udev, READER)]).of(image).passing
    assert not Scan([Knows(image)]).of(image).passing
    assert Scan([Knows(image, udev, READER)]).of(image).users == {READER.evidence}


def test_of_those_that_are_only_counted_as_many_are_left_out_as_others_are_known(
    image: MemoryImage,
) -> None:
    counted = Use(InUse("open-count", "it is open"), writes=True, passing=True)
    own = READER._replace(whose="self")

    def refused(*uses: Use) -> bool:
        found = Scan([Knows(image, *uses)]).of(image)
        return bool([use for use in found.known if use == counted])

    assert refused(counted)
    assert not refused(counted, counted, READER, own)
    assert refused(counted, counted, counted, READER, own)
    assert refused(counted, counted, READER, RUNNING)
    assert Scan([Knows(image, counted)]).of(image).passing
    assert Scan([Knows(image, counted)]).of(image).in_use


def test_who_uses_it_is_told_by_the_name_of_the_domain_first(image: MemoryImage) -> None:
    with pytest.raises(InUseError, match=r"^domain web is running \(process: writer\)$"):
        Scan([Knows(image, WRITER, RUNNING)]).of(image).refuse()
    with pytest.raises(InUseError, match=r"^domain web is running$"):
        Scan([Knows(image, RUNNING)]).of(image).refuse(writers_only=True)


def test_a_domain_that_is_shut_off_is_no_user_and_refused_only_where_it_loses_something(
    image: MemoryImage,
) -> None:
    uses = Scan([Knows(image, DEFINED)]).of(image)
    assert not uses.in_use
    assert uses.shown == ()
    assert uses.domain == Domain("db", "shut off")
    uses.refuse()
    with pytest.raises(InUseError, match=r"^domain db, shut off, is defined on it.*--force-def"):
        uses.refuse_defined()
    assert Scan([Knows(image, DEFINED, RUNNING)]).of(image).domain == Domain("web", "running")
