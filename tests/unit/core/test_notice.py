"""A notice as it is sent: ids that stay, lines that are one line, mails whose headers are ours alone."""

from __future__ import annotations

import json
from email import message_from_string, policy
from typing import Any

import pytest

from celery_docker.core import notice

JOB = "0d3f4c6e-9a41-4c6e-9a41-7f2b3c4d5e6f"
RECEIPT: dict[str, Any] = {
    "id": JOB,
    "name": "sums",
    "state": "failed",
    "reason": "exit code 3",
    "exit_code": 3,
    "host": "node1",
    "run_s": 1.5,
    "output": "SECRET",
    "last_stderr_line": "SECRET",
}
HOSTILE = [
    "a\r\nBcc: x@y.z",
    "a\n\nbody",
    "a\0b",
    "\x1b[31m",
    "\u202eabc",
    "\ud800",
    "=?utf-8?q?a=0ABcc=3A_x?=",
    "é" * 999,
]


def test_the_notice_of_a_job() -> None:
    told = notice.of_job(JOB, 2, RECEIPT)
    assert told.notice_id == f"{JOB}.2"
    assert told.line == "Job sums (0d3f4c6e) has ended as failed: exit code 3"
    values = json.loads(told.as_json())
    assert (values["id"], values["text"], values["job"]) == (f"{JOB}.2", told.line, JOB)
    assert (values["state"], values["exit_code"], values["run_s"], values["host"]) == ("failed", 3, 1.5, "node1")
    assert "SECRET" not in told.as_json() + told.as_mail("a@b.c"), "nothing that the job has printed"


def test_the_notice_of_a_job_of_which_little_is_known() -> None:
    assert notice.of_job(JOB, 1, {"state": "succeeded"}).line == f"Job {JOB} has succeeded"
    assert notice.of_job(JOB, 1, {"state": 7, "name": ["x"], "reason": {}}).line == f"Job {JOB} has ended as 7"


def test_the_notice_of_a_batch() -> None:
    told = notice.of_batch("b-1", 1, "night", {"failed": 3, "succeeded": 1997})
    assert told.notice_id == "b-1.1"
    assert told.line.endswith("has ended: 1,997 succeeded, 3 failed")
    values = json.loads(told.as_json())
    assert (values["batch"], values["size"]) == ("b-1", 2000)
    assert values["counts"] == {"failed": 3, "succeeded": 1997}
    assert "counts: 3 failed, 1997 succeeded" in told.as_mail("a@b.c")


def test_a_mail() -> None:
    mail = message_from_string(notice.of_job(JOB, 1, {**RECEIPT, "name": "süms"}).as_mail("alice@example.org"))
    assert mail["To"] == "alice@example.org"
    assert mail["Message-ID"] == f"<{JOB}.1@celery-docker.invalid>"
    assert mail["Auto-Submitted"] == "auto-generated"
    read = message_from_string(mail.as_string(), policy=policy.default)
    assert read["Subject"] == "Job süms (0d3f4c6e) has ended as failed: exit code 3"
    assert "exit code: 3\n" in read.get_content()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["name", "reason", "host"])
def test_no_value_of_a_job_makes_a_header(text: str, field: str) -> None:
    told = notice.of_job(JOB, 1, {**RECEIPT, field: text})
    mail = message_from_string(told.as_mail("alice@example.org"), policy=policy.default)
    assert sorted(mail.keys()) == sorted(
        ["To", "Subject", "Message-ID", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    )
    assert told.as_mail("alice@example.org").isascii()
    assert told.line.isprintable()
    assert len(told.line) <= 300
    assert json.loads(told.as_json())["text"] == told.line
    assert notice.of_batch("b", 1, text, {"succeeded": 1}).line.isprintable()


def test_the_same_end_makes_the_same_notice() -> None:
    assert notice.of_job(JOB, 1, RECEIPT) == notice.of_job(JOB, 1, RECEIPT)
    assert notice.of_job(JOB, 1, RECEIPT).notice_id != notice.of_job(JOB, 2, RECEIPT).notice_id


def test_the_pauses_between_tries() -> None:
    pauses = [notice.delay_s(tries) for tries in range(1, notice.MOST_TRIES)]
    assert pauses == [10, 40, 160, 640, 2560]
    assert sum(pauses) < 3600, "the manual says about an hour"
    assert notice.LEASE_S > notice.SEND_TIMEOUT_S + 30
