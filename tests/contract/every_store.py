"""All tests of the contract of stores, for whoever runs them on stores of his own: he defines the
fixture `subject` and imports everything from here."""

from __future__ import annotations

from .stores import store as store
from .test_backends import *  # noqa: F403
from .test_backends_changes import *  # noqa: F403
from .test_backends_containers import *  # noqa: F403
from .test_backends_growing import *  # noqa: F403
from .test_backends_guarded import *  # noqa: F403
from .test_backends_moments import *  # noqa: F403
from .test_backends_names import *  # noqa: F403
from .test_backends_open_images import *  # noqa: F403
from .test_backends_rework import *  # noqa: F403
from .test_backends_snapshots import *  # noqa: F403
