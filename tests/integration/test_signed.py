"""Signed jobs against whoever can write to Redis, with a real worker and Docker: nothing that runs changes.

A forger has no key. He may have all else: messages, records, indexes, and the time at which the worker dies.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker.client.client import Client
from celery_docker.client.signing import Signer
from celery_docker.client.submission import JobBuilder
from celery_docker.core import message, signature
from celery_docker.core.access import Identity
from celery_docker.core.jobrecord import New
from celery_docker.core.jobspec import Submission
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.store import keys as names
from celery_docker.store.housekeeping import Housekeeping
from tests import servers
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain"]

KEY, NEW = Keys(b"k" * 32), b"n" * 32
# Nobody on the computer of the tests.
ALICE = Identity("alice", 54321, 54321, (54322,))
SIGNED = 'submitters = "signed"\nmounts = ["/tmp"]\nnetworks = ["none"]\n'
WHO = "echo $(id -u) $(id -g) $(grep ^Groups: /proc/self/status | cut -d: -f2)"


@dataclass
class Field:
    """A queue whose hosts have a key, its submitter alice, and the forger's hands on its Redis."""

    server: servers.RedisServer
    worker: Worker
    client: Client
    alice: JobBuilder
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def ran_once_as_alice(self) -> bool:
        """Say whether the log is that of one run of `WHO`; newer Dockers do not list the gid among the groups."""
        uid, gid, *groups = self.log.read_text().split()
        return (uid, gid, {*groups} - {gid}) == ("54321", "54321", {"54322"}) and len(groups) <= 2

    def job(self, command: str = WHO, **fields: Any) -> New:
        document = {"image": "busybox", "command": ["sh", "-c", command], "logoutfile": str(self.log), **fields}
        return self.alice.job(document, Submission())

    def submit(self, new: New) -> str:
        self.client.store.submit([new])
        return new.job_id

    def ended(self, job_id: str) -> dict[str, Any]:
        text = eventually(lambda: self.field(job_id, "receipt"), 3 * RESULT_S, f"job {job_id} to end")
        receipt: dict[str, Any] = json.loads(text or "")
        return receipt

    def field(self, job_id: str, name: str) -> str | None:
        with self.server.client() as redis:
            value = redis.hget(names.job(job_id), name)
        return value.decode() if isinstance(value, bytes) else value

    def forge(self, job_id: str, **fields: Any) -> None:
        with self.server.client() as redis:
            redis.hset(names.job(job_id), mapping=fields)

    def await_run(self, job_id: str) -> None:
        eventually(lambda: self.field(job_id, "state") == "running", 60, "the job to run")


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    file = KeyFile(str(tmp_path / "key"))
    file.write(KEY)
    return file


@pytest.fixture
def field(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, key_file: KeyFile, folder: Path
) -> Iterator[Field]:
    """The worker is not started yet: it finds what has happened before."""
    worker = Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0", CELERY_DOCKER_KEY=key_file.path)
    worker.environ["CELERY_DOCKER_OPTS"] = "-n one@lab -Q celery,gpu"
    worker.policy.write_text(SIGNED)
    client = Client(clean_redis.url)
    yield Field(clean_redis, worker, client, JobBuilder("alice@h", "1@h", Signer(key_file, ALICE)), folder)
    client.close()
    # Shown where the test has failed.
    print(worker.log[-6000:] if (worker.folder / "log").exists() else "")
    worker.stop()
    dockerd.remove_containers()


def changed(envelope: Any, **fields: Any) -> dict[str, Any]:
    """Return a message with other arguments, and the signature that it had."""
    _, kwargs = message.arguments(envelope)
    return {**envelope, "body": message.body((), {**kwargs, **fields}, message.canvas(envelope))}


def stripped(envelope: Any) -> dict[str, Any]:
    """Return a message without its signature, as that of a plain client."""
    headers = {name: value for name, value in envelope["headers"].items() if name != signature.HEADER}
    return {**envelope, "headers": headers}


def renamed(envelope: Any) -> dict[str, Any]:
    """Return a message for another job."""
    headers = {**envelope["headers"], "id": str(uuid.uuid4())}
    return {**envelope, "headers": headers}


def as_root(envelope: Any) -> dict[str, Any]:
    header = {**envelope["headers"][signature.HEADER], "uid": 0, "gid": 0, "name": "root"}
    return {**envelope, "headers": {**envelope["headers"], signature.HEADER: header}}


CHANGES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "another command": lambda envelope: changed(envelope, command=["sh", "-c", "echo evil"]),
    "another image": lambda envelope: changed(envelope, image="busybox:evil"),
    "another user": lambda envelope: changed(envelope, user="0"),
    "another log": lambda envelope: changed(envelope, logoutfile="/tmp/cdt-evil.log"),
    "a mount": lambda envelope: changed(envelope, inputpath="/tmp"),
    "unsigned": stripped,
    "unsigned, as root": lambda envelope: stripped(changed(envelope, user="0")),
    "signed as root": as_root,
    "another id": renamed,
}


