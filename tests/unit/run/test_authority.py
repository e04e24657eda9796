"""Whose a job is: asked of its signature before each start, whatever its record says, and of its container after."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker.core import container, incoming, message, policyfile, signature
from celery_docker.core.access import Identity
from celery_docker.core.joblogs import JobLogs
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import State
from celery_docker.core.plan import ContainerPlan
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.run import job as jobs
from celery_docker.run.job import Delivery
from celery_docker.run.runner import Ended, LetGo
from tests.unit.run.workbench import (
    FAILING,
    HOST,
    JOB,
    LATE,
    LONG,
    NAME,
    Background,
    Bench,
    container_status,
    make_bench,
)
from tests.waiting import eventually

KEY, OTHER = b"k" * 32, b"o" * 32
ALICE = Identity("alice", 54321, 54322, (54323,))
ROOT = Identity("root", 0, 0, ())


def rules(bench: Bench, text: str) -> None:
    bench.runner.attempts.policy = policyfile.parse(f'mounts = ["{bench.folder}"]\n{text}')


@pytest.fixture
def signed(bench: Bench) -> Bench:
    """A host that runs signed jobs only."""
    rules(bench, 'submitters = "signed"\n')
    KeyFile(str(bench.folder / "key")).write(Keys(KEY))
    return bench


def delivery(
    bench: Bench,
    who: Identity | None = ALICE,
    key: bytes = KEY,
    *,
    forged: dict[str, Any] | None = None,
    queue: str = "celery",
    off_s: int = 0,
    **kwargs: Any,
) -> Delivery:
    """Return a job as the worker takes it; `forged` are arguments that somebody has changed in Redis."""
    document = {"image": "busybox", "logoutfile": str(bench.log), **kwargs}
    headers = {}
    if who is not None:
        made = signature.sign(key, who, JOB, "celery", document, time.time() + off_s)
        headers = {signature.HEADER: made.header()}
    envelope = message.task_message(
        JOB, {**document, **(forged or {})}, queue=queue, tag="t", origin="1@h", more_headers=headers
    )
    parsed = incoming.parse(json.dumps(envelope), source=queue)
    assert isinstance(parsed, incoming.Incoming)
    return jobs.delivery(parsed, queue)


def run(bench: Bench, taken: Delivery) -> Ended | LetGo:
    job = bench.runner.claim(taken)
    assert job is not None
    end = bench.runner.run(job, bench.announced)
    bench.runner.done(job, settled=isinstance(end, Ended))
    return end


def body_of(bench: Bench) -> dict[str, Any]:
    """Return what Docker was asked for last."""
    return bench.engine.planned[-1].body


def test_a_signed_job_runs_as_its_submitter(signed: Bench) -> None:
    end = run(signed, delivery(signed))
    assert isinstance(end, Ended)
    assert end.state is State.SUCCEEDED
    assert body_of(signed)["User"] == "54321:54322"
    assert body_of(signed)["HostConfig"]["GroupAdd"] == ["54323"]


@pytest.mark.parametrize("user", ["54321", "alice", "54321:54322", "alice:54322"])
def test_who_names_himself_is_himself(signed: Bench, user: str) -> None:
    assert run(signed, delivery(signed, user=user)).sentence.startswith("succeeded")
    assert body_of(signed)["User"] == "54321:54322"


def test_one_of_his_groups_may_be_the_first(signed: Bench) -> None:
    assert run(signed, delivery(signed, user="alice:54323")).sentence.startswith("succeeded")
    assert body_of(signed)["User"] == "54321:54323"
    assert body_of(signed)["HostConfig"]["GroupAdd"] == ["54322"]


@pytest.mark.parametrize("user", ["root", "0", "54322", "alice:0", "54321:999", "0:54322"])
def test_who_names_another_is_refused(signed: Bench, user: str) -> None:
    end = run(signed, delivery(signed, user=user))
    assert end.sentence.startswith(f"rejected: user: {user!r} is not alice, who submitted the job")
    assert "start" not in signed.engine.calls


def test_root_names_whom_he_likes(signed: Bench) -> None:
    assert run(signed, delivery(signed, ROOT, user="54321")).sentence.startswith("succeeded")
    assert body_of(signed)["User"].startswith("54321:")
    assert "GroupAdd" not in body_of(signed)["HostConfig"]


REFUSALS = {
    "none": ({"who": None}, "signature: the job has none"),
    "unknown key": ({"key": OTHER}, "signature: it is made with key"),
    "other user": ({"forged": {"user": "0"}}, "signature: the arguments were changed"),
    "other image": ({"forged": {"image": "evil"}}, "signature: the arguments were changed"),
    "other log": ({"forged": {"logoutfile": "/etc/cron.d/x"}}, "signature: the arguments were changed"),
    "bad arguments": ({"forged": {"nonsense": 1}}, "signature: the arguments were changed"),
    "other queue": ({"queue": "gpu"}, "signature: the job was submitted to queue 'celery'"),
    "too old": ({"off_s": -366 * 86_400}, "signature: it was made at"),
}


@pytest.mark.parametrize(("options", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_what_nobody_may_run_ends_as_rejected(signed: Bench, options: dict[str, Any], reason: str) -> None:
    end = run(signed, delivery(signed, **options))
    assert isinstance(end, Ended)
    assert end.sentence.startswith(f"rejected: {reason}")
    assert "create" not in signed.engine.calls
    assert signed.nothing_is_left()


@pytest.mark.parametrize(
    ("options", "reason"), [pair for name, pair in REFUSALS.items() if name not in ("none", "unknown key")]
)
def test_a_bad_signature_is_refused_where_unsigned_jobs_are_run_too(
    signed: Bench, options: dict[str, Any], reason: str
) -> None:
    rules(signed, "")
    assert run(signed, delivery(signed, **options)).sentence.startswith(f"rejected: {reason}")


@pytest.mark.parametrize("own", [KEY, None])
def test_another_hosts_key_counts_for_nothing_where_anybody_submits(signed: Bench, own: bytes | None) -> None:
    """Each installation makes a key of its own: hosts that share a queue need not have the same."""
    rules(signed, "")
    if own is None:
        (signed.folder / "key").unlink()
    assert run(signed, delivery(signed, key=OTHER, user="54001")).sentence.startswith("succeeded")
    assert body_of(signed)["User"].startswith("54001:")


def test_an_unsigned_job_runs_as_ever_where_anybody_submits(signed: Bench) -> None:
    rules(signed, "")
    assert run(signed, delivery(signed, None)).sentence.startswith("succeeded")
    assert "User" not in body_of(signed)


def test_unsigned_jobs_have_rules_of_their_own(signed: Bench) -> None:
    rules(signed, 'submitters = "signed"\n[unsigned]\nusers = ["54000-54999"]')
    assert run(signed, delivery(signed, None, user="54001")).sentence.startswith("succeeded")
    signed.records.jobs.clear()
    assert run(signed, delivery(signed, None)).sentence.startswith("rejected: user: a job has to name its user")


@pytest.mark.parametrize("fault", ["no key", "half a key", "a clock that is behind"])
def test_a_fault_of_the_host_costs_no_job(signed: Bench, fault: str) -> None:
    file, off_s = signed.folder / "key", 0
    if fault == "no key":
        file.unlink()
    elif fault == "half a key":
        file.write_text(Keys(KEY).text()[:-9])
    else:
        off_s = 3 * 86_400
    end = run(signed, delivery(signed, off_s=off_s))
    assert isinstance(end, LetGo)
    assert end.sentence.startswith(("attempt 1: key: ", "attempt 1: signature: it was made at"))
    assert "create" not in signed.engine.calls


def test_a_change_of_keys_needs_no_restart(signed: Bench) -> None:
    KeyFile(str(signed.folder / "key")).write(Keys(OTHER, old=KEY))
    assert run(signed, delivery(signed)).sentence.startswith("succeeded")
    signed.records.jobs.clear()
    assert run(signed, delivery(signed, key=OTHER)).sentence.startswith("succeeded")
    KeyFile(str(signed.folder / "key")).write(Keys(OTHER))
    signed.records.jobs.clear()
    assert run(signed, delivery(signed)).sentence.startswith("rejected: signature: it is made with key")


def forged(taken: Delivery, **changed: Any) -> Delivery:
    """Return what the record says of a job once somebody has changed its arguments there."""
    body = message.body((), {**taken.kwargs, **changed}, message.canvas(taken.envelope))
    parsed = incoming.of_envelope(JOB, {**taken.envelope, "body": body})
    assert parsed.kwargs != taken.kwargs
    return jobs.delivery(parsed, "celery")


def unsigned(taken: Delivery, **changed: Any) -> Delivery:
    """Return the same without its signature, as that of a plain client."""
    taken = forged(taken, **changed)
    headers = {name: value for name, value in taken.envelope["headers"].items() if name != signature.HEADER}
    return replace(taken, signature=None, envelope={**taken.envelope, "headers": headers})


@pytest.fixture
def lost(tmp_path: Path) -> Bench:
    """A host that runs signed jobs only, whose worker died while alice's job ran."""
    bench = make_bench(tmp_path.resolve(), LONG)
    rules(bench, 'submitters = "signed"\n')
    KeyFile(str(bench.folder / "key")).write(Keys(KEY))
    taken = delivery(bench)
    claim = bench.records.claim(JOB, host=HOST, queue="celery", envelope=taken.envelope)
    assert claim.verdict is Verdict.RUN
    labels = {container.LABEL_JOB: JOB, container.LABEL_HOST: HOST, container.LABEL_ATTEMPT: "1"}
    labels[container.LABEL_ARGUMENTS] = incoming.digest(taken)
    labels |= JobLogs(str(bench.folder / "judged.log"), None, ALICE).labels
    bench.engine.start(bench.engine.create(ContainerPlan(NAME, {"Image": "busybox:latest", "Labels": labels})))
    return bench


