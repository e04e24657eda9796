"""GPUs: how a job and a setting name them, and how Docker is asked for those that a job has been given. Pure.

A name with a "=" is one of CDI, `vendor/class=name`; any other is an index or a UUID as NVIDIA's driver has them.
Invariant: a container is given devices by their names, never a number of them: Docker would choose the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery_docker.core import kinds

ALL = "all"
# A number of GPUs, all of a host, or these.
Wanted = int | str | tuple[str, ...]

_CDI_PART = r"[a-zA-Z](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?"
_CDI = rf"{_CDI_PART}/{_CDI_PART}=[a-zA-Z0-9](?:[a-zA-Z0-9_.:-]*[a-zA-Z0-9])?"
# An index, one of a part of a GPU (0:1), or a UUID, of which old ones of a part have slashes.
_NVIDIA = r"[0-9]{1,4}(?::[0-9]{1,4})?|(?:GPU|MIG)-[a-zA-Z0-9/-]+"
NAME_PATTERN = rf"(?:{_CDI}|{_NVIDIA})"
_NAME = re.compile(NAME_PATTERN, re.ASCII)
_MOST_NAME = 128
MOST = 64
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_DEVICE = "device="
# The capability that docker run --gpus asks for.
_CAPABILITIES = [["gpu"]]
_CDI_DRIVER = "cdi"


def is_name(text: Any) -> bool:
    """Tell whether a text can be the name of a GPU."""
    return isinstance(text, str) and len(text) <= _MOST_NAME and _NAME.fullmatch(text) is not None


def parse(value: Any) -> Wanted | None:
    """Return the GPUs that a value asks for; None for 0, and for an empty list. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MOST:
            raise ValueError(f"must be a number of GPUs from 0 to {MOST}")
        return value or None
    if value == ALL:
        return ALL
    if isinstance(value, list | tuple):
        return _names(value) or None
    if isinstance(value, str) and (names := _without_quotes(value)).startswith(_DEVICE):
        return _names(names.removeprefix(_DEVICE).split(","))
    raise ValueError(f"must be a number of GPUs, {ALL!r}, or their names, as in 'device=0,1' or ['vendor.com/gpu=0']")


def from_text(text: str) -> int | str:
    """Return the number that a flag's text is, any other text as it is."""
    return int(text) if _NUMBER.fullmatch(text) else text


def parse_setting(text: str) -> Wanted:
    """Return the GPUs that a host is to offer: of those that were found all, so many of them (0: none), or these.

    Raises `ValueError`.
    """
    if text in ("", ALL):
        return ALL
    try:
        if _NUMBER.fullmatch(text):
            return parse(int(text)) or 0
        return _names([name.strip() for name in text.removeprefix(_DEVICE).split(",")])
    except ValueError as exc:
        raise ValueError(
            f"{exc}; it is a number of GPUs, 0 for none, or their names, as in 'device=0' or 'vendor.com/gpu=0'"
        ) from exc


def _names(values: Sequence[Any]) -> tuple[str, ...]:
    if len(values) > MOST:
        raise ValueError(f"has {len(values):,} names; {MOST} are the most")
    for index, name in enumerate(values):
        if not is_name(name):
            raise ValueError(f"has {kinds.shown(name)}, which is no name of a GPU, like '0' or 'vendor.com/gpu=0'")
        if name in values[:index]:
            raise ValueError(f"has {name!r} twice")
    return tuple(values)


def _without_quotes(text: str) -> str:
    """Return a text without the quotes in which docker run wants a list: '"device=0,1"'."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def is_cdi(name: str) -> bool:
    """Tell whether a name is one of CDI."""
    return "=" in name


def count(wanted: Wanted | None, offered: Sequence[str]) -> int:
    """Return how many GPUs a job takes on a host that offers these."""
    if wanted is None:
        return 0
    if isinstance(wanted, int):
        return wanted
    return len(offered) if wanted == ALL else len(wanted)


def problem(wanted: Wanted, offered: Sequence[str], host: str) -> str:
    """Return why a host could never give a job its GPUs, in words that go on after the field; empty: it could."""
    if not offered:
        return f"host {host} offers no GPUs"
    there = f"host {host} offers {', '.join(offered)}"
    missing = [name for name in wanted if name not in offered] if isinstance(wanted, tuple) else []
    if missing:
        return f"{' and '.join(map(repr, missing))} {'is not' if len(missing) == 1 else 'are not'} there; {there}"
    if isinstance(wanted, int) and wanted > len(offered):
        return f"{wanted} are more than there are; {there}"
    return ""


def requests(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return Docker's DeviceRequests for the GPUs that a job has been given: the very ones that docker run sends."""
    cdi = [name for name in names if is_cdi(name)]
    others = [name for name in names if not is_cdi(name)]
    nvidia = [_nvidia(0, others)] if others else []
    return [*nvidia, *([_cdi(cdi)] if cdi else [])]


def preview(wanted: Wanted | None) -> list[dict[str, Any]]:
    """Return the DeviceRequests of a job that has not been given any: as docker run would send them."""
    if wanted is None or isinstance(wanted, tuple):
        return requests(wanted or ())
    return [_nvidia(-1 if wanted == ALL else int(wanted), None)]


def _nvidia(number: int, names: list[str] | None) -> dict[str, Any]:
    return {"Driver": "", "Count": number, "DeviceIDs": names, "Capabilities": _CAPABILITIES, "Options": {}}


def _cdi(names: list[str]) -> dict[str, Any]:
    return {"Driver": _CDI_DRIVER, "Count": 0, "DeviceIDs": names, "Capabilities": None, "Options": None}


def flags(device_requests: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the flags of docker run that send these requests."""
    pairs = []
    for request in device_requests:
        names = request["DeviceIDs"] or []
        if request["Driver"] == _CDI_DRIVER:
            pairs.append(("--device", names))
        elif names:
            text = f"{_DEVICE}{','.join(names)}"
            pairs.append(("--gpus", [f'"{text}"' if len(names) > 1 else text]))
        else:
            pairs.append(("--gpus", [ALL if request["Count"] < 0 else str(request["Count"])]))
    return pairs


GPUS = kinds.Kind(
    "N|all|device=NAME,...",
    parse,
    {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MOST},
            {"type": "array", "maxItems": MOST, "items": {"type": "string", "pattern": f"^{NAME_PATTERN}$"}},
            {"type": "string", "pattern": f'^(?:{ALL}|"?{_DEVICE}{NAME_PATTERN}(?:,{NAME_PATTERN})*"?)$'},
        ]
    },
    from_text,
)
