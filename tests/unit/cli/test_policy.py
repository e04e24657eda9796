"""The command `policy check`: all broken rules at once, and an exit status for scripts. No Redis and no Docker."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from celery_docker.cli import main, policycheck

Output = pytest.CaptureFixture[str]


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy for `tmp_path`, in the place of the host's."""
    path = tmp_path / "policy.toml"
    path.write_text(f'images = ["lab/*"]\nmounts = ["{tmp_path.resolve()}"]\nusers = ["1000-59999", "root"]\n')
    monkeypatch.setattr(policycheck, "FILE", str(path))
    return path


def document(folder: Path, **fields: object) -> str:
    path = folder / "job.json"
    path.write_text(json.dumps({"image": "lab/tool:1", "user": "54321", **fields}))
    return str(path)


def test_an_allowed_job(rules: Path, tmp_path: Path, capsys: Output) -> None:
    assert main.main(["policy", "check", document(tmp_path)], {}) == 0
    assert capsys.readouterr() == (f"this host would allow the job ({rules})\n", "")


def test_each_broken_rule_is_a_line(rules: Path, tmp_path: Path, capsys: Output) -> None:
    path = document(
        tmp_path,
        image="evil",
        user="daemon",
        inputpath="/root/secret",
        outputpath=f"{tmp_path}/not-there",
        network="none",
        logoutfile="/etc/cron.d/x",
    )
    assert main.main(["policy", "check", path], {}) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        *("image", "user", "network", "inputpath", "logoutfile", "outputpath"),
    ]
    assert "rule images = ['lab/*']" in out.splitlines()[0]


def test_as_json(rules: Path, tmp_path: Path, capsys: Output) -> None:
    assert main.main(["policy", "check", "--json", document(tmp_path)], {}) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(rules),
        "allowed": True,
        "problems": [],
        "defaults": [],
    }
    assert main.main(["policy", "check", "--json", document(tmp_path, image="evil")], {}) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["allowed"] is False
    assert len(answer["problems"]) == 1


@pytest.mark.parametrize(
    ("user", "as_user", "status"),
    [
        ("54321", None, 0),
        ("54321", "daemon", 0),
        ("daemon", "54321", 1),
        (None, "daemon", 1),
        (None, "root", 0),
        ("daemon", None, 1),
        (0, None, 0),
        (1, None, 1),
        ("54321:0", None, 1),
        (None, "54321", 0),
        (None, "no-such-user", 1),
    ],
)
@pytest.mark.usefixtures("rules")
def test_as_a_user(tmp_path: Path, user: str | int | None, as_user: str | None, status: int, capsys: Output) -> None:
    words = ["--as", as_user] if as_user else []
    assert main.main(["policy", "check", *words, document(tmp_path, user=user)], {}) == status
    assert (capsys.readouterr().out.partition(":")[0] == "user") is (status == 1)


@pytest.mark.usefixtures("rules")
def test_without_a_user_the_job_is_checked_as_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    for uid, status in ((54321, 0), (999_999, 1)):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        monkeypatch.setattr(os, "getgid", lambda uid=uid: uid)
        assert main.main(["policy", "check", document(tmp_path, user=None)], {}) == status
    assert "'999999' is not allowed" in capsys.readouterr().out


@pytest.mark.usefixtures("rules")
def test_from_the_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    text = b'{"image": "evil", "user": "54321"}'
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    assert main.main(["policy", "check", "-"], {}) == 1
    assert capsys.readouterr().out.startswith("image: 'evil' is not allowed")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "policy"),
        (["check"], "name one job document, or - for the standard input"),
        (["check", "a", "b"], "name one job document"),
        (["look", "a"], "'look' must be check"),
        (["check", "/no/such/document"], "cannot read /no/such/document: No such file or directory"),
        (["check", "--policy", "/no/policy", "DOCUMENT"], "there is no /no/policy; name a policy with --policy"),
        (["check", "--as", "a b", "DOCUMENT"], "--as 'a b' must be a user's name"),
    ],
)
@pytest.mark.usefixtures("rules")
def test_usage(tmp_path: Path, words: list[str], complaint: str, capsys: Output) -> None:
    path = document(tmp_path)
    assert main.main(["policy", *(path if word == "DOCUMENT" else word for word in words)], {}) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_another_policy_and_a_bad_one(rules: Path, tmp_path: Path, capsys: Output) -> None:
    new = tmp_path / "new.toml"
    new.write_text('users = ["5-1"]')
    words = ["policy", "check", "--policy", str(new), document(tmp_path, image="evil")]
    assert main.main(words, {}) == 78
    assert capsys.readouterr() == ("", f"{new}: users has '5-1', which must begin with the lower number\n")
    new.write_text("")
    assert main.main(words, {}) == 0
    assert rules.exists()


def test_without_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr(policycheck, "FILE", str(tmp_path / "none"))
    assert main.main(["policy", "check", document(tmp_path)], {}) == 2
    assert f"there is no {tmp_path}/none" in capsys.readouterr().err


def test_the_sizes_that_a_job_gets_without_asking(rules: Path, tmp_path: Path, capsys: Output) -> None:
    rules.write_text("[defaults]\nmemory = '2g'\ncpus = 1\n")
    lines = [
        "memory: the job asks for none and gets 2g; rule defaults.memory",
        "cpus: the job asks for none and gets 1; rule defaults.cpus",
    ]
    assert main.main(["policy", "check", document(tmp_path)], {}) == 0
    assert capsys.readouterr().out.splitlines() == [f"this host would allow the job ({rules})", *lines]
    assert main.main(["policy", "check", "--json", document(tmp_path, memory="1g")], {}) == 0
    assert json.loads(capsys.readouterr().out)["defaults"] == lines[1:]
    assert main.main(["run", "--dry-run", "busybox"], {}) == 0
    out, err = capsys.readouterr()
    assert f" --memory {2**31} --memory-swap {2**31} --cpus 1.0 " in out
    assert err.splitlines() == [f"this host would allow the job ({rules})", *lines]


SECTIONS = """
submitters = "signed"
images = ["lab/*"]
[submitter.daemon]
images = ["*"]
users = ["self", "54321"]
"""


@pytest.mark.parametrize(
    ("as_user", "fields", "expected"),
    [
        ("daemon", {"user": None, "image": "evil"}, ""),
        ("daemon", {"user": "54321", "image": "evil"}, ""),
        ("daemon", {"user": "root"}, "user: 'root' is not allowed on this host; rule submitter.daemon.users = "),
        ("54321", {"user": None}, ""),
        (
            "54321",
            {"user": None, "image": "evil"},
            "image: 'evil' is not allowed on this host; rule images = ['lab/*']",
        ),
        ("54321", {"user": "root"}, "user: 'root' is not 54321, who submitted the job; rule submitters = 'signed'"),
        ("root", {"user": "54321"}, ""),
    ],
)
def test_the_rules_for_a_submitter(
    rules: Path, tmp_path: Path, as_user: str, fields: dict[str, object], expected: str, capsys: Output
) -> None:
    rules.write_text(SECTIONS)
    assert main.main(["policy", "check", "--as", as_user, document(tmp_path, **fields)], {}) == bool(expected)
    out = capsys.readouterr().out
    assert out.startswith(expected or "this host would allow the job")
    assert len(out.splitlines()) == 1
