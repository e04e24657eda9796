"""Commands and flags by which docker, Slurm and our own tasks.py call what has another name here. Pure."""

from __future__ import annotations

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("stop", "kill", "rm", "scancel", "abort", "revoke"), "cancel"),
    "sbatch": "submit",
    "srun": "run",
    **dict.fromkeys(("squeue", "ls", "list", "jobs", "top"), "ps"),
    **dict.fromkeys(("sacct", "history"), "ps --all"),
    **dict.fromkeys(("sinfo", "hosts", "nodes"), "workers"),
    **dict.fromkeys(("pull", "image"), "images"),
    "attach": "logs -f",
    "retry-failed": "retry --failed",
    "info": "status",
    "version": "--version",
}
# A flag is meant only where the command has it; one with a command before it, everywhere.
FLAGS: Mapping[str, str] = {
    "--out": "--log-file",
    "--err": "--err-file",
    "--inputpath": "--input",
    "--outputpath": "--output",
    "--array": "batch --array",
    "--each": "batch --each",
    "--manifest": "batch --manifest",
    "--dependency": "--after",
    "--depends-on": "--after",
    "--cpus-per-task": "--cpus",
    "--partition": "--queue",
    "--job-name": "--name",
    "--time": "--timeout",
    "--follow": "logs --follow",
}
