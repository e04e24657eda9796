"""Questions about paths, answered by a process of its own that has the rights of a user, all of them and no more.

A thread could take a user's rights too, but it would keep the real user id of root, by which FUSE decides.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import stat
from collections.abc import Callable, Generator, Mapping
from typing import Any, NoReturn, Self

from celery_docker.core.access import Identity
from celery_docker.host import paths
from celery_docker.opener import opening

# More than JSON needs for a path.
_MOST_BYTES = 64 * 1024

# Returns a descriptor, or a path where nothing was opened. Raises `Outside` and `OSError`.
Question = Callable[[], int | str]


class Asked:
    """Questions that are being answered; `link` can be read once the next one is, or the process has ended."""

    def __init__(self, user: Identity, questions: Mapping[str, Question]) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = os.fork()
            if process == 0:
                _answer(theirs, user, questions)
            self._process = os.pidfd_open(process)
        self._names = tuple(questions)

    def answers(self) -> Generator[socket.socket, None, tuple[dict[str, dict[str, Any]], dict[str, int]]]:
        """Return the answer to each question in the words of `host.opener`, and what was opened; yields `link`.

        Raises `OSError` where there are none.
        """
        answers, opened = dict[str, dict[str, Any]](), dict[str, int]()
        try:
            for name in self._names:
                yield self.link
                text, descriptors, *_ = socket.recv_fds(self.link, _MOST_BYTES, 1)
                if descriptors:
                    opened[name] = descriptors[0]
                if not text:
                    raise OSError(0, "the process that opens paths has ended")
                answers[name] = json.loads(text)
        except BaseException:
            for descriptor in opened.values():
                os.close(descriptor)
            raise
        return answers, opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process. In a call about a file server that is away it ends with that call, and is not waited for."""
        self.link.close()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        os.close(self._process)


def _answer(link: socket.socket, user: Identity, questions: Mapping[str, Question]) -> NoReturn:
    try:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        for question in questions.values():
            answer, descriptors = _answered(question)
            socket.send_fds(link, [json.dumps(answer).encode()], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
    finally:
        os._exit(0)


def _answered(question: Question) -> tuple[dict[str, Any], list[int]]:
    try:
        found = question()
    except paths.Outside as exc:
        return {"exit": exc.exit}, []
    except OSError as exc:
        if exc.errno == errno.ENOSYS:
            raise  # The host's fault, such as a drop-in that takes openat2(2) away, and no job's.
        return {"errno": exc.errno}, []
    if isinstance(found, str):
        return {"real": found}, []
    # Asked here: root may not look at every file system, and one that hangs would stop everybody.
    return {"real": opening.place_of(found), "is_folder": stat.S_ISDIR(os.fstat(found).st_mode)}, [found]