@pytest.mark.parametrize("policy", ['submitters = "signed"', "", 'submitters = "signed"\n[unsigned]\nusers = ["*"]'])
@pytest.mark.parametrize("forge", [forged, unsigned])
def test_a_forged_record_redirects_no_log_of_a_job_that_runs(lost: Bench, forge: Any, policy: str) -> None:
    rules(lost, policy)
    evil = lost.folder / "evil.log"
    end = run(lost, forge(delivery(lost), logoutfile=str(evil)))
    assert end.sentence.startswith("rejected: its message in Redis was changed while its container was there")
    assert not evil.exists()
    assert lost.engine.calls.count("create") == 1


@pytest.mark.parametrize("forge", [forged, unsigned])
@pytest.mark.parametrize("changed", [{"image": "evil"}, {"user": "0"}, {"logoutfile": "/etc/x"}, {"env": {"A": "1"}}])
def test_a_forged_record_starts_nothing_where_the_container_is_gone(
    lost: Bench, forge: Any, changed: dict[str, Any]
) -> None:
    lost.engine.release(NAME)
    lost.engine.remove(next(iter(lost.engine.containers({})), None).container_id)  # type: ignore[union-attr]
    end = run(lost, forge(delivery(lost), **changed))
    assert end.sentence.startswith("rejected: signature: ")
    assert lost.engine.calls.count("create") == 1


