"""The run of the gates before a release: which are run, and what is printed."""

from __future__ import annotations

import re

import pytest

from tests.release import __main__ as release
from tests.release.candidate import Candidate

BOTH = ("bookworm=build/a_1+deb12u1_amd64.deb", "trixie=build/a_1+deb13u1_amd64.deb")


@pytest.fixture(autouse=True)
def gates(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_on_trixie(candidate: Candidate) -> str:
        assert candidate.release == "bookworm"
        return candidate.version

    def release_upgrade(candidate: Candidate) -> str:
        assert candidate.successor is not None
        return candidate.successor.release

    monkeypatch.setattr(release, "GATES", {"lintian": fails_on_trixie, "release-upgrade": release_upgrade})


def test_after_a_failed_gate_the_others_run_and_the_table_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main([*BOTH]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [re.sub(r" +", " ", re.sub(r"\d+ s", "N s", line)) for line in printed] == [
        "== bookworm/lintian: passed N s 1+deb12u1",
        "== trixie/lintian: FAILED N s",
        "== bookworm/release-upgrade: passed N s trixie",
        "gate bookworm trixie",
        "lintian passed N s FAILED N s",
        "release-upgrade passed N s -",
        "bookworm/lintian: 1+deb12u1",
        "bookworm/release-upgrade: trixie",
    ]


def test_a_gate_is_chosen_for_both_releases_or_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main([*BOTH, "bookworm/lintian", "release-upgrade"]) == 0
    assert "trixie/lintian" not in capsys.readouterr().out
    assert release.main([*BOTH, "trixie/release-upgrade"]) == 2
    assert "no gate is called 'trixie/release-upgrade'; there are lintian, release-upgrade" in capsys.readouterr().out