def test_a_message_that_was_changed_while_it_waited_runs_nothing(field: Field) -> None:
    """One job for each change, all in the queue before the worker comes."""
    forged = []
    for change in CHANGES.values():
        new = field.job()
        envelope = change(new.envelope)
        forged.append(envelope["headers"]["id"])
        field.submit(replace(new, job_id=forged[-1], envelope=envelope))
    moved = field.job()
    forged.append(field.submit(replace(moved, queue="gpu")))
    sound = field.submit(field.job(name="sound"))
    # What is no part of the message decides nothing.
    spec = json.dumps({"image": "busybox:evil", "user": "0", "command": ["evil"], "logoutfile": "/tmp/cdt-evil.log"})
    field.forge(sound, spec=spec, image="busybox:evil", submitted_by="root@h", labels="{}", exits="-5", attempt="-1")
    field.worker.start()
    assert field.ended(sound)["state"] == "succeeded"
    assert field.ran_once_as_alice()
    for job_id in forged:
        receipt = field.ended(job_id)
        assert (receipt["state"], receipt["container_id"]) == ("rejected", None), receipt
        assert receipt["reason"].startswith("signature: ")
    assert not Path("/tmp/cdt-evil.log").exists()
    assert field.ran_once_as_alice()


@pytest.mark.parametrize("change", ["another log", "unsigned", "unsigned, as root"])
def test_a_record_that_was_changed_under_a_running_job_redirects_nothing(field: Field, change: str) -> None:
    """The worker is killed, and the next one adopts by the record."""
    field.worker.start()
    new = field.job(f"echo first; {WAIT}; echo last", outputpath=str(field.folder))
    job_id = field.submit(new)
    field.await_run(job_id)
    eventually(lambda: field.log.exists() and field.log.read_text() == "first\n", 30, "the first line")
    field.worker.kill()
    text = field.field(job_id, "message") or ""
    envelope = CHANGES[change](json.loads(text))
    field.forge(job_id, message=json.dumps(envelope), spec=json.dumps({"image": "evil", "user": "0"}))
    field.worker.start()
    if change == "unsigned":
        # The arguments are those that the container was made of.
        (field.folder / "go").touch()
        assert field.ended(job_id)["state"] == "succeeded"
        assert field.log.read_text() == "first\nlast\n"
        return
    receipt = field.ended(job_id)
    assert receipt["state"] == "rejected"
    assert "its message in Redis was changed" in receipt["reason"]
    assert not Path("/tmp/cdt-evil.log").exists()
    assert field.log.read_text() == "first\n"


def test_a_record_that_was_forged_whole_starts_nothing(field: Field) -> None:
    """A job that this host is said to have in hand, without a container: it is adopted, and begun if it is sound."""
    forged = []
    for change in CHANGES.values():
        new = field.job()
        envelope = change(new.envelope)
        forged.append(envelope["headers"]["id"])
        fields = {"state": "running", "owner": "one@lab", "fence": 7, "attempt": 1, "container_id": ""}
        field.forge(forged[-1], message=json.dumps(envelope), queue="celery", **fields)
        with field.server.client() as redis:
            redis.sadd(names.host_jobs("one@lab"), forged[-1])
            redis.zadd(names.INDEX, {forged[-1]: 1})
    field.worker.start()
    for job_id in forged:
        receipt = field.ended(job_id)
        assert (receipt["state"], receipt["container_id"]) == ("rejected", None), receipt
    assert not field.log.exists()


def test_a_forged_end_removes_no_container_of_others(field: Field, dockerd: servers.Dockerd) -> None:
    body = json.dumps({"Image": "busybox", "Cmd": ["sleep", "1000"]}).encode()
    status, answer = dockerd.request("POST", "/containers/create?name=database", body)
    assert status == 201
    container_id = json.loads(answer)["Id"]
    new = field.job()
    receipt = json.dumps({"state": "succeeded", "container_id": container_id})
    fields = {"state": "succeeded", "owner": "one@lab", "fence": 7, "attempt": 1, "receipt": receipt}
    field.forge(new.job_id, message=json.dumps(new.envelope), queue="celery", **fields)
    with field.server.client() as redis:
        redis.sadd(names.host_jobs("one@lab"), new.job_id)
    field.worker.start()
    with field.server.client() as redis:
        eventually(lambda: not redis.sismember(names.host_jobs("one@lab"), new.job_id), 60, "the job to be let go of")
    assert dockerd.containers() == ["database"]


