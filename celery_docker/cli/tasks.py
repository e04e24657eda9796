"""The command line of `/opt/celery/worker/tasks.py`: submit one job and print its id.

Exit status 0 for a queued job, 2 for wrong usage, 1 where the job could not be queued. Only the id goes to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import exitcodes, jobargs
from celery_docker.client import configfiles
from celery_docker.core import jobspec, settings, wording

if TYPE_CHECKING:
    from celery_docker.client.client import Client

_EPILOG = """example:
  tasks.py --inputpath /data/in.txt --outputpath /data/out --out /data/job.log \\
      busybox -- sh -c 'md5sum /input > /output/output.txt && echo Done'

  tasks.py --cancel ID

The paths are paths on the worker's host. The broker's URL is that of the command
celery-docker, which can do more than this one; celery-docker config shows it and its source.
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Submit the job that the arguments describe; return the exit status."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    around = os.environ if environ is None else environ
    try:
        config = configfiles.read(around, {})
        if arguments.verbose:
            _show(configfiles.worker_settings(around))
        if arguments.image is None and arguments.cancel is None:
            return 0
        if arguments.cancel is not None:
            print(f"{arguments.cancel}: {exitcodes.cancel_outcome(_cancel(config, arguments.cancel))}", file=sys.stderr)
        else:
            return _print_id(_submit(config, _spec(arguments)))
    except errors.SpecError as exc:
        return _complain(exc, 2)
    except errors.CeleryDockerError as exc:
        return _complain(exc, 1)
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Everything behind the first -- is the command, word for word; argparse would drop a second one."""
    at = argv.index("--") if "--" in argv else len(argv)
    parser = _parser()
    arguments = parser.parse_args(argv[:at])
    arguments.args += argv[at + 1 :]
    shows_only = arguments.verbose and arguments.image is None and arguments.cancel is None
    if (arguments.image is None) == (arguments.cancel is None) and not shows_only:
        parser.error("give the IMAGE to run, or --cancel ID")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tasks.py",
        description="Queue a container job and print its id.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show the settings in use, secrets masked; alone, queue nothing"
    )
    parser.add_argument("--inputpath", metavar="PATH", help="file or folder to mount read-only at /input")
    parser.add_argument("--outputpath", metavar="PATH", help="folder to mount read-write at /output")
    parser.add_argument("--out", metavar="LOG", help="file for the output; without --err for both streams")
    parser.add_argument("--err", metavar="LOG", help="file for the standard error stream")
    parser.add_argument("--user", metavar="USER", help="run as this user of the worker's host: name, uid or uid:gid")
    parser.add_argument("--cancel", metavar="ID", help="cancel this job, queued or running; queue nothing")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="the image to run")
    parser.add_argument("args", metavar="ARGS", nargs="*", help="the command; put -- before it")
    return parser


def _spec(arguments: argparse.Namespace) -> jobspec.JobSpec:
    fields = {
        "image": arguments.image,
        "command": arguments.args or None,
        "user": arguments.user,
        "logoutfile": arguments.out,
        "logerrfile": arguments.err,
        "inputpath": arguments.inputpath,
        "outputpath": arguments.outputpath,
    }
    return jobspec.parse((), {name: value for name, value in fields.items() if value is not None})


def _submit(config: configfiles.Config, spec: jobspec.JobSpec) -> str:
    return _with_client(config, lambda client: client.submit(spec).id)


def _cancel(config: configfiles.Config, job_id: str) -> str:
    return _with_client(config, lambda client: client.cancel(job_id, reason=f"cancelled by {jobargs.login()}"))


def _with_client(config: configfiles.Config, action: Callable[[Client], str]) -> str:
    # Redis takes longer to import than everything else here: not for --help, and not for a mistake.
    from celery_docker.client import client

    submitter = client.Client(config.broker_url)
    try:
        return action(submitter)
    except (errors.StoreAway, errors.StoreRefused) as exc:
        raise config.with_remedy(exc) from exc
    finally:
        submitter.close()


def _print_id(job_id: str) -> int:
    """Print the id of a queued job; where that cannot be written, to the standard error. Return the exit status."""
    try:
        print(job_id, flush=True)
    except OSError as exc:
        print(f"tasks.py: the job is queued, its id is {job_id}; cannot write it: {exc.strerror}", file=sys.stderr)
        # Python would try to write the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _show(in_use: settings.Settings) -> None:
    for variable, value in settings.describe(in_use):
        print(f"{variable}={value}", file=sys.stderr)


def _complain(exc: errors.CeleryDockerError, status: int) -> int:
    print(f"tasks.py: {wording.harmless_lines(str(exc))}", file=sys.stderr)
    return status
