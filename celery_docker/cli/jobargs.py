"""The job of a command line as a job document: flags over a file, paths made absolute, the user who typed it.

Pure but for `read` and `read_rows`. What a value may be is for `jobspec` to say.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.cli import lastid
from celery_docker.cli.syntax import commandtable, flagtable, parser
from celery_docker.core import batch, gatewayurl, jobfields, jobflags, textinput, wording
from celery_docker.core.batch import Literal

STDIN = "-"
# The flags that name a file, or the standard input.
_READING = ("--file", "--env-file", "--each-from", "--manifest", "--script", "--stdin")
# Those of texts that go with a job.
_TEXTS: Mapping[str, Callable[[bytes], str]] = {"--script": textinput.text, "--stdin": textinput.verbatim}
_JOB_KEYS = tuple(flag.key for flag in flagtable.JOB_FLAGS)
# The fields that are tables, and what ends a name in the text of a flag.
_TABLES = {"env": "=", "labels": "=", "ulimits": "=", "tmpfs": ":"}


@dataclass(frozen=True)
class LocalUser:
    """The user at this command line: the environment, uid:gid, and the current folder; None: it is gone.

    `user` is None where a gateway elsewhere says as whom the jobs run.
    """

    environ: Mapping[str, str]
    user: str | None
    folder: str | None

    def absolute(self, path: str) -> str:
        """Return a path as seen from the user's current folder. An empty one stays, to be refused."""
        if not path or path.startswith("/"):
            return path
        if self.folder is None:
            raise errors.SpecError(f"{path!r}: the current folder is gone; give an absolute path")
        joined = os.path.join(self.folder, path)
        # What ".." leads to is known only where symlinks are followed.
        return joined if ".." in path.split("/") else os.path.normpath(joined)

    def typed(self, path: str) -> str:
        """Return a path that was typed, absolute; a `~` at its beginning is a home."""
        return self.absolute(self.with_home(path))

    def typed_template(self, path: str) -> str:
        """Return a path of a batch's template: absolute, or still relative where it depends on what is filled in."""
        if "{" not in path:
            return Literal(self.typed(path))
        path = self.with_home(path)
        is_plain = self.folder is not None and "{" not in self.folder and not path.startswith(("/", "{"))
        return f"{self.folder}/{path}" if is_plain else path

    def with_home(self, path: str) -> str:
        """Return a path with the home that its `~` or `~name` stands for, as a shell does for a word of its own."""
        head, slash, rest = path.partition("/")
        if not head.startswith("~"):
            return path
        home = self.environ.get("HOME") if head == "~" else _home_of(head[1:])
        if home and "{" in home and "{" in rest:
            raise errors.SpecError(f"{path!r}: the home folder {home!r} has braces in its name; give a relative path")
        return f"{home}{slash}{rest}" if home else path


def _home_of(name: str) -> str | None:
    try:
        return pwd.getpwnam(name).pw_dir
    except KeyError:
        return None


def of_process(environ: Mapping[str, str], broker_url: str) -> LocalUser:
    """Return the user of this process, as he is known where his jobs go."""
    try:
        folder = os.getcwd()
    except OSError:
        folder = None
    user = None if gatewayurl.is_elsewhere(broker_url) else f"{os.getuid()}:{os.getgid()}"
    return LocalUser(environ, user, folder)


def login(uid: int | None = None) -> str:
    """Return the name of the user of this process, the uid where it has none."""
    number = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def document(arguments: parser.Arguments, local_user: LocalUser, queue: str) -> dict[str, Any]:
    """Return the job document that was typed; `queue` is the one that the settings name.

    Raises `SpecError` for a flag or a file that cannot be read as what it should be.
    """
    base = _base(arguments, local_user)
    return _over(base, jobflags.document(_typed(arguments, local_user, local_user.typed)), local_user.user, queue)


def template(arguments: parser.Arguments, local_user: LocalUser, queue: str) -> dict[str, Any]:
    """Return the job document of a batch: a flag with braces is checked for each job, when they are filled in.

    Placeholders are what was typed: text from a file, the environment or the name of a folder is `Literal`.
    """
    flags = _typed(arguments, local_user, local_user.typed_template)
    open_ones = {key: value for key, value in flags.items() if key.startswith("-") and _has_braces(value)}
    closed = {key: value for key, value in flags.items() if key not in open_ones and key not in ("image", "command")}
    names = {line.flag: line.name for line in jobfields.DOCUMENT}
    image_and_command = {name: flags[name] for name in ("image", "command") if flags.get(name) is not None}
    typed = {
        **jobflags.document(closed),
        **image_and_command,
        **{names[key]: value for key, value in open_ones.items()},
    }
    base = batch.literal(_base(arguments, local_user))
    user = local_user.user
    return _over(base, typed, None if user is None else Literal(user), Literal(queue))


def _base(arguments: parser.Arguments, local_user: LocalUser) -> dict[str, Any]:
    """Return the document that was named on the command line, an empty one where none was."""
    _check_stdin(arguments)
    path = arguments.flags.get("--file")
    return {} if path is None else from_file(local_user.with_home(path))


