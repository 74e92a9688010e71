"""The administrator's configuration: virtcpr.toml and conf.d."""

from __future__ import annotations

from virtcpr.host.files import config_files
from virtcpr.plan.policy import Policy, policy


def configured() -> Policy:
    """The policy of the configuration files.  Raises HostError and ParseError."""
    return policy(config_files.documents())
