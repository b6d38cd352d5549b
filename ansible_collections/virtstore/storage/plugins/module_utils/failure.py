"""What virtstore refused, or could not do, and the failures of a task that are told likewise."""

from __future__ import annotations

#: What virtstore calls the machine that it runs on.
LOCAL = "local"


class Failure(Exception):
    """`code`: one of virtstore's; `host` and `path`: None where it is about none."""

    def __init__(
        self, code: str, message: str, host: str | None = None, path: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.host = host
        self.path = path

    def __str__(self) -> str:
        where = self.location or (self.host if self.host != LOCAL else "")
        return f"{where}: {self.message}" if where else self.message

    @property
    def location(self) -> str | None:
        """Where it happened, as a location; None where that is no path."""
        return spelled(self.host or LOCAL, self.path) if self.path else None

    def told(self) -> dict[str, str | None]:
        """The same for whoever reads the result of a task."""
        return {
            "code": self.code,
            "message": self.message,
            "host": self.host,
            "path": self.path,
        }


def failure_in(answer: object) -> Failure | None:
    """The failure that an answer of virtstore's is; None where it is a result."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None
    return Failure(
        str(error.get("code")), str(error.get("message")), error.get("host"), error.get("path")
    )


def spelled(host: str, path: str) -> str:
    """The location of a path on a host, by the name that virtstore has told for that."""
    if host == LOCAL:
        return path
    if path.startswith("//") and not host.startswith("ssh://"):
        host = f"ssh://{host}"  # HOST:// would begin a URL of another kind
    if host.startswith("ssh://"):
        return host + path.replace("%", "%25")
    return f"{host}:{path}"
