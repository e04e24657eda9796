"""What there is to do for a host besides running jobs: one question a second instead of one for each duty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outlook:
    """What there is to do at the time `now`, in seconds since the epoch by Redis' clock.

    `is_due`: a delayed job is to be published. `has_expired`: one had to start by now and has not. `drained_by` says
    who keeps this host from taking jobs, and why; None: nobody does.
    """

    now: float
    is_due: bool = False
    has_expired: bool = False
    has_end_requests: bool = False
    has_orders: bool = False
    has_parked: bool = False
    drained_by: str | None = None
