"""The list of record fields in docs/RECORD.md: complete, and true about each writer and reader."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import celery_docker
from celery_docker.background.report import HostReport
from celery_docker.cli import rendering
from celery_docker.client import donemarks, submission
from celery_docker.core.admission import Offer
from celery_docker.core.hoststate import Phase
from celery_docker.core.jobspec import Submission
from celery_docker.store import jobstore, listing, ownership

PACKAGE = Path(celery_docker.__file__).parent
PAGE = PACKAGE.parent / "docs" / "RECORD.md"
READS, WRITES = {"HGET", "HMGET", "HEXISTS"}, {"HSET", "HSETNX", "HINCRBY", "HDEL"}
# The keys in scripts that are not those of a job's record.
OTHER_KEYS = {
    ("batch.lua", "KEYS[1]"): "batch",
    ("submit.lua", "KEYS[6]"): "batch",
    ("finish.lua", "batch"): "batch",
    ("finish.lua", "ARGV[7] .. job[4]"): "batch",
    ("settle.lua", "batch"): "batch",
    ("beat.lua", "KEYS[2]"): "host",
    ("hosts.lua", "ARGV[1] .. name .. ARGV[2]"): "host",
    ("select.lua", "ARGV[2] .. host .. ARGV[3]"): "host",
}
# Hashes that are no records: their fields are the ids of readers, and the counters of queues.
NO_RECORDS = {
    *(("log.lua", "KEYS[3]"), ("attach.lua", "KEYS[1]"), ("detach.lua", "KEYS[1]")),
    *(("readers.lua", "readers"), ("count.lua", "key")),
}
# The constants that hold names of fields, by the names under which code uses them.
CONSTANTS: dict[str, tuple[str, ...]] = {
    "listing.ROW_FIELDS": listing.ROW_FIELDS,
    "submission.RETRIED": submission.RETRIED,
    "rendering.RESULT_FIELDS": rendering.RESULT_FIELDS,
    "_FIELDS": ownership._FIELDS,
    "WANTED": (donemarks.WANTED,),
}
# The methods of `recordfields.Fields`, which is called `fields` where it holds a whole record.
FIELD_READERS = ("text", "whole", "count", "number", "moment", "words", "entries", "json")
# For each record and field, the scripts and modules that use it.
Uses = dict[tuple[str, str], set[str]]


def _arguments(text: str) -> list[str]:
    """Split the arguments of a Lua call, up to its closing parenthesis."""
    depth, words, word = 0, [], ""
    for char in text:
        if char in ")" and depth == 0:
            break
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            words.append(word.strip())
            word = ""
        else:
            word += char
    return [*words, word.strip()]


def _uses_in_scripts() -> tuple[Uses, Uses]:
    reads: Uses = defaultdict(set)
    writes: Uses = defaultdict(set)
    for path in sorted((PACKAGE / "store" / "lua").glob("*.lua")):
        for match in re.finditer(r"redis\.p?call\('(H[A-Z]+)', |read_record\(", path.read_text()):
            command = match[1] or "HMGET"
            key, *arguments = _arguments(path.read_text()[match.end() :])
            if (path.name, key) in NO_RECORDS:
                continue
            record = OTHER_KEYS.get((path.name, key), "job")
            assert command in READS | WRITES, f"{path.name}: {command} is not counted here"
            fields = arguments[:1] if command in ("HGET", "HEXISTS", "HSETNX", "HINCRBY") else arguments
            for field in fields[::2] if command == "HSET" else fields:
                if field.startswith("'"):
                    (reads if command in READS else writes)[record, field.strip("'")].add(path.name)
    return reads, writes


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), ast.parse(path.read_text())


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the names of fields in an argument."""
    if isinstance(node, ast.Starred):
        yield from _texts(node.value)
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from _texts(element)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        yield from CONSTANTS.get(ast.unparse(node), ())


def _reads_in_python() -> Uses:
    reads: Uses = defaultdict(set)
    for module, tree in _modules():
        for node in ast.walk(tree):
            for record, field in _fields_read(node, "batch" if module == "store.listing" else "job"):
                reads[record, field].add(module)
    return reads


