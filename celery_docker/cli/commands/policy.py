"""The command `policy`: which rules of this host's policy a job would break, all of them at once.

Asks neither Redis nor Docker.
"""

from __future__ import annotations

from celery_docker import errors
from celery_docker.cli import exitcodes, jobargs, policycheck
from celery_docker.cli.context import Context
from celery_docker.core import jobspec, kinds, wording
from celery_docker.core.access import Identity


def policy(context: Context) -> int:
    """Check a job document against a policy; return 1 if the job would be refused, 78 if the policy is not usable."""
    action, *documents = context.arguments.operands
    if action != "check":
        raise errors.UsageError(f"policy: {kinds.shown(action)} must be check")
    if len(documents) != 1:
        raise errors.UsageError("policy check: name one job document, or - for the standard input")
    spec, submitter = _job(context, documents[0])
    file = context.text("--policy") or policycheck.FILE
    answer = policycheck.judge(spec, file, submitter)
    if answer.path is None:
        raise errors.UsageError(f"policy check: there is no {file}; name a policy with --policy")
    if answer.failure:
        context.screen.note(wording.harmless(answer.failure))
        return exitcodes.BAD_CONFIG
    if context.wants_json:
        verdict = {"file": answer.path, "allowed": not answer.problems}
        context.screen.json(verdict | {"problems": list(answer.problems), "defaults": list(answer.defaults)})
    else:
        for line in answer.problems or (answer.text, *answer.defaults):
            context.screen.data(wording.harmless(line))
    return exitcodes.REFUSED if answer.problems else 0


def _job(context: Context, path: str) -> tuple[jobspec.JobSpec, Identity | None]:
    """Return the job in a document and who would submit it; a name that is not here is that of the job's user."""
    local_user = jobargs.of_process(context.environ, "")
    document = jobargs.from_file(local_user.with_home(path))
    user = context.text("--as") or local_user.user
    try:
        submitter = policycheck.identity_of(str(kinds.USER.parse(user)))
    except ValueError as exc:
        raise errors.UsageError(f"policy check: --as {kinds.shown(user)} {exc}") from exc
    if submitter is None and document.get("user") is None:
        document = {**document, "user": user}
    spec, _ = jobspec.parse_document(document)
    return spec, submitter
