"""The programs that send notices: the host's sendmail, and the commands of `notify.toml`.

Owns how a program is started, bounded and judged. The worker may gain no rights, and the sendmail of Postfix and of
Exim needs those of its file. So under systemd a program is started by celery-docker-notify, a process of this module
for each, which takes the name of a target and looks up itself what that is. Elsewhere it is started right here.
Invariant: a program that hangs is killed with all that it has started, and no shell reads a word.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from celery_docker import errors
from celery_docker.core import noticefile, noticetargets, wording
from celery_docker.core.notice import SEND_TIMEOUT_S
from celery_docker.host import secretfile

SOCKET = "/run/celery-docker/notify.sock"
SENDMAIL = "/usr/sbin/sendmail"
_MOST_FILE_BYTES = 65_536
_MOST_BYTES = 2**20
_MOST_WORDS = 300
_ID_VARIABLE, _LINE_VARIABLE = "CELERY_DOCKER_NOTICE_ID", "CELERY_DOCKER_NOTICE"
# More than the other side gives its program.
_ANSWER_S = SEND_TIMEOUT_S + 15


def named(path: str, name: str) -> noticefile.Target:
    """Return a named target from the file of them. Raises `CannotSend` where it is not to be had on this host."""
    try:
        targets = noticefile.parse(secretfile.read(path, _MOST_FILE_BYTES).decode())
    except FileNotFoundError as exc:
        raise errors.CannotSend(f"{path} is not there, which would say what {name} is") from exc
    except OSError as exc:
        raise errors.CannotSend(
            f"cannot read {path}: {exc.strerror}; chown root:{secretfile.GROUP}, mode 0640"
        ) from exc
    except ValueError as exc:
        raise errors.CannotSend(f"{path} {exc}") from exc
    if name not in targets:
        raise errors.CannotSend(f"{path} does not say what {name} is")
    return targets[name]


@dataclass(frozen=True)
class Question:
    """A program to be started: that of a target, with a text as its input, and the id and the line of the notice."""

    target: str
    text: str
    notice_id: str
    line: str


def start(question: Question, path: str = noticefile.FILE, sendmail: str = SENDMAIL) -> None:
    """Run the program of a target of the file `path`, and wait for its end; a mail address has sendmail.

    A command finds the id of the notice and its line in its environment. Raises `NotSent` where it fails, `CannotSend`
    where it is not here.
    """
    if noticetargets.is_address(question.target):
        noticetargets.TARGETS.parse([question.target])
        words: tuple[str, ...] = (sendmail, "-i", "--", question.target)
    else:
        words = named(path, question.target).command
    if not words:
        raise errors.CannotSend(f"{question.target} is no command on this host")
    variables = {_ID_VARIABLE: question.notice_id, _LINE_VARIABLE: question.line}
    _run(words, question.text, {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **variables})


def ask(question: Question, socket_path: str = SOCKET) -> None:
    """Have celery-docker-notify start the program of a target. Raises what `start` raises."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as link:
        link.settimeout(_ANSWER_S)
        try:
            link.connect(socket_path)
            link.sendall(json.dumps(asdict(question)).encode())
            link.shutdown(socket.SHUT_WR)
            answer = json.loads(_all_of(link))
        except (OSError, ValueError) as exc:
            raise errors.NotSent(f"celery-docker-notify gave no answer: {exc}") from exc
    if answer["failure"]:
        raise (errors.CannotSend if answer["is_missing"] else errors.NotSent)(str(answer["failure"]))


def main() -> int:
    """Answer one question of the worker's, on the connection that is the standard input and output."""
    failure, is_missing = "", False
    try:
        question = json.loads(sys.stdin.buffer.read(_MOST_BYTES))
        start(Question(**{name: str(value) for name, value in question.items()}))
    except (errors.NotSent, errors.CannotSend) as exc:
        failure, is_missing = str(exc), isinstance(exc, errors.CannotSend)
    except (ValueError, AttributeError, TypeError) as exc:
        failure = f"the question is none: {exc!r}"
    json.dump({"failure": failure, "is_missing": is_missing}, sys.stdout)
    return 0


def _run(words: tuple[str, ...], text: str, environ: Mapping[str, str]) -> None:
    program = words[0]
    # Files, no pipes: a sendmail may leave a process that delivers the mail, with all that it has open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(text.encode())
        given.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603  # the administrator's words, and an address that was checked
                words, stdin=given, stdout=output, stderr=output, env=environ, cwd="/", start_new_session=True
            )
        except (OSError, ValueError) as exc:
            raise errors.CannotSend(f"{program} cannot be started: {getattr(exc, 'strerror', None) or exc}") from exc
        try:
            status = process.wait(SEND_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise errors.NotSent(f"{program} had not ended after {SEND_TIMEOUT_S} s, and was killed") from exc
        if status != 0:
            output.seek(max(0, output.tell() - _MOST_WORDS))
            last = wording.one_line(output.read().decode(errors="replace").strip().rpartition("\n")[2], _MOST_WORDS)
            raise errors.NotSent(f"{program} ended with status {status}{f': {last}' if last else ''}")


def _all_of(link: socket.socket) -> bytes:
    pieces = b""
    while piece := link.recv(65536):
        pieces += piece
    return pieces


if __name__ == "__main__":
    sys.exit(main())
