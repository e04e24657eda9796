"""The command line of `/opt/celery/worker/tasks.py`: submit one job and print its id.

Exit status 0 for a queued job, 2 for wrong usage, 1 where the job could not be queued. Only the id goes to stdout.
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celery_docker import errors, jobspec, lifecycle, settings

if TYPE_CHECKING:
    from celery_docker.client import Client

DEFAULTS_FILE = "/etc/default/celery-worker"

_EPILOG = """example:
  tasks.py --inputpath /data/in.txt --outputpath /data/out --out /data/job.log \\
      busybox -- sh -c 'md5sum /input > /output/output.txt && echo Done'

  tasks.py --cancel ID

The paths are paths on the worker's host. The broker is CELERY_DOCKER_BROKER_URL from the environment,
else from /etc/default/celery-worker.
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Submit the job that the arguments describe; return the exit status."""
    words = _parse(sys.argv[1:] if argv is None else argv)
    try:
        chosen, hint = _settings(os.environ if environ is None else environ)
        if words.verbose:
            _show(chosen)
        if words.cancel is not None:
            print(f"{words.cancel}: {_told(_cancel(chosen, words.cancel, hint))}", file=sys.stderr)
        else:
            print(_submit(chosen, _spec(words), hint))
    except errors.SpecError as exc:
        return _complain(exc, 2)
    except errors.CeleryDockerError as exc:
        return _complain(exc, 1)
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Everything behind the first -- is the command, word for word; argparse would drop a second one."""
    at = argv.index("--") if "--" in argv else len(argv)
    parser = _parser()
    words = parser.parse_args(argv[:at])
    words.args += argv[at + 1 :]
    if (words.image is None) == (words.cancel is None):
        parser.error("give the IMAGE to run, or --cancel ID")
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tasks.py",
        description="Queue a container job and print its id.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show the settings in use, secrets masked")
    parser.add_argument("--inputpath", metavar="PATH", help="file or folder to mount read-only at /input")
    parser.add_argument("--outputpath", metavar="PATH", help="folder to mount read-write at /output")
    parser.add_argument("--out", metavar="LOG", help="file for the output; without --err for both streams")
    parser.add_argument("--err", metavar="LOG", help="file for the standard error stream")
    parser.add_argument("--user", metavar="USER", help="run as this user of the worker's host: name, uid or uid:gid")
    parser.add_argument("--cancel", metavar="ID", help="end this job, queued or running; queue none")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="the image to run")
    parser.add_argument("args", metavar="ARGS", nargs="*", help="the command; put -- before it")
    return parser


def _spec(words: argparse.Namespace) -> jobspec.JobSpec:
    given = {
        "image": words.image,
        "command": words.args or None,
        "user": words.user,
        "logoutfile": words.out,
        "logerrfile": words.err,
        "inputpath": words.inputpath,
        "outputpath": words.outputpath,
    }
    return jobspec.parse((), {name: value for name, value in given.items() if value is not None})


def _settings(environ: Mapping[str, str]) -> tuple[settings.Settings, str]:
    """Return the settings in use, and what to add to a complaint about the broker."""
    try:
        text = Path(DEFAULTS_FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    except OSError:
        hint = f"; you may not read {DEFAULTS_FILE}: ask for membership in group celery, or set "
        return settings.parse(environ), hint + settings.PREFIX + "BROKER_URL"
    return settings.parse(
        {**settings.read_assignments(text), **{name: value for name, value in environ.items() if value}}
    ), ""


def _submit(chosen: settings.Settings, spec: jobspec.JobSpec, hint: str) -> str:
    return _with_client(chosen, hint, lambda client: str(client.submit(spec)))


def _cancel(chosen: settings.Settings, job_id: str, hint: str) -> str:
    user = pwd.getpwuid(os.getuid()).pw_name
    return _with_client(chosen, hint, lambda client: client.cancel(job_id, reason=f"cancelled by {user}"))


def _told(state: str) -> str:
    if state == "unknown":
        return "there is no record of this job; nothing will run under this id"
    if lifecycle.State(state).is_final:
        return f"has ended already: {state}"
    return f"was {state}, is being cancelled"


def _with_client(chosen: settings.Settings, hint: str, action: Callable[[Client], str]) -> str:
    # Redis takes longer to import than everything else here: not for --help, and not for a mistake.
    from celery_docker import client

    submitter = client.Client(chosen.broker_url)
    try:
        return action(submitter)
    except (errors.StoreAway, errors.StoreRefused) as exc:
        raise type(exc)(f"{exc}{hint}") from exc
    finally:
        submitter.close()


def _show(chosen: settings.Settings) -> None:
    for variable, value in settings.describe(chosen):
        print(f"{variable}={value}", file=sys.stderr)


def _complain(exc: errors.CeleryDockerError, status: int) -> int:
    print(f"tasks.py: {exc}", file=sys.stderr)
    return status
