"""A caller as the service sees it, however it has shown who it is."""

import re
from dataclasses import dataclass
from enum import StrEnum

from service.jobs.job import DEFAULT_TENANT

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a tenant's name looks like."""


class Scope(StrEnum):
    """What a caller may do with the jobs of its tenant."""

    READ = "read"
    """Look at jobs and models, and fetch results."""
    SUBMIT = "submit"
    """Post studies, cancel jobs and let failed ones begin anew."""
    DELETE = "delete"
    """Delete jobs with their study and results."""
    METRICS = "metrics"
    """Read the figures of the whole service, where they are not open to all."""


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Parameters
    ----------
    tenant
        Whose jobs the caller sees.
    name
        Stands in the audit log, and has a rate of its own: ``key:`` and an identifier, ``user:`` and a token's subject,
        ``setting:`` and the place of a key in the settings, ``local``.
    """

    tenant: str
    name: str
    scopes: frozenset[Scope]


LOCAL = Caller(DEFAULT_TENANT, "local", frozenset(Scope))
"""Whoever calls from this machine while no key is needed."""
