"""The man pages as the build makes them: readable without a warning, and complete."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.cli import exitcodes
from celery_docker.cli.syntax import commandtable, flagtable, helptext, manual
from celery_docker.client import configlayers
from celery_docker.core import jobspec, policy, policyfile, settings
from celery_docker.core.waiting import WaitKind
from tests.conftest import require

ROOT = Path(__file__).parents[4]
BUILT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
PAGES = (
    "celery-docker.1",
    "celery-docker-client.conf.5",
    "celery-docker-policy.toml.5",
    "celery-docker-api.8",
    "celery-worker.8",
    "celery-worker.default.5",
)


def build(folder: Path) -> Path:
    """Make the pages by the source tree alone, without any library, as the package's build does."""
    require("man", "" if shutil.which("rst2man") else "rst2man (python3-docutils) is not installed")
    command = [sys.executable, "-I", "-S", "-B", str(ROOT / "debian/pages.py"), str(folder)]
    epoch = str(int(BUILT.timestamp()))
    subprocess.run(command, check=True, timeout=60, env={"SOURCE_DATE_EPOCH": epoch})
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pages"))


def shown(built: Path, page: str) -> str:
    """Return a page as a reader sees it, each run of blanks as one."""
    require("man", "" if shutil.which("mandoc") else "mandoc is not installed")
    command = ["mandoc", "-Tutf8", "-Owidth=200", str(built / "man" / page)]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return flat(re.sub(".\b", "", process.stdout))


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing_to_complain_of(built: Path, page: str) -> None:
    require("man", "" if shutil.which("mandoc") else "mandoc is not installed")
    command = ["mandoc", "-Tlint", "-Wwarning", str(built / "man" / page)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert process.stdout + process.stderr == ""


@pytest.mark.parametrize("page", PAGES)
def test_every_heading_is_one(built: Path, page: str) -> None:
    """rst2man takes an underline that is too short, or stands right behind a paragraph, for text."""
    assert re.findall(r"^.*\n=+$", (built / "man" / page).read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_unit_is_taken_for_an_address(built: Path, page: str) -> None:
    """rst2man sees one in celery-worker@gpu, and shows it in brackets or slanted."""
    assert re.findall(r"(?:<|\\%)[^ ]+@.*", (built / "man" / page).read_text()) == []


def test_every_command_is_there_with_its_own_flags_and_examples(built: Path) -> None:
    page = shown(built, "celery-docker.1")
    for command, following in zip(commandtable.COMMANDS, (*commandtable.COMMANDS[1:], None), strict=True):
        end = following.usage if following else "FLAGS OF A JOB"
        text = page.partition(f" {command.usage} ")[2].partition(f" {end} ")[0]
        assert flat(command.about) in text
        assert all(flat(f"# {about} {typed}") in text for about, typed in command.examples)
        everywhere = (flagtable.HELP, flagtable.BROKER, flagtable.JSON, flagtable.QUIET)
        elsewhere = (*everywhere, *flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS)
        for flag in command.flags:
            if flag not in (elsewhere if command.operands.literal else everywhere):
                assert f"{helptext.label(flag)} " in text


@pytest.mark.parametrize(
    ("command", "flag"), [("wait", "--timeout N"), ("ps", "--queue NAME"), ("queue", "--queue NAME")]
)
def test_a_flag_that_bears_the_name_of_a_jobs_flag_is_explained_too(built: Path, command: str, flag: str) -> None:
    section = shown(built, "celery-docker.1").partition(f" celery-docker {command} [FLAGS]")[2]
    assert flag in section.partition(" celery-docker ")[0] or flag in section.partition(" FLAGS OF A JOB ")[0]


def test_the_flags_of_jobs_and_of_the_program_are_there(built: Path) -> None:
    page = shown(built, "celery-docker.1")
    flags = page.partition(" FLAGS OF A JOB ")[2].partition(" EXIT STATUS ")[0]
    for flag in (*flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS, flagtable.BROKER, flagtable.VERSION):
        assert f" {helptext.label(flag)} " in flags


def test_the_statuses_and_the_warning_are_there(built: Path) -> None:
    page = shown(built, "celery-docker.1")
    statuses = page.partition(" EXIT STATUS ")[2].partition(" SIGNALS ")[0]
    codes = [exitcodes.USAGE, exitcodes.NO_SUCH_JOB, exitcodes.TIMED_OUT, exitcodes.NOT_RUN, exitcodes.INTERRUPTED]
    for code in (*codes, exitcodes.KILLED, exitcodes.CANCELLED):
        assert f" {code} " in statuses
    assert "root on the workers" in page
    assert "root on the workers" in shown(built, "celery-worker.8")


def test_the_name_of_the_page_says_what_the_help_says(built: Path) -> None:
    assert f"NAME celery-docker - {commandtable.SUMMARY} SYNOPSIS" in shown(built, "celery-docker.1")


@pytest.mark.parametrize(
    ("page", "known"),
    [("celery-worker.default.5", settings.SETTINGS), ("celery-docker-client.conf.5", configlayers.KNOWN)],
)
def test_every_setting_is_explained(built: Path, page: str, known: tuple[settings.Setting, ...]) -> None:
    text = shown(built, page).partition(" SETTINGS ")[2]
    for setting in known:
        assert f" {setting.variable}={setting.default} " in text


def test_every_rule_is_explained(built: Path) -> None:
    """With its comment as a sentence behind it; the program names all that it knows where it refuses another."""
    text = shown(built, "celery-docker-policy.toml.5").partition(" RULES ")[2].partition(" EXAMPLE ")[0]
    for strange in ("strange = 1", "[limits]\nstrange = 1", "[defaults]\nstrange = 1"):
        with pytest.raises(errors.PolicyError) as caught:
            policyfile.parse(strange)
        for name in str(caught.value).partition("known are ")[2].split(", "):
            if name in ("submitter", "unsigned"):
                assert f"[{name}" in shown(built, "celery-docker-policy.toml.5").partition(" SIGNED JOBS ")[2]
                continue
            rule = f"[{name}]" if name in ("limits", "defaults") else f"{name.rpartition('.')[2]} = "
            assert re.search(rf" {re.escape(rule)}\S* ?[\w\"/, .*]*\]? [A-Z]", text), rule


def test_the_example_of_a_policy_is_one() -> None:
    page = (ROOT / "docs/man/celery-docker-policy.toml.5.rst").read_text()
    first, second = page.partition("\nEXAMPLE\n")[2].partition("\nSEE ALSO")[0].split("::\n")[1:]
    rules = policyfile.parse(textwrap.dedent(first.rpartition("\nOnly signed")[0]))
    assert (rules.users, rules.limits.cpus) == (("alice", "1000-59999"), 4)
    rules = policyfile.parse(textwrap.dedent(second))
    assert (rules.submitters, list(rules.sections)) == ("signed", ["alice", "@students"])


def test_the_defaults_of_the_page_on_the_policy_are_those_of_the_program(built: Path) -> None:
    assert policyfile.parse("") == policy.Policy(
        *(("*",), (), (), ("*",), ("bridge",), (), (), policy.HARMLESS_ULIMITS, ("own",), ()),
        policy.Limits(4096, None, None),
    )
    says = (
        "any image and user, the network bridge, harmless ulimits, the host's own platform, GPUs, 4096 processes, no "
        "limit of memory and CPUs, no further group, capability or device, nobody who is told of an end, "
        "and no folder at all."
    )
    assert says in shown(built, "celery-docker-policy.toml.5")


def test_no_text_is_taken_for_markup(tmp_path: Path) -> None:
    """As the name or the text of an entry, such characters reach the reader as they are."""
    require("man", "" if shutil.which("rst2man") and shutil.which("mandoc") else "rst2man and mandoc are needed")
    odd = "A_B=a *b* `c` |d| e_ f\\g redis://h ~/i ^ 'j' .k"
    blocks = manual.settings(f"# -x {odd}\n#{odd}\n")
    assert manual.rules(f"# -x {odd}\n{odd}\n") == blocks
    page = subprocess.run(["rst2man", "-"], input=blocks, capture_output=True, text=True, check=True, timeout=120)
    reader = ["mandoc", "-Tutf8", "-Owidth=200"]
    process = subprocess.run(reader, input=page.stdout, capture_output=True, text=True, check=True, timeout=120)
    assert f"{odd} -x {odd}" in flat(re.sub(".\b", "", process.stdout))
    assert page.stderr == ""


def test_the_build_writes_the_same_files_each_time(built: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    files = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert {str(path) for path in files} >= {*(f"man/{page}" for page in PAGES), "bash/celery-docker"}
    assert all((built / path).read_bytes() == (again / path).read_bytes() for path in files)
    assert '"2026-01-02"' in (built / "man/celery-docker.1").read_text()
    assert json.loads((built / "schema/job.schema.json").read_text()) == jobspec.json_schema()


def test_every_kind_of_wait_is_in_the_page() -> None:
    lines = manual.parts()["waits.rst"].splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [kind.value for kind in manual._WAITS]
    assert set(manual._WAITS) == set(WaitKind)
