"""Whatever is handed in is a value or a refusal in one line: files, settings and command lines that nobody meant."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.cli import batchargs, jobargs
from celery_docker.cli.syntax import commandtable, parser
from celery_docker.client import configlayers
from celery_docker.core import fixedsettings, jobfields, jobspec, policy, policyfile, textinput
from celery_docker.core import settings as worker_settings

USER = jobargs.LocalUser({"HOME": "/home/a", "TOKEN": "s3cret"}, "1000:100", "/data/run")
# Bytes near those that files are made of, and any.
WORDS = st.sampled_from(
    [
        *(
            "image",
            "busybox",
            "job.",
            "job.memory",
            "inputpath",
            "1g",
            "=",
            ",",
            ";",
            "\t",
            "\n",
            "\r\n",
            "\r",
            '"',
            "'",
            "#",
        ),
        *(
            "{",
            "}",
            "[",
            "]",
            ":",
            "{}",
            "{#}",
            "\\",
            "\\u2028",
            "\\ud800",
            "null",
            "NaN",
            "1e999",
            "9" * 5000,
            "\0",
            "\ufeff",
        ),
        *(
            "\u2028",
            "\x85",
            "\x0b",
            "\x0c",
            "\u0663",
            "²",
            "-",
            "/",
            "..",
            "%",
            "CELERY_DOCKER_",
            "BROKER_URL",
            "redis://",
            "@",
        ),
        *("limits", "defaults", "pids", "images", "1", "0", " ", "true"),
    ]
)
TEXT = st.lists(WORDS | st.text(max_size=4), max_size=25).map("".join)
DATA = (
    TEXT.map(lambda text: text.encode(errors="surrogatepass"))
    | st.binary(max_size=60)
    | TEXT.map(lambda t: t.encode("utf-16", "surrogatepass"))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | WORDS, inner, max_size=4),
    max_leaves=12,
)
NAMES = [line.name for line in jobfields.DOCUMENT]
DOCUMENTS = st.dictionaries(st.sampled_from([*NAMES, "nope", "", "job.memory"]), JSON, max_size=6)


def outcome(read: Callable[..., Any], *arguments: Any) -> Any:
    """Return a value, or None for a refusal: one of our errors, in lines that a terminal shows as they are."""
    try:
        return read(*arguments)
    except errors.BatchError as exc:
        refusals = list(exc.problems) or [""]
    except errors.CeleryDockerError as exc:
        refusals = [str(exc)]
    for refusal in refusals:
        assert refusal.isprintable(), refusal[:1000]
        assert 0 < len(refusal) < 3000, refusal[:1000]
    return None


def decoded(data: bytes, decode: Callable[[bytes], str], read: Callable[[str], Any]) -> Any:
    """Read bytes as a file is read: the decoder's complaint is a refusal too."""
    try:
        text = decode(data)
    except ValueError as exc:
        raise errors.SpecError(str(exc)) from exc
    return read(text)


def typed(words: list[str]) -> Any:
    arguments = parser.parse(words)
    if isinstance(arguments, parser.Arguments) and arguments.command.name in ("run", "submit"):
        return jobspec.parse_document(jobargs.document(arguments, USER, "celery"))
    if isinstance(arguments, parser.Arguments) and arguments.command.name == "batch":
        return batchargs.batch_request(arguments, USER, "celery").jobs
    return arguments


@given(DOCUMENTS)
def test_any_document(document: Mapping[str, Any]) -> None:
    parsed = outcome(jobspec.parse_document, document)
    if parsed is not None:
        spec, _ = parsed
        assert jobspec.parse((), spec.to_kwargs()) == spec
        json.dumps(spec.to_kwargs()).encode()


@given(
    data=DATA
    | JSON.map(lambda value: json.dumps(value).encode())
    | DOCUMENTS.map(lambda value: json.dumps(value).encode())
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_as_document_and_env_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "f").write_bytes(data)
    for flags in (["-f"], ["--env-file"]):
        outcome(typed, ["submit", *flags, f"{tmp_path}/f", "busybox"])


