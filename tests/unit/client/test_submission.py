"""Jobs as their submitter hands them over: signed where the key may be read, and a retry for the same submitter."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.client import submission
from celery_docker.client.signing import Signer
from celery_docker.client.submission import JobBuilder
from celery_docker.core import incoming, message, signature
from celery_docker.core.access import Identity
from celery_docker.core.jobrecord import New
from celery_docker.core.jobspec import Submission
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile

KEYS = Keys(b"k" * 32)
ALICE = Identity("alice", 1000, 1000, (27,))
ROOT = Identity("root", 0, 0, ())
KWARGS = {"image": "busybox", "command": ["true"]}


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    file = KeyFile(str(tmp_path / "key"))
    file.write(KEYS)
    return file


@pytest.fixture
def alice(key_file: KeyFile) -> JobBuilder:
    return JobBuilder("alice@h", "1@h", Signer(key_file, ALICE))


@pytest.fixture
def root(key_file: KeyFile) -> JobBuilder:
    return JobBuilder("root@h", "1@h", Signer(key_file, ROOT))


def submitter(new: New, keys: Keys = KEYS) -> Identity | None:
    """Return who has signed a job, as a worker finds out."""
    parsed = incoming.parse(json.dumps(new.envelope), source=new.queue)
    assert isinstance(parsed, incoming.Incoming)
    return incoming.submitter(parsed, message.queue_name(new.queue), keys, time.time())


def again(builder: JobBuilder, new: New, **changed: Any) -> New:
    """Return a retry of a job, from a record of which somebody may have changed something."""
    record = {"spec": json.dumps(new.spec), "text": json.dumps(new.envelope), **changed}
    return builder.again(new.job_id, "failed", "{}", record["spec"], record["text"], None, None)


def test_a_job_says_who_submitted_it(alice: JobBuilder) -> None:
    assert submitter(alice.job(KWARGS, Submission(queue="night", priority=7))) == ALICE


def test_without_a_key_a_job_is_that_of_a_plain_client(tmp_path: Path) -> None:
    builder = submission.of_process(str(tmp_path / "key"))
    assert signature.HEADER not in builder.job(KWARGS, Submission()).envelope["headers"]


def test_a_damaged_key_is_told_and_nothing_is_submitted_without_a_signature(
    alice: JobBuilder, key_file: KeyFile
) -> None:
    Path(key_file.path).write_text("signs 12\n")
    with pytest.raises(errors.KeysError, match="line 1"):
        alice.job(KWARGS, Submission())


def test_the_key_that_signs_is_that_of_the_moment(alice: JobBuilder, key_file: KeyFile) -> None:
    other = KEYS.renewed(b"n" * 32)
    KeyFile(key_file.path).write(other)
    new = alice.job(KWARGS, Submission())
    assert submitter(new, other) == ALICE
    with pytest.raises(errors.SignatureError, match="does not have"):
        submitter(new)


def test_an_expiry_is_signed(alice: JobBuilder) -> None:
    header = alice.job(KWARGS, Submission(expires=60)).envelope["headers"][signature.HEADER]
    assert 58 < header["not_after"] - time.time() < 62


def test_a_retry_is_the_same_submitters_whoever_asks_for_it(alice: JobBuilder, root: JobBuilder) -> None:
    retried = again(root, alice.job(KWARGS, Submission(queue="night")))
    assert submitter(retried) == ALICE
    assert retried.spec == KWARGS


def test_a_retry_runs_what_was_signed_and_not_what_the_record_says(alice: JobBuilder, root: JobBuilder) -> None:
    new = alice.job(KWARGS, Submission())
    retried = again(root, new, spec=json.dumps({"image": "evil", "user": "0"}))
    assert retried.spec == KWARGS


@pytest.mark.parametrize("change", [{"image": "evil"}, {"user": "0"}, {"logoutfile": "/etc/x"}])
def test_a_message_that_was_changed_is_not_retried(alice: JobBuilder, root: JobBuilder, change: dict[str, str]) -> None:
    new = alice.job(KWARGS, Submission())
    body = message.body((), {**KWARGS, **change}, {})
    with pytest.raises(errors.SignatureError, match="the arguments were changed"):
        again(root, new, text=json.dumps({**new.envelope, "body": body}))


def test_a_job_of_another_hosts_key_is_retried_as_an_unsigned_one(
    alice: JobBuilder, root: JobBuilder, key_file: KeyFile
) -> None:
    """Each installation makes a key, and hosts where anybody submits need not share it."""
    new = alice.job(KWARGS, Submission())
    key_file.write(Keys(b"n" * 32))
    retried = again(root, new)
    assert retried.spec == KWARGS
    assert signature.HEADER not in retried.envelope["headers"]


def test_what_nobody_signed_is_signed_by_nobody(root: JobBuilder) -> None:
    """Otherwise a forged record would run as whoever retries it."""
    plain = JobBuilder("mallory@h", "1@h").job({**KWARGS, "user": "0"}, Submission())
    assert submitter(again(root, plain)) is None


def test_the_signature_is_no_secret_of_the_key(alice: JobBuilder) -> None:
    assert KEYS.signing.hex() not in json.dumps(alice.job(KWARGS, Submission()).envelope)


def test_a_share_is_that_of_the_user_whom_the_gateway_knows(alice: JobBuilder) -> None:
    """Otherwise that of the name that the submitter gives; each priority has shares of its own."""
    said = alice.job(KWARGS, Submission())
    attested = replace(alice, uid=1000).job({**KWARGS, "memory": 2**30}, Submission(priority=9))
    assert said.about["share"] == "celery @alice"
    assert attested.about["share"] == "celery\x06\x169 1000 memory<=2^30"
