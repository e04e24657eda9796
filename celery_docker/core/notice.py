"""The word that a job or a batch has ended, as it is sent: an id, one line, the facts; and when it is sent again.

Pure. Invariant: the same end makes the same id for a target, however often it is sent, and nothing of a job's output
or environment is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_docker.core import lifecycle, wording
from celery_docker.core.incoming import Incoming

# A notice is handed out to one host for so long; whoever sends it takes less.
LEASE_S = 120
SEND_TIMEOUT_S = 30
# 10 s, then four times as long each time: the last try is after an hour and a half.
MOST_TRIES = 6
_FIRST_DELAY_S, _FACTOR = 10.0, 4
# No host could send it for so long: it is given up.
LONGEST_S = 86_400.0
_MOST_LINE = 300
_FACTS = ("name", "state", "reason", "exit_code", "host", "submitted_at", "started_at", "finished_at", "run_s")


@dataclass(frozen=True)
class Notice:
    """A notice for one target: `line` says it in one line, `facts` are for programs."""

    notice_id: str
    line: str
    facts: Mapping[str, Any]

    def as_json(self) -> str:
        """Return the notice as it is posted to a URL; chats show the `text`."""
        return json.dumps({"id": self.notice_id, "text": self.line, **self.facts}, ensure_ascii=True)

    def as_mail(self, address: str) -> str:
        """Return the notice as a mail; what is sent again has the same Message-ID."""
        # Half a MiB, which the service for HTTP and most workers never need.
        from email.message import EmailMessage
        from email.policy import SMTP

        mail = EmailMessage(SMTP)
        mail["To"] = address
        mail["Subject"] = self.line
        mail["Message-ID"] = f"<{self.notice_id}@celery-docker.invalid>"
        mail["Auto-Submitted"] = "auto-generated"
        shown = {name: value for name, value in self.facts.items() if value is not None}
        lines = [f"{name.replace('_', ' ')}: {_in_words(value)}" for name, value in shown.items()]
        mail.set_content("\n".join([self.line, "", *lines, ""]), charset="utf-8", cte="quoted-printable")
        return mail.as_bytes(policy=SMTP.clone(linesep="\n")).decode("ascii")


@dataclass(frozen=True)
class DueNotice:
    """A notice that this host is to send now: for which of the job's targets, of the job's own end or its batch's.

    `tries` is how often others have tried.
    """

    job_id: str
    number: int
    batch_id: str | None
    tries: int
    entry: str


@dataclass(frozen=True)
class NoticeFacts:
    """What a record says about a notice: the job's queue, message and receipt, and how old its end is."""

    queue: str
    message: Incoming
    receipt: Mapping[str, Any]
    age_s: float


def of_job(job_id: str, number: int, receipt: Mapping[str, Any]) -> Notice:
    """Return the notice of a job's end for its target of that number, from its receipt."""
    facts = {name: _harmless(receipt.get(name)) for name in _FACTS}
    label = f"{facts['name']} ({wording.short_id(job_id)})" if facts["name"] else job_id
    reason = f": {facts['reason']}" if facts["reason"] else ""
    line = wording.one_line(f"Job {label} {_state(receipt)}{reason}", _MOST_LINE)
    return Notice(f"{job_id}.{number}", line, {"job": job_id, **facts})


def of_batch(batch_id: str, number: int, name: str | None, counts: Mapping[str, int]) -> Notice:
    """Return the notice of a batch's end for the target of that number; `counts` are its jobs in each state."""
    label = f"{wording.harmless(name)} ({wording.short_id(batch_id)})" if name else batch_id
    ends = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    line = wording.one_line(f"Batch {label} has ended: {ends}", _MOST_LINE)
    facts = {"batch": batch_id, "name": _harmless(name), "size": sum(counts.values()), "counts": dict(counts)}
    return Notice(f"{batch_id}.{number}", line, facts)


def delay_s(tries: int) -> float:
    """Return how long a notice waits after so many tries have failed."""
    return float(_FIRST_DELAY_S * _FACTOR ** max(0, tries - 1))


def _state(receipt: Mapping[str, Any]) -> str:
    state = str(receipt.get("state"))
    return "has succeeded" if state == lifecycle.State.SUCCEEDED else f"has ended as {wording.harmless(state)}"


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return wording.one_line(value, _MOST_LINE)
    return value if isinstance(value, int | float) else None


def _in_words(value: Any) -> str:
    return ", ".join(f"{part} {name}" for name, part in value.items()) if isinstance(value, Mapping) else str(value)
