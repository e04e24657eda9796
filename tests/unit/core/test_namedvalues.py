"""Variables and labels, each accepted form and each refusal as a row."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker.core import kinds, namedvalues


def refusal(kind: kinds.Kind, value: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        kind.parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"A": "1", "B": ""}, {"A": "1", "B": ""}),
        (["A=1", "B="], {"A": "1", "B": ""}),
        (["A=b=c"], {"A": "b=c"}),
        (["A=1", "A=2"], {"A": "2"}),  # as in docker run, the last one counts
        ({"a.b-c d": "ä\n"}, {"a.b-c d": "ä\n"}),
        ({}, None),
        ([], None),
    ],
)
def test_environment(value: Any, expected: dict[str, str] | None) -> None:
    assert namedvalues.ENVIRONMENT.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["HOME"], "'HOME' has no value; write NAME=value, for the worker's host is not asked for it"),
        ({"HOME": None}, "'HOME' has no value; write NAME=value, for the worker's host is not asked for it"),
        ({"N": 7}, "'N' must be a string, not int"),
        ({"N": "hunter2\0"}, "'N' must not contain a NUL byte"),
        (["N=hunter2\ud800"], "'N' must be valid Unicode"),
        ({"N": ["hunter2"]}, "'N' must be a string, not list"),
        ({"N\0": "hunter2"}, r"'N\x00' must not contain a NUL byte"),
        ({"N=hunter2": "hunter2"}, "'N' must not have '=' in its name"),
        ({"": "hunter2"}, "has a name that is empty or no string; write NAME=value"),
        (["=hunter2"], "has a name that is empty or no string; write NAME=value"),
        ([""], "has a name that is empty or no string; write NAME=value"),
        ({7: "hunter2"}, "has a name that is empty or no string; write NAME=value"),
        ("N=hunter2", "must be a table of names and strings, or a list of 'NAME=value'"),
        (["N=hunter2", 7], "must be a table of names and strings, or a list of 'NAME=value'"),
        ([["N", "hunter2"]], "must be a table of names and strings, or a list of 'NAME=value'"),
        (7, "must be a table of names and strings, or a list of 'NAME=value'"),
    ],
    ids=ascii,
)
def test_an_environment_that_is_none_and_whose_values_are_not_printed(value: Any, expected: str) -> None:
    assert refusal(namedvalues.ENVIRONMENT, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"team": "lab"}, {"team": "lab"}),
        (["team=lab", "org.example/x=a=b", "bare"], {"team": "lab", "org.example/x": "a=b", "bare": ""}),
        ({"celery-dockerish": "1"}, {"celery-dockerish": "1"}),
        ({}, None),
    ],
)
def test_labels(value: Any, expected: dict[str, str] | None) -> None:
    assert namedvalues.LABELS.parse(value) == expected


def test_labels_that_no_list_could_show() -> None:
    line = r"^have more than 16,384 bytes in all; lists of jobs show them: pass a file$"
    for value in ({"a": "x" * 16_384}, [f"{number}={'é' * 500}" for number in range(17)]):
        with pytest.raises(ValueError, match=line):
            namedvalues.LABELS.parse(value)
    assert namedvalues.LABELS.parse({"a": "x" * 16_383}) == {"a": "x" * 16_383}


@pytest.mark.parametrize("value", [{"celery-docker.job": "x"}, ["celery-docker.attempt=7"], ["celery-docker."]])
def test_labels_that_are_ours(value: Any) -> None:
    assert refusal(namedvalues.LABELS, value).endswith(
        " is the queue's own; a label must not begin with celery-docker."
    )
