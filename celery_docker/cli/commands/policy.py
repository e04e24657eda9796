"""The command `policy`: which rules of this host's policy a job would break, all of them at once.

Asks neither Redis nor Docker.
"""

from __future__ import annotations

from typing import Any

from celery_docker import errors
from celery_docker.cli import exitcodes, jobargs, policycheck
from celery_docker.cli.context import Context
from celery_docker.core import jobspec, kinds, wording


def policy(context: Context) -> int:
    """Check a job document against a policy; return 1 if the job would be refused, 78 if the policy is not usable."""
    action, *documents = context.arguments.operands
    if action != "check":
        raise errors.UsageError(f"policy: {kinds.shown(action)} must be check")
    if len(documents) != 1:
        raise errors.UsageError("policy check: name one job document, or - for the standard input")
    spec, _ = jobspec.parse_document(_document(context, documents[0]))
    file = context.text("--policy") or policycheck.FILE
    answer = policycheck.judge(spec, file)
    if answer.path is None:
        raise errors.UsageError(f"policy check: there is no {file}; name a policy with --policy")
    if answer.failure:
        context.screen.note(wording.harmless(answer.failure))
        return exitcodes.BAD_CONFIG
    if context.wants_json:
        context.screen.json({"file": answer.path, "allowed": not answer.problems, "problems": list(answer.problems)})
    else:
        for line in answer.problems or (answer.text,):
            context.screen.data(wording.harmless(line))
    return exitcodes.REFUSED if answer.problems else 0


def _document(context: Context, path: str) -> dict[str, Any]:
    """Return the document with the user as whom the job would be submitted."""
    local_user = jobargs.of_process(context.environ)
    document = jobargs.from_file(local_user.with_home(path))
    users = (context.text("--as"), document.get("user"), local_user.user)
    return {**document, "user": next(user for user in users if user is not None)}