def _check_stdin(arguments: parser.Arguments) -> None:
    """Raise `UsageError` where several flags would read the standard input: the second would find it empty."""
    paths = {key: arguments.flags.get(key, ()) for key in _READING}
    readers = [
        key for key, path in paths.items() for word in ([path] if isinstance(path, str) else path) if word == STDIN
    ]
    if len(readers) > 1:
        raise errors.UsageError(f"{arguments.command.name}: {readers[1]} -: the standard input can be read only once")


def _over(base: Mapping[str, Any], typed: Mapping[str, Any], user: str | None, queue: str) -> dict[str, Any]:
    """Return the typed fields over those of the document, those over the defaults."""
    both = {**base, **typed, **_merged_tables(base, typed)}
    return {
        **({} if user is None else {"user": user}),
        "queue": queue,
        **{name: value for name, value in both.items() if value is not None},
    }


def read(path: str) -> str:
    """Return the text of a file that was named on the command line, or of the standard input. Raises `SpecError`."""
    return _decoded(path, textinput.text, textinput.MAX_BYTES)


def read_rows(path: str) -> str:
    """Return the text of a manifest or of a list of paths, like `read`."""
    return _decoded(path, textinput.rows, textinput.MAX_ROWS_BYTES)


def _decoded(path: str, decode: Callable[[bytes], str], most_bytes: int) -> str:
    try:
        return decode(_bytes(path, most_bytes + 1))
    except OSError as exc:
        raise errors.SpecError(f"cannot read {_shown(path)}: {exc.strerror}") from exc
    except ValueError as exc:
        raise errors.SpecError(f"cannot read {_shown(path)}: it {exc}") from exc


def _bytes(path: str, most: int) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read(most)
    with open(path, "rb") as file:
        return file.read(most)


def _shown(path: str) -> str:
    return "the standard input" if path == STDIN else wording.harmless(path)


def env_file(path: str, text: str, environ: Mapping[str, str]) -> list[str]:
    """Return the assignments of a file as `docker run --env-file` reads it: no quotes, bare names from the user.

    Raises `SpecError` that names the line.
    """
    lines = []
    for number, line in enumerate(textinput.lines(text), 1):
        entry = line.lstrip(" \t")
        if not entry or entry.startswith("#"):
            continue
        name = entry.partition("=")[0]
        if not name or any(character.isspace() for character in name):
            raise errors.SpecError(
                f"{_shown(path)}, line {number}: the name of a variable must have no blanks and not be empty"
            )
        lines.append(entry)
    return _with_environment(lines, environ)


def _typed(arguments: parser.Arguments, local_user: LocalUser, complete: Callable[[str], str]) -> dict[str, Any]:
    """Return what was typed, by flag or by name; `complete` makes a path absolute."""
    fields: dict[str, Any] = {
        key: arguments.flags[key] for key in _JOB_KEYS if key in arguments.flags and key != "--env"
    }
    for name in jobfields.HOST_PATHS:
        key = next(line.flag for line in jobfields.FIELDS if line.name == name)
        if key in fields:
            fields[key] = jobfields.completed(name, fields[key], complete)
    for key, decode in _TEXTS.items():
        if key in fields:
            path = local_user.with_home(fields[key])
            fields[key] = Literal(_decoded(path, decode, textinput.MAX_BYTES))
    files = [
        Literal(assignment)
        for path in arguments.flags.get("--env-file", ())
        for assignment in env_file(path, read(local_user.with_home(path)), local_user.environ)
    ]
    if "--after" in fields:
        fields["--after"] = [
            Literal(lastid.expand(local_user.environ, name)) if name == commandtable.LAST else name
            for name in fields["--after"]
        ]
    assignments = files + _with_environment(arguments.flags.get("--env", ()), local_user.environ)
    if assignments:
        fields["--env"] = assignments
    if arguments.operands:
        fields["image"], *command = arguments.operands
        fields["command"] = command or None
    return fields


def _has_braces(value: Any) -> bool:
    """Tell whether a value has text in which something may be filled in."""
    if isinstance(value, list | Mapping):
        return any(_has_braces(part) for part in (value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, str) and "{" in value


def _with_environment(assignments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Give bare names the user's own value, and leave out those that have none, as docker does."""
    return [
        text if "=" in text else Literal(f"{text}={environ[text]}")
        for text in assignments
        if "=" in text or text in environ
    ]


def _merged_tables(base: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Let a flag replace one name of a table and leave the others; what is no table is left for the parser."""
    return {
        name: {**_table(base[name], separator), **_table(typed[name], separator)}
        for name, separator in _TABLES.items()
        if name in base and name in typed and isinstance(base[name], Mapping | list)
    }


def _table(value: Any, separator: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    pairs = ((item, *str(item).partition(separator)[::2]) for item in value)
    return {name: Literal(text) if isinstance(item, Literal) else text for item, name, text in pairs}


def from_file(path: str) -> dict[str, Any]:
    """Return the job document in a file, or on the standard input. Raises `SpecError`."""
    where = _shown(path)
    try:
        document = textinput.strict_json(read(path))
    except json.JSONDecodeError as exc:
        raise errors.SpecError(f"{where}: line {exc.lineno}, column {exc.colno}: {exc.msg}; it must be JSON") from exc
    except ValueError as exc:
        raise errors.SpecError(f"{where}: {exc}") from exc
    if not isinstance(document, dict):
        raise errors.SpecError(f'{where}: must be a table of fields, like {{"image": "busybox"}}')
    return document