@given(data=DATA | st.lists(DOCUMENTS).map(lambda rows: "\n".join(map(json.dumps, rows)).encode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(data=b"job.command,a\n" + b'"[' * 100 + b'"",1')
def test_any_file_as_manifest_and_list(tmp_path: Path, data: bytes) -> None:
    for name, flag in (("f.csv", "--manifest"), ("f.jsonl", "--manifest"), ("f", "--manifest"), ("f", "--each-from")):
        (tmp_path / name).write_bytes(data)
        jobs = outcome(typed, ["batch", flag, f"{tmp_path}/{name}", "busybox", "echo", "{a}", "{}", "{#}"])
        for job in jobs or ():
            json.dumps(job.kwargs).encode()


@given(DATA)
@example(b"[" * 5000)
@example(b"a = " + b"[" * 5000)
@example(b'"a\\nb" = 1')
@example(b"limits = {pids = " + b"9" * 5000 + b"}")
@example(b"[limits]\ncpus = 1e300")
@example(b"[limits]\ncpus = nan")
@example(b"[limits]\npids = 99999999999999999999")
@example(b"images = [" + b'"x",' * 5000 + b"1]")
@example(b"networks = [" + b"[]," * 5000 + b"1]")
@example(b"a.b.c = 1\na = 2")
@example(b"a = 2026-99-99")
def test_any_policy(data: bytes) -> None:
    rules = outcome(decoded, data, textinput.text, policyfile.parse)
    if rules is not None:
        assert 1 <= rules.limits.pids < 2**63
        assert rules.limits.cpus is None or round(rules.limits.cpus * 10**9) < 2**63
        assert rules.defaults.cpus is None or rules.limits.cpus is None or rules.defaults.cpus <= rules.limits.cpus
        policy.violations(rules, policy.Request("busybox", memory_bytes=1, cpus=1))


SETTING_NAMES = [setting.variable for setting in worker_settings.SETTINGS]


@given(st.dictionaries(st.sampled_from(SETTING_NAMES), TEXT | st.text()))
@example({"CELERY_DOCKER_CONCURRENCY": "9" * 5000})
@example({"CELERY_DOCKER_BROKER_URL": "redis://h/²"})
@example({"CELERY_DOCKER_BROKER_URL": "/" * 100_000})
@example({"CELERY_DOCKER_BROKER_URL": "redis://h/" + "9" * 5000})
@example({"CELERY_DOCKER_BROKER_URL": "redis://[::1"})
@example({"CELERY_DOCKER_POLICY": "/a\nb"})
@example({"CELERY_DOCKER_OPTS": "-n " + "x" * 5000})
def test_any_settings(environ: Mapping[str, str]) -> None:
    parsed = outcome(worker_settings.parse, environ)
    if parsed is not None:
        outcome(fixedsettings.identity, parsed, "host")
        assert all(text.isprintable() for _, text in worker_settings.describe(parsed))


@given(DATA)
@example(b"CELERY_DOCKER_BROKER_URL=redis://h/" + "²".encode())
@example(b"CELERY_DOCKER_QUEUE=" + b"q" * 5000)
@example(b"\x1b[31m=1")
def test_any_client_conf(data: bytes) -> None:
    def read(text: str) -> Any:
        return configlayers.resolve([("client.conf", configlayers.parse_file("client.conf", text))])

    for value in outcome(decoded, data, textinput.text, read) or ():
        assert value.shown().isprintable()
    outcome(decoded, data, textinput.text, worker_settings.read_assignments)


FLAGS = sorted({name for command in commandtable.COMMANDS for flag in command.flags for name in flag.names})


@given(
    st.sampled_from([command.name for command in commandtable.COMMANDS] + ["nope", ""]),
    st.lists(
        st.sampled_from(FLAGS) | WORDS | st.text(max_size=6) | st.sampled_from(["busybox", "{}", "1-3", "@last", "--"]),
        max_size=8,
    ),
)
@example("submit", ["--env-file", "/proc/self/mem", "busybox"])
@example("submit", ["-f", "/", "busybox"])
@example("submit", ["-f", "a\nb"])
@example("submit", ["-f", "a\0b"])
@example("submit", ["-i", "\udcff", "busybox"])
@example("submit", ["\udcff\n"])
@example("submit", ["--user", "9" * 5000, "busybox"])
@example("submit", ["--timeout", "9" * 18 + "d", "busybox"])
@example("batch", ["--each", "[" * 5000, "busybox"])
@example("batch", ["--each", "a\0b", "busybox"])
@example("batch", ["--array", "1-3", "-m", "{}{}" * 1000, "busybox"])
def test_any_command_line(command: str, words: list[str]) -> None:
    outcome(typed, [command, *(word for word in words if word not in ("-",))])
