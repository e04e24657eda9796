"""Specifications of CDI, the files by which vendors describe their devices to Docker: the names of the GPUs in them.

Pure. Docker itself reads and applies them; here only names count. Invariant: `parse` raises nothing but `ValueError`,
whatever it gets. JSON is read whole. Of YAML the block style is read, as nvidia-ctk and other programs write it: for
two keys no library has to be kept up to date, and what is written in another way gives no GPU, never a wrong one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import gpus, strictjson

# The class in `vendor/class` that means GPUs: devices of other classes are no GPUs.
_CLASS = "gpu"
# It stands for all devices of its kind, and is none of its own.
_ALL = "all"
_INDEX = re.compile(r"[0-9]+(?::[0-9]+)?", re.ASCII)
_NUMBERS = re.compile(r"([0-9]+)", re.ASCII)
_MOST_VALUES = 200_000
_KEY = re.compile(r"([A-Za-z]+):(?:\s+(.*))?")
_ITEM = re.compile(r"( *)-(\s+)(?=\S)")


@dataclass(frozen=True)
class Device:
    """A device that a specification describes: its full name, and what it does to a container, as a text."""

    name: str
    edits: str


@dataclass(frozen=True)
class Gpus:
    """The GPUs that the specifications of a host name; `problems` say which files or names do not count, and why."""

    names: tuple[str, ...]
    problems: tuple[str, ...] = ()


def parse(text: str, *, is_json: bool) -> list[Device]:
    """Return the devices that a specification describes. Raises `ValueError` with words that go on after its name."""
    kind, devices = _of_json(text) if is_json else _of_yaml(text)
    return [Device(f"{kind}={name}", edits) for name, edits in devices]


def gpus_of(folders: Sequence[Mapping[str, Sequence[Device]]]) -> Gpus:
    """Return the GPUs among the devices of folders, each with its files; a later folder comes before an earlier one.

    A name that two files of one folder have means nothing to Docker.
    """
    devices: dict[str, Device | None] = {}
    problems = []
    for files in folders:
        owners: dict[str, str] = {}
        for path, described in files.items():
            for device in filter(_is_gpu, described):
                earlier = owners.setdefault(device.name, path)
                if earlier != path and devices[device.name] is not None:
                    problems.append(f"{device.name} is in {earlier} and in {path}")
                devices[device.name] = device if earlier == path else None
    named = sorted(filter(None, devices.values()), key=_natural)
    return Gpus(tuple(device.name for device in named if not _is_alias(device, named)), tuple(problems))


def _is_gpu(device: Device) -> bool:
    kind, _, name = device.name.partition("=")
    return kind.endswith(f"/{_CLASS}") and name != _ALL and gpus.is_name(device.name)


def _is_alias(device: Device, named: Sequence[Device]) -> bool:
    """Tell whether a name, such as a UUID, is another one of a device that has an index too."""
    kind, _, name = device.name.partition("=")
    return not _INDEX.fullmatch(name) and any(
        other.edits == device.edits and _INDEX.fullmatch(other.name.removeprefix(f"{kind}=")) for other in named
    )


def _natural(device: Device) -> list[tuple[int, str]]:
    """Return what sorts gpu=2 before gpu=10."""
    return [(int(part[:18]), "") if part.isdigit() else (0, part) for part in _NUMBERS.split(device.name)]


def _of_json(text: str) -> tuple[str, list[tuple[str, str]]]:
    document = strictjson.parse(text, most=_MOST_VALUES)
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ValueError("has no kind, so it is no specification of CDI")
    devices = document.get("devices")
    rows = devices if isinstance(devices, list) else []
    tables = [row for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)]
    return document["kind"], [(row["name"], json.dumps(row.get("containerEdits"), sort_keys=True)) for row in tables]


def _of_yaml(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Read the two keys that count: `kind`, and the items of `devices`, each with its `name` and the rest as text."""
    kind, devices, key = "", list[list[str]](), ""
    indent: int | None = None
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        item = _ITEM.match(line) if key == "devices" else None
        if item is not None and indent in (None, len(item[1])):
            indent = len(item[1])
            devices.append([])
            # What stands behind the dash belongs to the item as if it stood below.
            line = " " * item.end() + line[item.end() :]
        elif match := _KEY.fullmatch(line):
            key = match[1]
            kind = _scalar(match[2]) if key == "kind" else kind
            continue
        if key == "devices" and devices:
            devices[-1].append(line)
    if not kind:
        raise ValueError(
            "has no kind that can be read, so it is no specification of CDI in the form that nvidia-ctk writes"
        )
    return kind, [(name, edits) for name, edits in map(_item_of_yaml, devices) if name]


def _item_of_yaml(lines: Sequence[str]) -> tuple[str, str]:
    """Return the name of a device, and its other lines."""
    outer = len(lines[0]) - len(lines[0].lstrip())
    name, edits = "", []
    for line in lines:
        match = _KEY.fullmatch(line[outer:]) if line[:outer].isspace() else None
        if match is not None and match[1] == "name":
            name = _scalar(match[2])
        else:
            edits.append(line.rstrip())
    return name, "\n".join(edits)


def _scalar(text: Any) -> str:
    """Return a word as it is, or without its quotes; what is more than a word is no name, and is refused as one."""
    word = (text or "").split(" #")[0].strip()
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word