def _fields_read(node: ast.AST, whole: str) -> Iterator[tuple[str, str]]:
    """Yield record and field of a question to Redis, or of a look into a `record`, which is a `whole` one."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "record":
        yield from ((whole, field) for field in _texts(node.slice))
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return
    method, owner, key = node.func.attr, ast.unparse(node.func.value), ast.unparse(node.args[0])
    if (method == "get" and owner == "record") or (owner == "fields" and method in FIELD_READERS):
        yield from ((whole, field) for field in _texts(node.args[0]))
    elif method in ("hget", "hmget") and key != "keys.DRAINED":
        record = "batch" if "keys.batch(" in key else "host" if "keys.host_about(" in key else "job"
        yield from ((record, field) for argument in node.args[1:] for field in _texts(argument))
    elif method in ("fields", "_fields", "each_job"):
        yield from (("job", field) for argument in node.args[1:] for field in _texts(argument))
    elif method in ("_answer", "_select", "wishes"):
        yield from (("job", field) for argument in node.args for field in _texts(argument))
    elif method == "field":
        yield from (("batch", field) for argument in node.args[1:] for field in _texts(argument))


def _writes_in_python() -> Uses:
    writes: Uses = defaultdict(set)
    for field in jobstore._LISTED:
        writes["job", field].add("store.jobstore")
    for field in _submitted():
        writes["job", field].add("client.submission")
    for field in replace(submission.of_process("/nonexistent"), uid=1000).owner:
        writes["batch", field].add("client.submission")
    for field in (donemarks.WANTED, donemarks.TEMPLATE):
        writes["batch", field].add("cli.commands.batch")
    for module, tree in _modules():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for record, field in _fields_written(function):
                    writes[record, field].add(module)
    return writes


def _submitted() -> set[str]:
    """Return the fields that a submitter adds to the record of a job with everything that a listing shows."""
    builder = replace(submission.of_process("/nonexistent"), uid=1000)
    new = builder.job(
        {"image": "busybox", "name": "n", "labels": {"a": "b"}, "memory": 2**30}, Submission(after=("j0",))
    )
    again = builder.again(new.job_id, "failed", "{}", json.dumps(new.spec), json.dumps(new.envelope), None, None)
    return {*new.about, *again.about}


def _fields_written(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield record and field of the values that a function passes to `update` and `begin_batch`."""
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or len(call.args) != 2:
            continue
        if call.func.attr == "begin_batch" or ast.unparse(call.args[0]).endswith(".holding"):
            record = "batch" if call.func.attr == "begin_batch" else "job"
            if call.func.attr in ("begin_batch", "update"):
                yield from ((record, field) for field in _keys(function, call.args[1]))


def _keys(function: ast.FunctionDef, values: ast.expr) -> Iterator[str]:
    """Yield the keys of a dict that is written in a call, or assigned in the function before."""
    assignments = [n for n in ast.walk(function) if isinstance(n, ast.Assign | ast.AnnAssign | ast.AugAssign)]
    nodes: list[ast.expr] = [values]
    for assignment in assignments:
        targets = assignment.targets if isinstance(assignment, ast.Assign) else [assignment.target]
        if assignment.value is not None and ast.unparse(values) in map(ast.unparse, targets):
            nodes.append(assignment.value)
    dicts = [part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Dict)]
    yield from (str(key.value) for part in dicts for key in part.keys if isinstance(key, ast.Constant))


def _listed(place: int) -> Uses:
    """Return the scripts and modules that the page names for each field: those that write (2) or read (3) it."""
    listed: Uses = {}
    for record, section in zip(("job", "batch", "host"), PAGE.read_text().split("\n## ")[1:4], strict=True):
        for line in section.splitlines():
            if line.startswith("| `"):
                cells = line.strip("| ").split(" | ")
                listed[record, cells[0].strip("`")] = set(re.findall(r"`([a-z.]+)`", cells[place]))
    return listed


def _together(first: Uses, second: Uses) -> Uses:
    return {key: first.get(key, set()) | second.get(key, set()) for key in {*first, *second}}


def test_the_list_names_every_field_and_each_writer() -> None:
    assert _listed(2) == _together(_uses_in_scripts()[1], _writes_in_python())


def test_the_list_names_each_reader() -> None:
    assert _listed(3) == _together(_uses_in_scripts()[0], _reads_in_python())


def test_no_field_of_the_list_is_unused() -> None:
    assert [field for field, places in [*_listed(2).items(), *_listed(3).items()] if not places] == []


class Idle:
    """A worker that does nothing."""

    phase = Phase.SERVING
    is_accepting = True
    status = ""


def test_the_list_of_a_report_s_fields() -> None:
    offer = Offer(1000, 2**30)
    report = HostReport(
        "m",
        "celery-worker",
        2,
        "Docker",
        offer,
        free=lambda: offer.whole,
        running=list,
        queues=list,
        activity=Idle(),
        sick=list,
        unknown_containers=lambda: None,
        pulls=lambda: (0, 0),
    )
    section = PAGE.read_text().split("\n## ")[4]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(report())