def test_the_job_that_was_signed_is_adopted(lost: Bench) -> None:
    running = Background(lambda: run(lost, delivery(lost)))
    eventually(lambda: lost.announced.metas)
    lost.engine.release(NAME)
    assert running.answer().sentence.startswith("succeeded")


@pytest.mark.parametrize("change", ["the key is gone", "another key", "unsigned jobs are refused now"])
def test_a_job_that_runs_goes_on_whatever_the_keys_are(lost: Bench, change: str) -> None:
    if change == "the key is gone":
        (lost.folder / "key").unlink()
    if change == "another key":
        KeyFile(str(lost.folder / "key")).write(Keys(OTHER))
    running = Background(lambda: run(lost, delivery(lost)))
    eventually(lambda: lost.announced.metas)
    lost.engine.release(NAME)
    assert running.answer().sentence.startswith("succeeded")
    assert (lost.folder / "judged.log").exists()
    assert lost.opener.asked == [ALICE]


def test_a_job_that_ran_unsigned_goes_on_where_jobs_have_to_be_signed_now(before: Bench) -> None:
    before.container()
    rules(before, 'submitters = "signed"')
    running = Background(lambda: before.run())
    eventually(lambda: before.announced.metas)
    before.engine.release(NAME)
    assert running.answer().sentence.startswith("succeeded")


