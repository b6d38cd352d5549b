"""Who uses an image: evidence, gathered by looking.

A *provider* knows one source of evidence: what the kernel shows (kernel.py), what an image's store
counts (store.py), which of libvirt's domains have it (libvirt.py). Each other module of this
package is one, made by its function `look`: whoever adds a provider adds a file and nothing else.
An image is known by its identity, never by its name.

Whom no provider can speak for is not free but unknown, and unknown is refused like a use.
"""

from __future__ import annotations

import pkgutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Final, Literal, NamedTuple, Protocol

from virtstore.backends.base import Identity, Image
from virtstore.errors import InUse as InUseError
from virtstore.model import Domain, InUse

_UNKNOWN: Final = (
    "it cannot be told whether somebody uses it, so it counts as used: virtstore knows no way to"
    " find out who uses an image in a place of this kind; make sure that nobody does, and copy it"
    " to a directory or volume group with --allow-in-use"
)


class Use(NamedTuple):
    """One use of an image, and whether that user may change it. `passing`: it ends in a moment, as
    that of udev, which reads a device that was made or written. `whose`: companions are agents that
    only look, and tools that this agent started; they are shown and do not count. `defined`: it is
    no use yet, but somebody counts on the image, as a domain that is shut off. `domain`: who it
    is, where that is one of libvirt's."""

    evidence: InUse
    writes: bool
    passing: bool = False
    whose: Literal["another", "companion", "self"] = "another"
    defined: bool = False
    domain: Domain | None = None


class Provider(Protocol):
    """One source of evidence, as it was at the moment at which this was made."""

    def speaks_for(self, image: Image) -> bool:
        """Whether this source would show it if somebody used such an image."""
        ...

    def gather(self, images: Sequence[Image]) -> Iterator[tuple[Identity, Use]]:
        """What there is about these images; one use for each descriptor, mount or the like."""
        ...


class Uses(NamedTuple):
    """All that is known about one image. `told`: a provider speaks for it."""

    known: tuple[Use, ...]
    told: bool

    @property
    def shown(self) -> tuple[InUse, ...]:
        """The evidence of everybody but this process, domains first."""
        shown = (use for use in self.known if use.whose != "self" and not use.defined)
        return tuple(sorted(_each_once(shown), key=lambda use: use.by != "domain"))

    @property
    def domain(self) -> Domain | None:
        """The domain that has it; of several one that is active."""
        named = sorted((use for use in self.known if use.domain), key=lambda use: use.defined)
        return named[0].domain if named else None

    @property
    def in_use(self) -> bool:
        """Whether somebody has it, or may have it."""
        return not self.told or bool(self._counting)

    @property
    def users(self) -> frozenset[InUse]:
        """The evidence of those who count, without those who go in a moment."""
        return frozenset(use.evidence for use in self._counting if not use.passing)

    @property
    def passing(self) -> bool:
        """Whether somebody uses it, and everybody who does goes in a moment."""
        return bool(self._counting) and all(use.passing for use in self._counting)

    def refuse(self, *, writers_only: bool = False) -> None:
        """Raises the error `InUse`, with the evidence, if there is any (`writers_only`: of
        somebody who may be changing the image), or where nobody can tell."""
        if not self.told:
            raise InUseError(_UNKNOWN)
        uses = _each_once(use for use in self._counting if use.writes or not writers_only)
        if uses:
            raise InUseError(_accusation(uses))

    def refuse_defined(self) -> None:
        """Raises the error `InUse` where somebody counts on it who does not use it now."""
        if told := _each_once(use for use in self.known if use.defined):
            raise InUseError(
                f"{' and '.join(use.detail for use in told)}; --force-defined does it all the same"
            )

    @property
    def _counting(self) -> list[Use]:
        return [use for use in self.known if use.whose == "another" and not use.defined]


class Scan:
    """What every provider showed at the moment of construction."""

    def __init__(self, providers: Sequence[Provider] | None = None) -> None:
        self._providers = _look() if providers is None else providers

    def of(self, image: Image) -> Uses:
        return self.of_each([image])[image.identity]

    def of_each(self, images: Sequence[Image]) -> dict[Identity, Uses]:
        """The same of many images at once."""
        once = {image.identity: image for image in images}  # one may have many names
        known: dict[Identity, list[Use]] = defaultdict(list)
        for provider in self._providers:
            for identity, use in provider.gather(list(once.values())):
                known[identity].append(use)
        return {i: Uses(_named(known[i]), self._is_told(image)) for i, image in once.items()}

    def _is_told(self, image: Image) -> bool:
        return any(provider.speaks_for(image) for provider in self._providers)


def list_uses(uses: Iterable[InUse]) -> str:
    """Pieces of evidence as a message lists them."""
    return "; ".join(
        use.detail if use.by == "domain" else f"{use.by}: {use.detail}" for use in uses
    )


def _accusation(uses: Sequence[InUse]) -> str:
    """What a message says of those who use an image. A domain is known by its name, so it comes
    first."""
    domains = [use.detail for use in uses if use.by == "domain"]
    others = list_uses(use for use in uses if use.by != "domain")
    if not domains:
        return f"somebody uses it ({others})"
    return " and ".join(domains) + (f" ({others})" if others else "")


def _look() -> list[Provider]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [import_module(f"{__name__}.{name}").look() for name in names]


def _named(uses: Sequence[Use]) -> tuple[Use, ...]:
    """Without as many of those that were only counted as there are others: a store counts those
    users, too, that another provider names. A domain opens nothing itself: its QEMU does."""
    named = [use for use in uses if use.evidence.by != "open-count"]
    counted = [use for use in uses if use.evidence.by == "open-count"]
    openers = [use for use in named if use.evidence.by != "domain"]
    return (*named, *counted[len(openers) :])


def _each_once(uses: Iterable[Use]) -> tuple[InUse, ...]:
    return tuple(dict.fromkeys(use.evidence for use in uses))
