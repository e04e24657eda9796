"""The file of a policy, `/etc/celery-docker/policy.toml`: general rules, and sections for submitters that change some.

Pure. Invariant: what is no rule is refused, with its section and its value, because a misspelt rule protects nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from celery_docker import errors
from celery_docker.core import (
    containerkinds,
    kinds,
    limitkinds,
    noticetargets,
    privilegekinds,
    sizes,
    userrules,
    wording,
)
from celery_docker.core.policy import ANYBODY, OWN_PLATFORM, SIGNED, Defaults, Limits, Policy

_Number = TypeVar("_Number", int, float)
# As many as Docker can count.
_MOST_PIDS = 2**63 - 1
_MOST_ULIMIT = re.compile(r"[0-9]{1,18}", re.ASCII)
_SUBMITTERS, _SECTIONS, _UNSIGNED = "submitters", "submitter", "unsigned"
_LIMITS, _DEFAULTS = "limits", "defaults"


def parse(text: str) -> Policy:
    """Return the policy that a TOML text describes.

    Raises `PolicyError` that names the key, the value and what is allowed.
    """
    table = _table_of(text)
    _known(table, (_SUBMITTERS, *_RULES, _LIMITS, _DEFAULTS, _SECTIONS, _UNSIGNED), "")
    submitters = _one_of_submitters(table.get(_SUBMITTERS, ANYBODY))
    general = _rules(table, "", Policy(submitters=submitters, self_only=submitters == SIGNED))
    sections = {
        name: _section(f"{_SECTIONS}.{_checked_name(name)}.", rules, general)
        for name, rules in _table(table.get(_SECTIONS, {}), _SECTIONS).items()
    }
    unsigned = _unsigned(table[_UNSIGNED], general) if _UNSIGNED in table else None
    return replace(general, sections=sections, unsigned=unsigned)


def _table_of(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as exc:
        raise errors.PolicyError("is nested too deeply") from exc
    except ValueError as exc:  # tomllib's own, and Python's for a number of thousands of digits
        raise errors.PolicyError(f"is not TOML: {wording.harmless(str(exc))}") from exc


def _rules(table: Mapping[str, Any], origin: str, base: Policy) -> Policy:
    """Return a policy with the rules of one table over those of another policy."""
    given = [name for name in (*_RULES, _LIMITS, _DEFAULTS) if name in table]
    values: dict[str, Any] = {name: _RULES[name](f"{origin}{name}", table[name]) for name in given if name in _RULES}
    limits = values[_LIMITS] = _limits(table.get(_LIMITS, {}), f"{origin}{_LIMITS}", base.limits)
    values[_DEFAULTS] = _defaults(table.get(_DEFAULTS, {}), f"{origin}{_DEFAULTS}", base.defaults, limits)
    origins = dict.fromkeys(given, origin) if origin else {}
    return replace(base, **values, origins={**base.origins, **origins})


def _section(origin: str, value: Any, general: Policy) -> Policy:
    rules = _table(value, origin.rstrip("."))
    _known(rules, (*_RULES, _LIMITS, _DEFAULTS), origin)
    # Who says as whom a submitter may run means it.
    return replace(_rules(rules, origin, general), self_only=general.self_only and "users" not in rules)


def _unsigned(value: Any, general: Policy) -> Policy:
    if general.submitters != SIGNED:
        raise errors.PolicyError(
            f"[{_UNSIGNED}] means nothing where every job is run; set {_SUBMITTERS} = {SIGNED!r}, or remove it"
        )
    rules = _section(f"{_UNSIGNED}.", value, general)
    if "users" not in rules.origins or userrules.SELF in rules.users:
        raise errors.PolicyError(
            f"[{_UNSIGNED}] has to say by users = [...] as whom the jobs of nobody may run, and {userrules.SELF!r} is "
            "nobody there"
        )
    return rules


def _one_of_submitters(value: object) -> str:
    if value not in (ANYBODY, SIGNED):
        raise errors.PolicyError(
            f"{_SUBMITTERS} = {kinds.shown(value)} must be {ANYBODY!r} or {SIGNED!r}; rules for one submitter are in a "
            f"section [{_SECTIONS}.NAME]"
        )
    return str(value)


def _checked_name(name: str) -> str:
    if not name.removeprefix("@") or not name.isprintable() or any(character.isspace() for character in name):
        raise errors.PolicyError(f"[{_SECTIONS}.{kinds.shown(name)}] must be named like a user, or @ and a group")
    return name


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} must be a table, [{name}]")
    return value


def _limits(value: Any, name: str, base: Limits) -> Limits:
    table = _table(value, name)
    _known(table, ("pids", "memory", "cpus"), f"{name}.")
    limits = base
    if "pids" in table:
        limits = replace(limits, pids=_pids(f"{name}.pids", table["pids"]))
    if "memory" in table:
        limits = replace(limits, memory_bytes=_memory(f"{name}.memory", table["memory"]))
    if "cpus" in table:
        limits = replace(limits, cpus=_cpus(f"{name}.cpus", table["cpus"]))
    return limits


def _defaults(value: Any, name: str, base: Defaults, limits: Limits) -> Defaults:
    """Return what a table says over other defaults. Of those a section inherits, its own lower limits count."""
    table = _table(value, name)
    _known(table, ("memory", "cpus"), f"{name}.")
    memory_bytes = _least(base.memory_bytes, limits.memory_bytes)
    cpus = _least(base.cpus, limits.cpus)
    if "memory" in table:
        memory_bytes = _memory(f"{name}.memory", table["memory"])
        if memory_bytes != _least(memory_bytes, limits.memory_bytes):
            raise _too_much(f"{name}.memory", table["memory"], "memory", sizes.shown(limits.memory_bytes or 0))
    if "cpus" in table:
        cpus = _cpus(f"{name}.cpus", table["cpus"], "no default")
        if cpus != _least(cpus, limits.cpus):
            raise _too_much(f"{name}.cpus", table["cpus"], "cpus", f"{limits.cpus:g}")
    return Defaults(memory_bytes, cpus)


def _least(default: _Number | None, limit: _Number | None) -> _Number | None:
    return default if default is None or limit is None else min(default, limit)


def _too_much(name: str, value: Any, limit: str, most: str) -> errors.PolicyError:
    return errors.PolicyError(f"{name} = {kinds.shown(value)} must be at most limits.{limit} = {most}")


def _known(table: Mapping[str, Any], names: Sequence[str], prefix: str) -> None:
    for name in table:
        if name not in names:
            raise errors.PolicyError(
                f"{prefix}{wording.harmless(name)} is not a rule; known are {', '.join(prefix + n for n in names)}"
            )


def _strings(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} must be a list of strings")
    return tuple(value)


def _roots(name: str, value: Any) -> tuple[str, ...]:
    roots = _strings(name, value)
    for root in roots:
        if not root.startswith("/") or ".." in PurePosixPath(root).parts:
            raise errors.PolicyError(f"{name} has {kinds.shown(root)}, which must be an absolute path")
    return roots


def _users(name: str, value: Any) -> tuple[str, ...]:
    return _accounts(name, value, userrules.check)


def _groups(name: str, value: Any) -> tuple[str, ...]:
    return _accounts(name, value, userrules.check_group)


def _notify(name: str, value: Any) -> tuple[str, ...]:
    return _accounts(name, value, noticetargets.check_rule)


def _accounts(name: str, value: Any, check: Callable[[str], None]) -> tuple[str, ...]:
    rules = _strings(name, value)
    for rule in rules:
        try:
            check(rule)
        except ValueError as exc:
            raise errors.PolicyError(f"{name} has {kinds.shown(rule)}, which {exc}") from exc
    return rules


def _networks(name: str, value: Any) -> tuple[str, ...]:
    networks = _strings(name, value)
    if not networks or any(network not in kinds.NETWORKS for network in networks):
        raise errors.PolicyError(
            f"{name} = {kinds.shown(list(networks))} must name one or more of {', '.join(kinds.NETWORKS)}"
        )
    return networks


def _capabilities(name: str, value: Any) -> tuple[str, ...]:
    capabilities = _strings(name, value)
    try:
        return tuple(privilegekinds.ADDED_CAPABILITY.parse(capabilities) or ())
    except ValueError as exc:
        raise errors.PolicyError(f"{name} {exc}") from exc


def _platforms(name: str, value: Any) -> tuple[str, ...]:
    platforms = _strings(name, value)
    for platform in platforms:
        try:
            if platform != OWN_PLATFORM:
                containerkinds.PLATFORM.parse(platform)
        except ValueError as exc:
            raise errors.PolicyError(f"{name} has {kinds.shown(platform)}, which {exc}, or {OWN_PLATFORM!r}") from exc
    return platforms


def _ulimits(name: str, value: Any) -> tuple[str, ...]:
    rules = _strings(name, value)
    for rule in rules:
        ulimit, equals, most = rule.partition("=")
        if ulimit not in limitkinds.ULIMITS or (equals and not _MOST_ULIMIT.fullmatch(most)):
            known = ", ".join(limitkinds.ULIMITS)
            raise errors.PolicyError(
                f"{name} has {kinds.shown(rule)}, which must be one of {known}, or such a name with '=' and the most"
            )
    return rules


def _devices(name: str, value: Any) -> tuple[str, ...]:
    rules = _strings(name, value)
    for rule in rules:
        if not rule.startswith("/dev/") or "**" in rule or ".." in PurePosixPath(rule).parts:
            raise errors.PolicyError(
                f"{name} has {kinds.shown(rule)}, which must be a path below /dev, as '/dev/ttyUSB*'"
            )
    return rules


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} must be true or false")
    return value


def _pids(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_PIDS:
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} must be a whole number from 1 to {_MOST_PIDS}")
    return value


def _memory(name: str, value: object) -> int | None:
    if value == "" or (value == 0 and not isinstance(value, bool)):
        return None
    try:
        return sizes.parse_memory(value)
    except ValueError as exc:
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} {exc}") from exc


def _cpus(name: str, value: object, zero: str = "no limit") -> float | None:
    if value == 0 and not isinstance(value, bool):
        return None
    try:
        return float(kinds.CPUS.parse(None if isinstance(value, str) else value))
    except ValueError as exc:
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} {exc}, or 0 for {zero}") from exc


_RULES: Mapping[str, Callable[[str, Any], tuple[str, ...] | bool]] = {
    "images": _strings,
    "mounts": _roots,
    "logs": _roots,
    "users": _users,
    "networks": _networks,
    "groups": _groups,
    "capabilities": _capabilities,
    "ulimits": _ulimits,
    "platforms": _platforms,
    "gpus": _boolean,
    "devices": _devices,
    "notify": _notify,
}