def test_a_retry_is_verified_anew(signed: Bench) -> None:
    bench = signed
    bench.engine.images["busybox:latest"] = FAILING
    taken = delivery(bench, retries=1)
    assert isinstance(run(bench, taken), LetGo)
    assert bench.records.publish_due(LATE) == 1
    assert run(bench, forged(taken, image="evil")).sentence.startswith(
        "rejected: signature: the arguments were changed"
    )
    assert bench.engine.calls.count("create") == 1


def test_a_forged_receipt_removes_no_container_of_others(signed: Bench) -> None:
    body = {"Image": "busybox:latest", "Labels": {container.LABEL_JOB: "j2", container.LABEL_HOST: HOST}}
    other = signed.engine.create(ContainerPlan("database", body))
    taken = delivery(signed)
    signed.records.claim(JOB, host=HOST, queue="celery", envelope=taken.envelope)
    signed.records.jobs[JOB]["receipt"] = json.dumps({"state": "succeeded", "container_id": other})
    run(signed, taken)
    assert signed.engine.names() == ["database"]
    assert container_status(signed) is None


def test_the_limits_of_a_submitter_are_those_of_his_container(signed: Bench) -> None:
    rules(signed, 'submitters = "signed"\n[submitter.alice.limits]\nmemory = "64m"')
    assert run(signed, delivery(signed)).sentence.startswith("succeeded")
    assert body_of(signed)["HostConfig"]["Memory"] == 64 * 2**20


DEFAULTS = '[defaults]\nmemory = "1g"\n[submitter.alice.defaults]\nmemory = "2g"\n'


@pytest.mark.parametrize(
    ("who", "text", "memory"),
    [
        pytest.param(ALICE, "", 0, id="the policy has no defaults"),
        pytest.param(ALICE, '[defaults]\nmemory = "1g"\n', 2**30, id="those for all"),
        pytest.param(ALICE, DEFAULTS, 2 * 2**30, id="her own"),
        pytest.param(ROOT, DEFAULTS, 2**30, id="another submitter"),
        pytest.param(None, DEFAULTS, 0, id="a job that will be refused takes nothing"),
    ],
)
def test_a_job_that_asks_for_nothing_takes_what_its_submitter_gets(
    signed: Bench, who: Identity | None, text: str, memory: int
) -> None:
    """As much as the limit that its container has."""
    rules(signed, f'submitters = "signed"\n{text}')
    job = signed.runner.claim(delivery(signed, who))
    assert job is not None
    assert job.needs.memory_bytes == memory


def test_a_job_that_asks_for_memory_takes_that(signed: Bench) -> None:
    rules(signed, f'submitters = "signed"\n{DEFAULTS}')
    job = signed.runner.claim(delivery(signed, memory="512m"))
    assert job is not None
    assert job.needs.memory_bytes == 2**29
