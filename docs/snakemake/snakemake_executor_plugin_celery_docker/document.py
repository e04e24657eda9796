"""The document of a job: image, command, folders and limits, from what Snakemake says about the job. Pure.

Needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

# The container's own folder, which `scratch` asks for.
SCRATCH = "/celery-docker/scratch"
_SCHEME = "docker://"
_LEAST_MEMORY_BYTES = 6 * 2**20
_MOST_NAME = 128
# Libraries that would start as many threads as the host has CPUs; Snakemake sets them for its own shells, too.
_THREAD_VARIABLES = (
    *(f"{name}_NUM_THREADS" for name in ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")),
    "VECLIB_MAXIMUM_THREADS",
)
# bash if the image has one that runs (that of a mounted /usr may not), as Snakemake itself; else its sh, as strict as
# that can be.
_WITH_BASH = '[ -n "${BASH_VERSION-}" ] || ! bash -c : >/dev/null 2>&1 || exec bash "$0"\n'
_STRICT = "set -eu; if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi\n"


@dataclass(frozen=True)
class Folder:
    """A path of the host that a container has at the same place."""

    path: str
    is_read_only: bool = False

    def mount(self) -> dict[str, Any]:
        """Return it as a job document has it."""
        table: dict[str, Any] = {"type": "bind", "source": self.path, "target": self.path}
        return {**table, "readonly": True} if self.is_read_only else table


def image_of(url: str, rule: str) -> str:
    """Return the Docker image that a rule's container names; raises `ValueError` for what is none."""
    if url.startswith(_SCHEME) and len(url) > len(_SCHEME):
        return url.removeprefix(_SCHEME)
    if "://" in url or url.startswith(("/", ".", "~")) or url.endswith(".sif") or not url:
        raise ValueError(f"rule {rule}: container {url!r} is no Docker image; write docker://IMAGE")
    return url


def script_of(shellcmd: str, prefix: str | None = None, suffix: str = "") -> str:
    """Return the script that runs a shell command as strictly as Snakemake does; `prefix` and `suffix` are its own."""
    head = _STRICT if prefix is None else f"{prefix} "
    return f"{_WITH_BASH}{head}{shellcmd.strip()} {suffix}".rstrip() + "\n"


def name_of(rule: str, values: Iterable[object] = ()) -> str:
    """Return a name for people: the rule, and the values of its wildcards."""
    text = ".".join([rule, *map(str, values)])
    return "".join(character if character.isprintable() else "_" for character in text)[:_MOST_NAME]


def folders(wanted: Sequence[Folder]) -> list[Folder]:
    """Return folders of which none lies in another one; the outer one can be changed where that holds for one in it."""
    outermost: dict[str, Folder] = {}
    for folder in sorted(wanted, key=lambda folder: len(PurePosixPath(folder.path).parts)):
        path = PurePosixPath(folder.path)
        outer = next((known for known in outermost if path.is_relative_to(known)), str(path))
        known = outermost.get(outer)
        is_read_only = folder.is_read_only and (known is None or known.is_read_only)
        outermost[outer] = Folder(outer, is_read_only)
    return list(outermost.values())


def limits(threads: int, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job may use, from the threads and resources of its rule; what is no number yet is left out."""
    asked: dict[str, Any] = {"cpus": max(1, threads)}
    memory = _number(resources, "mem_mb") * 10**6 or _number(resources, "mem_mib") * 2**20
    if memory:
        asked["memory"] = max(memory, _LEAST_MEMORY_BYTES)
    gpus = _number(resources, "gpu") or _number(resources, "gpus") or _number(resources, "nvidia_gpu")
    if gpus:
        asked["gpus"] = gpus
    if _number(resources, "runtime"):
        asked["timeout"] = _number(resources, "runtime") * 60
    return asked


def _number(resources: Mapping[str, Any], name: str) -> int:
    value = resources.get(name)
    # Before its inputs are there a resource may be a word that is no number.
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def variables(threads: int, declared: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a job: how many threads it has, and what the workflow declares."""
    return {**dict.fromkeys(_THREAD_VARIABLES, str(max(1, threads))), **declared}


def mounts(wanted: Sequence[Folder], further: Sequence[str]) -> list[Any]:
    """Return the mounts of a document: folders at their own places, and what the user has written as docker run has it.

    A path alone stands for itself at its own place.
    """
    own = [Folder(text) for text in further if _is_path(text)]
    given = [text for text in further if not _is_path(text)]
    return [*(folder.mount() for folder in folders([*wanted, *own])), *given]


def _is_path(text: str) -> bool:
    return text.startswith("/") and ":" not in text


def failure(job_id: str, receipt: Mapping[str, Any], lines: Sequence[str]) -> str:
    """Return what is said of a job that has not succeeded: the reason, where it ran, and the end of its output."""
    state, reason, host = (str(receipt.get(name) or "") for name in ("state", "reason", "host"))
    about = f"{state}: {reason}" if reason else state
    where = f" on {host}" if host else ""
    said = [f"{about}{where}; all of its output: celery-docker logs {job_id}", *(f"        {line}" for line in lines)]
    return "\n".join(said)


def last_lines(text: str, most: int = 10) -> list[str]:
    """Return the last lines of an output, fit to be printed."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return ["".join(c if c.isprintable() or c == "\t" else "?" for c in line)[:500] for line in lines[-most:]]
