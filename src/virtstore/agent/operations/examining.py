"""What could go wrong on this host, for `virtstore doctor`."""

from __future__ import annotations

import time

from virtstore import processor
from virtstore.agent import doctor
from virtstore.agent.context import Agent
from virtstore.protocol import Examine, Examined, known_requests


def examine(agent: Agent, request: Examine) -> Examined:
    agent.session.stage("checking")
    found = doctor.examine(lambda: agent.policy, agent.session.check)
    return Examined(found, time.time(), processor.has_aes(), known_requests())