@pytest.mark.parametrize("change", ["another user", "unsigned"])
def test_a_retry_runs_what_was_signed_or_nothing(field: Field, change: str) -> None:
    field.worker.start({"CELERY_DOCKER_RETRY_DELAY": "3600"})
    job_id = field.submit(field.job(f"{WHO}; exit 3", retries=1))
    eventually(lambda: field.field(job_id, "exits") == "1", 60, "the first attempt to fail")
    envelope = CHANGES[change](json.loads(field.field(job_id, "message") or ""))
    field.forge(job_id, message=json.dumps(envelope))
    with field.server.client() as redis:
        redis.zadd(names.DELAYED, {job_id: 1})
    receipt = field.ended(job_id)
    assert receipt["state"] == "rejected"
    assert receipt["reason"].startswith("signature: ")
    assert field.ran_once_as_alice()


def test_a_message_that_is_published_again_is_verified_too(field: Field) -> None:
    job_id, sound = field.submit(field.job()), field.submit(field.job())
    with field.server.client() as redis:
        redis.delete("celery")
    envelope = CHANGES["another command"](json.loads(field.field(job_id, "message") or ""))
    field.forge(job_id, message=json.dumps(envelope))
    housekeeping = Housekeeping(field.client.store.link)
    assert housekeeping.republish(housekeeping.now() + 1) == 2
    field.worker.start()
    assert field.ended(job_id)["reason"].startswith("signature: ")
    assert field.ended(sound)["state"] == "succeeded"
    assert field.ran_once_as_alice()


def test_a_plain_client_is_told_why_it_is_refused(field: Field, plain: Plain) -> None:
    field.worker.start()
    line, receipt = plain.fail("busybox", ["true"])
    assert line.startswith("rejected: signature: the job has none, and this host runs signed jobs only")
    assert "\n" not in line
    assert receipt["container_id"] is None


def test_a_plain_client_has_rules_of_its_own(field: Field, plain: Plain) -> None:
    field.worker.policy.write_text(f'{SIGNED}[unsigned]\nusers = ["54000-54100"]\nmounts = []\n')
    field.worker.start()
    assert plain.succeed("busybox", ["id", "-u"], user="54001")["output"] == "54001\n"
    line, _ = plain.fail("busybox", ["true"])
    assert line.startswith("rejected: user: a job has to name its user on this host; rule unsigned.users = ")
    line, _ = plain.fail("busybox", ["true"], user="54001", inputpath="/tmp")
    assert "rule unsigned.mounts = []" in line


def test_where_anybody_submits_a_plain_client_works_as_ever_and_a_signed_job_is_its_submitters(
    field: Field, plain: Plain
) -> None:
    field.worker.policy.write_text('mounts = ["/tmp"]\nnetworks = ["none"]\n')
    field.worker.start()
    assert plain.succeed("busybox", ["id", "-u"])["output"] == "0\n"
    assert field.ended(field.submit(field.job()))["state"] == "succeeded"
    assert field.ran_once_as_alice()
    new = field.job()
    field.submit(replace(new, envelope=changed(new.envelope, user="0")))
    assert field.ended(new.job_id)["reason"].startswith("signature: the arguments were changed")


STEPS: tuple[Callable[[Keys], Keys], ...] = (lambda keys: keys.prepared(NEW), Keys.switched)


def test_keys_change_on_two_hosts_while_jobs_are_submitted(
    field: Field, dockerd: servers.Dockerd, key_file: KeyFile, tmp_path: Path
) -> None:
    """Every step on one host after the other; all the while both submit, with the key that signs there."""
    second = KeyFile(str(tmp_path / "second"))
    second.write(KEY)
    other = Worker(field.server.url, dockerd, CELERY_DOCKER_KEY=second.path, CELERY_DOCKER_OPTS="-n two@lab")
    other.policy.write_text(SIGNED)
    builders = [replace(field.alice, signer=Signer(KeyFile(file.path), ALICE)) for file in (key_file, second)]
    submitted: list[str] = []
    signers = set[str]()
    goes_on = threading.Event()
    goes_on.set()

    def submit() -> None:
        while goes_on.is_set():
            for builder in builders:
                new = builder.job({"image": "busybox", "command": ["true"]}, Submission())
                signers.add(new.envelope["headers"][signature.HEADER]["key"])
                submitted.append(field.submit(new))
            threading.Event().wait(0.2)

    def after(more: int) -> None:
        count = len(submitted) + more
        eventually(lambda: len(submitted) >= count, 60, "more jobs")

    with other:
        field.worker.start()
        thread = threading.Thread(target=submit)
        thread.start()
        try:
            for step in STEPS:
                for file in (key_file, second):
                    after(4)
                    file.write(step(file.needed()))
            after(4)
        finally:
            goes_on.clear()
            thread.join()
        states = {job_id: field.ended(job_id)["state"] for job_id in submitted}
        assert set(states.values()) == {"succeeded"}
        assert len(signers) == 2
        for file in (key_file, second):
            file.write(file.needed().without_old())
        late = field.job()
        assert field.ended(field.submit(late))["state"] == "succeeded"
