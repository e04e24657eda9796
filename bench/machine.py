"""`make bench`: boots a Debian, installs the package, and prints what a job costs there, each beside its baseline.

Imports nothing of celery_docker: the figures are those of the package that CELERY_DOCKER_TEST_DEB names. Needs root and
what the system tests need; leaves nothing behind. `--verbose` adds each Redis command, `--json` prints what was
measured instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from bench import lines
from tests.machines import desk, machine
from tests.machines.installed import Installed
from tests.waiting import eventually

SLOTS = 4
AT_ONCE = 500
PATIENCE_S = 300
# What a machine may need beyond the jobs' own sleep and Docker's cost.
SLACK_S = 1.1
LINES = 400
# A job that prints twenty lines a second with the time of each, the second one when it may.
PRINT = f"""
i=0
while [ $i -le {LINES} ]; do
  read up rest </proc/uptime; echo "$i $up"; i=$((i + 1)); sleep 0.05
  until [ -e /output/go ]; do sleep 0.05; done
done
"""
Row = tuple[str, str, str]


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    options = _options(argv)
    print(f"measuring {options.package.name} in a booted Debian; this takes eight minutes", file=sys.stderr)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with machine.Machine.boot("bench", machine.ready_image()) as debian:
        jobs, slots, batch, ages = _measure(debian, options.package)
        debian.poweroff()
    if options.json:
        print(json.dumps({"jobs": jobs, "slots": slots, "batch": batch, "lines": ages}))
    else:
        report = _Report(jobs, slots)
        print(_aligned([*report.jobs(), *report.slots(), *_batch_rows(batch), *_line_rows(ages)]))
        if options.verbose:
            print(_aligned(report.commands()))
        print(report.summary())
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.machine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print all that was measured, in seconds and MiB")
    parser.add_argument("--verbose", action="store_true", help="print the Redis commands one by one")
    options = parser.parse_args(argv)
    package = os.environ.get("CELERY_DOCKER_TEST_DEB")
    if not package:
        parser.error("CELERY_DOCKER_TEST_DEB names no package: run `make bench`")
    options.package = Path(package)
    return options


def _measure(debian: machine.Machine, package: Path) -> tuple[dict[str, Any], ...]:
    machine.import_busybox(debian)
    installed = Installed(debian)
    installed.install(package)
    debian.push(Path(__file__).with_name("inside.py"), "/root/inside.py")
    # The batches leave thousands of cancelled jobs behind.
    figures = _inside(installed, "jobs", SLOTS), _inside(installed, "slots", 2), _inside(installed, "batch", 2)
    return *figures, _lines(installed, package)


def _inside(installed: Installed, measurement: str, slots: int) -> dict[str, Any]:
    installed.configure(CONCURRENCY=slots, LOG_LEVEL="INFO")
    installed.wait_until_ready()
    argv = ("/opt/celery/venv/bin/python", "/root/inside.py", measurement, installed.show("MainPID"))
    figures: dict[str, Any] = json.loads(installed.debian.run(*argv, timeout_s=1800).stdout)
    return figures


def _lines(installed: Installed, package: Path) -> dict[str, Any]:
    """Follow one job from another host, and by Docker alone where it runs; return how old each line was, in seconds."""
    debian, folder = installed.debian, "/srv/lines"
    debian.run("install", "-d", "-m", "777", folder)
    with desk.desk(installed, package, CONCURRENCY=2, LOG_LEVEL="INFO") as away, ThreadPoolExecutor() as pool:
        for on in (debian, away):
            on.push(Path(__file__).with_name("lines.py"), "/srv/lines.py")
        submit = ("celery-docker", "submit", "-o", folder, "busybox", "sh", "-c", PRINT)
        job_id = away.run(*submit, user=desk.USER).stdout.strip()
        eventually(lambda: installed.containers(), 60, "the job to run")

        def followed(on: machine.Machine, *command: str) -> Future[CompletedProcess[str]]:
            argv = ("/opt/celery/venv/bin/python", "/srv/lines.py", *command)
            return pool.submit(on.run, *argv, timeout_s=PATIENCE_S)

        product = followed(away, "celery-docker", "logs", "-f", job_id)
        baseline = followed(debian, "docker", "logs", "-f", f"run-{job_id}")
        eventually(lambda: all(on.path(str(lines.ATTACHED)).exists() for on in (debian, away)), 60, "the first line")
        debian.run("touch", f"{folder}/go")
        return {"product_s": json.loads(product.result().stdout), "baseline_s": json.loads(baseline.result().stdout)}


class _Report:
    """The measurements, in words: medians of the rounds, with the extremes where they say something."""

    def __init__(self, jobs: Mapping[str, Any], slots: Mapping[str, Any]) -> None:
        self._jobs = jobs
        self._slots = slots
        self._count: int = jobs["jobs"]
        self._turns: float = slots["jobs"] / slots["slots"]
        self._ideal_s: float = self._turns * slots["nap_s"]

    def jobs(self) -> list[Row]:
        """Return the figures of short jobs."""
        rss = self._jobs["rss_mib"]
        alone = f"Docker alone {self._rate('baseline_s')} /s"
        return [
            (f"{self._count} jobs of busybox true", f"{self._rate('product_s')} /s", alone),
            ("  of Docker alone", *_spread(self._ratios(), "{:.3f}")),
            ("added to a single job", f"{self._added_ms():.1f} ms", self._single_words()),
            ("  by the quarter least disturbed", f"{self._added_ms(_lower_quartile):.1f} ms", ""),
            ("worker CPU per job", *_spread(self._cpu_ms(), "{:.1f} ms")),
            ("worker CPU when idle", f"{self._idle_cpu_ms():.1f} ms/s", ""),
            ("Redis commands per job", f"{self._commands():.1f}", "Redis' own count, without what an idle worker asks"),
            ("  sent by the worker", f"{self._sent('worker'):.1f}", f"{self._idle_commands():.1f} /s when idle"),
            ("  inside of its scripts", f"{self._sent('script'):.1f}", ""),
            ("  sent by the client", f"{self._sent('client'):.1f}", ""),
            ("worker RSS", f"{rss['end']:.0f} MiB", f"at start {rss['start']:.0f} MiB"),
        ]

    def slots(self) -> list[Row]:
        """Return the figures of jobs that all last the same."""
        docker_s = self._nap_s("baseline_s") - self._ideal_s
        limit = f"limit {self._ideal_s + SLACK_S + docker_s:.2f} s: {self._ideal_s + SLACK_S:.1f} s + Docker's own"
        return [
            (self._nap_words(), f"{self._nap_s('product_s'):.2f} s", limit),
            (
                "  Docker alone",
                f"{self._nap_s('baseline_s'):.2f} s",
                f"{docker_s:.2f} s + {self._ideal_s:.1f} s of sleep",
            ),
            ("  more than that for a job", f"{self._wait_ms():+.0f} ms", "a slot that waits for a tick: up to 1000 ms"),
        ]

    def commands(self) -> list[Row]:
        """Return the Redis commands of a job, those of an idle worker included, the most frequent first."""
        sent = [
            (count, name, side)
            for side in ("worker", "script", "client")
            for name, count in self._jobs["sent"][side].items()
        ]
        return [(f"  {side}", f"{count / self._count:.2f}", name) for count, name, side in sorted(sent, reverse=True)]

    def summary(self) -> str:
        """Return everything in one line."""
        return (
            f"{self._rate('product_s')} jobs/s, {statistics.median(self._ratios()):.2f} of Docker alone; "
            f"{self._added_ms():.0f} ms added to a job; {statistics.median(self._cpu_ms()):.0f} ms worker CPU; "
            f"{self._commands():.0f} Redis commands, {self._sent('worker'):.0f} sent by the worker; "
            f"RSS {self._jobs['rss_mib']['end']:.0f} MiB; {self._nap_words()}: {self._nap_s('product_s'):.1f} s, "
            f"Docker alone {self._nap_s('baseline_s'):.1f} s"
        )

    def _rate(self, which: str) -> str:
        return f"{self._count / _median(self._jobs['rounds'], which):.2f}"

    def _ratios(self) -> list[float]:
        return [row["baseline_s"] / row["product_s"] for row in self._jobs["rounds"]]

    def _added_ms(self, middle: Callable[[Iterable[float]], float] = statistics.median) -> float:
        product_s, baseline_s = (
            middle(row[which] for row in self._jobs["singles"]) for which in ("product_s", "baseline_s")
        )
        return (product_s - baseline_s) * 1e3

    def _single_words(self) -> str:
        singles = self._jobs["singles"]
        product_ms, baseline_ms = (_median(singles, which) * 1e3 for which in ("product_s", "baseline_s"))
        return f"{product_ms:.0f} ms beside {baseline_ms:.0f} ms, medians of {len(singles)}"

    def _cpu_ms(self) -> list[float]:
        return [row["cpu_s"] / self._count * 1e3 for row in self._jobs["rounds"]]

    def _idle_cpu_ms(self) -> float:
        idle_ms: float = self._jobs["idle"]["cpu_s"] / self._jobs["idle"]["length_s"] * 1e3
        return idle_ms

    def _commands(self) -> float:
        rows: list[dict[str, Any]] = self._jobs["rounds"]
        busy: list[float] = [sum(row["commands"].values()) - self._idle_commands() * row["busy_s"] for row in rows]
        return statistics.median(busy) / self._count

    def _sent(self, side: str) -> float:
        sent = self._jobs["sent"]
        idle = self._idle_commands() * sent["busy_s"] if side == "worker" else 0.0
        a_job: float = (sum(sent[side].values()) - idle) / self._count
        return a_job

    def _idle_commands(self) -> float:
        a_second: float = sum(self._jobs["idle"]["commands"].values()) / self._jobs["idle"]["length_s"]
        return a_second

    def _nap_words(self) -> str:
        return f"{self._slots['jobs']} jobs of {self._slots['nap_s']} s on {self._slots['slots']} slots"

    def _nap_s(self, which: str) -> float:
        return _median(self._slots["rounds"], which)

    def _wait_ms(self) -> float:
        return (self._nap_s("product_s") - self._nap_s("baseline_s")) / self._turns * 1e3


def _batch_rows(batch: Mapping[str, Any]) -> list[Row]:
    """Return how long a batch takes to be queued and to be asked about, with what Redis and Celery alone take."""
    jobs, sent, questions = batch["jobs"], batch["sent"], batch["asked"]
    product_s, push_s, celery_s = (_median(batch["rounds"], which) for which in ("product_s", "push_s", "celery_s"))
    return [
        (f"celery-docker batch of {jobs:,} jobs", f"{product_s:.2f} s", "limit 5 s, beside a running worker"),
        ("  plain LPUSH of its messages", f"{push_s:.2f} s", f"{AT_ONCE} at a time, no record"),
        ("  by Celery", f"{celery_s * jobs / sent:.1f} s", f"{sent:,} by send_task, extrapolated"),
        *_asked_rows("beside a running worker", [turn for question in questions for turn in question["running"]]),
        *_asked_rows("while it ends them", [turn for question in questions for turn in question["ending"]]),
        ("  not ended yet after those", f"{min(asks['left'] for asks in questions):,} jobs", "the least of the rounds"),
    ]


def _asked_rows(when: str, turns: Sequence[Mapping[str, float]]) -> list[Row]:
    """Return how long it takes to ask about a batch, with what a process takes that only asks Redis for a PING."""
    questions = [(name, [turn[name] for turn in turns]) for name in ("ps", "status", "results", "ping")]
    words = {
        name: (f"{statistics.median(took_s):.2f} s", f"{min(took_s):.2f} to {max(took_s):.2f} s")
        for name, took_s in questions
    }
    return [
        *(
            (f"{name}, {when}", value, f"{spread}, limit 1 s")
            for name, (value, spread) in words.items()
            if name != "ping"
        ),
        ("  a PING from Python", *words["ping"]),
    ]


def _line_rows(ages: Mapping[str, Sequence[float]]) -> list[Row]:
    """Return how long a line of a job takes to be seen, with what Docker alone takes on the job's own host."""
    words = {name: f"{statistics.median(ages_s) * 1e3:.0f} ms" for name, ages_s in ages.items()}
    most = {name: f"at most {max(ages_s) * 1e3:.0f} ms of {len(ages_s)} lines" for name, ages_s in ages.items()}
    return [
        ("a line in logs -f on another host", words["product_s"], f"limit 1 s; {most['product_s']}"),
        ("  docker logs -f on the job's own", words["baseline_s"], most["baseline_s"]),
    ]


def _median(rows: Iterable[Mapping[str, float]], which: str) -> float:
    return statistics.median(row[which] for row in rows)


def _lower_quartile(values: Iterable[float]) -> float:
    return statistics.quantiles(values, n=4)[0]


def _spread(values: Sequence[float], form: str) -> tuple[str, str]:
    return form.format(statistics.median(values)), f"{form.format(min(values))} to {form.format(max(values))}"


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:{widths[0]}}  {value:{widths[1]}}  {beside}".rstrip() for name, value, beside in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
