"""The version of this virtstore, and the protocols that it speaks: the one place that says it."""

__version__ = "0.1.0"

#: Raised by one whenever a message means something else than before.
PROTOCOL = 3
#: The oldest one that this version speaks as well. docs/reference/versions.md promises when it may
#: be raised.
OLDEST = 3
