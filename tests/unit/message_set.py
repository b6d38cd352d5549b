"""A set of messages as data, so that two versions of it can be held against each other.

`python -m tests.unit.message_set >tests/unit/messages-VERSION.json` writes down this version's.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, Union, get_args, get_origin, get_type_hints

import msgspec

from virtstore import protocol


class Described(TypedDict):
    """A message, or a value in one. `tagged`: it goes by its name on the wire. `strict`: a field
    that is not known is refused. `fields`: of each its type and its default, as Python has them."""

    tagged: bool
    strict: bool
    fields: dict[str, str]


MessageSet = dict[str, Described]
_KNOWN: Final[dict[str, object]] = {"Literal": Literal, "datetime": datetime}


def described() -> MessageSet:
    """The messages of this version; what one holds comes before it."""
    found: MessageSet = {}
    for kind in get_args(protocol.Known):
        _describe(kind, found)
    return found


def _describe(kind: type[msgspec.Struct], found: MessageSet) -> None:
    hints = get_type_hints(kind)
    for each in kind.__struct_fields__:
        for inner in _structs(hints[each]):
            _describe(inner, found)
    config = kind.__struct_config__
    found[kind.__name__] = {
        "tagged": config.tag is not None,
        "strict": config.forbid_unknown_fields,
        "fields": {
            field.encode_name: _spelled(hints[field.name])
            + ("" if field.required else f" = {_default(field.default)}")
            for field in msgspec.structs.fields(kind)
        },
    }


def _structs(hint: object) -> Iterator[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for each in get_args(hint):
        yield from _structs(each)


def _spelled(hint: object) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(_spelled, inner))
    if origin is tuple:
        return f"tuple[{_spelled(inner[0])}, ...]"
    assert isinstance(hint, type), hint
    return "None" if hint is types.NoneType else hint.__name__


def _default(value: object) -> str:
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        assert value == kind()
        return f"{kind.__name__}()"
    return repr(value)


class Peer:
    """Encodes and decodes as the version does that a description is of."""

    def __init__(self, messages: MessageSet) -> None:
        self._kinds: dict[str, Any] = {}
        for name, facts in messages.items():
            self._kinds[name] = _struct(name, facts, self._kinds)
        tagged = tuple(self._kinds[name] for name in messages if messages[name]["tagged"])
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Union[tagged])  # noqa: UP007

    @property
    def reads(self) -> msgspec.msgpack.Decoder[Any]:
        """Decodes what this version understands. Raises `msgspec.ValidationError`."""
        return self._decoder

    def make(self, name: str, /, **values: object) -> Any:
        """A message or value of this version."""
        return self._kinds[name](**values)

    def understood(self, message: object) -> Any:
        """What this version takes for what the other sends. Raises `msgspec.ValidationError`."""
        return self._decoder.decode(msgspec.msgpack.encode(message))


def _struct(name: str, facts: Described, kinds: dict[str, Any]) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for field, text in facts["fields"].items():
        fields.append((field, *(eval(part, {**_KNOWN, **kinds}) for part in text.split(" = "))))
    lean = facts["tagged"] or facts["strict"]
    make: Callable[..., type[msgspec.Struct]] = msgspec.defstruct
    return make(
        name,
        fields,
        frozen=True,
        kw_only=True,
        omit_defaults=lean,
        tag=facts["tagged"],
        forbid_unknown_fields=facts["strict"],
    )


def complaints(old: MessageSet, new: MessageSet) -> list[str]:
    """What one of two versions would take for something else than the other says."""
    found = [f"{name} is gone" for name in old if name not in new]
    for name in old.keys() & new.keys():
        found += _complaints(name, old[name], new[name])
    return sorted(found)


def _complaints(name: str, old: Described, new: Described) -> Iterator[str]:
    for field, text in old["fields"].items():
        now = new["fields"].get(field)
        if now is None:
            yield f"{name}.{field} is gone"
        elif now != text and not _wider(now, text):
            yield f"{name}.{field} is {now} where it was {text}"
    for field in new["fields"].keys() - old["fields"].keys():
        if " = " not in new["fields"][field]:
            yield f"{name}.{field} is new, and has no default"
    if old["strict"] and not new["strict"]:
        yield f"{name} is not strict any more"


def _wider(now: str, then: str) -> bool:
    """Whether a field may be one of more words than before, and is the same otherwise."""
    (kind, *default), (before, *was) = now.split(" = "), then.split(" = ")
    if default != was or "Literal[" not in before:
        return False
    words, fewer = (set(get_args(eval(each, dict(_KNOWN)))) for each in (kind, before))
    return fewer < words


if __name__ == "__main__":
    print(json.dumps(described(), indent=1))
