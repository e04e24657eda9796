"""One template and many rows: what is replaced, what is left alone, and how mistakes are told."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core import batch, batchinputs, jobfields
from celery_docker.core.batchinputs import Row

PATH = "/data/two words/a.tar.gz"


def commands(template: dict[str, Any], given_rows: list[Row]) -> list[list[str]]:
    return [job.kwargs["command"] for job in batch.expand({"image": "busybox", **template}, given_rows)]


def filled(text: str, row: Row) -> str:
    """Return what becomes of one word of a command."""
    return commands({"command": [text]}, [row])[0][0]


def refusal(template: dict[str, Any], given_rows: list[Row]) -> list[str]:
    with pytest.raises(errors.BatchError) as caught:
        batch.expand({"image": "busybox", **template}, given_rows)
    return str(caught.value).splitlines()


# What is replaced, and what is not


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", PATH),
        ("{/}", "a.tar.gz"),
        ("{.}", "/data/two words/a.tar"),
        ("{/.}", "a.tar"),
        ("{//}", "/data/two words"),
        ("{#}", "1"),
        ("<{}|{/}>", f"<{PATH}|a.tar.gz>"),
        ("{{}}", f"{{{PATH}}}"),
        ("", ""),
        # What shells, awk and others mean by braces.
        ("awk '{print $1}'", "awk '{print $1}'"),
        ("{print}", "{print}"),
        ("${HOME}", "${HOME}"),
        ("${}", "${}"),
        ("${#}", "${#}"),
        ("{1..9}", "{1..9}"),
        ("{a,b}", "{a,b}"),
        ("{ }", "{ }"),
        ("{", "{"),
        ("}{", "}{"),
        ("a{3}", "a{3}"),
        ("{sample}", "{sample}"),
    ],
)
def test_placeholders_of_a_path(text: str, expected: str) -> None:
    assert filled(text, batchinputs.from_paths([PATH])[0]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "7"),
        ("{#}", "7"),
        ("seed={}", "seed=7"),
        ("{/}", "{/}"),
        ("{//}", "{//}"),
    ],
)
def test_placeholders_of_an_array(text: str, expected: str) -> None:
    assert filled(text, batchinputs.from_array("7")[0][0]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{sample}", "S1"),
        ("{lane id}", "4"),
        ("{7}", "seven"),
        ("{größe}", "12"),
        ("{#}", "1"),
        ("{sample}{sample}", "S1S1"),
        ("{ sample }", "{ sample }"),
        ("${sample}", "${sample}"),
        ("$ {sample}", "$ S1"),
        ("{}", "{}"),
        ("{SAM-PLE}", "{SAM-PLE}"),
        ("{8}", "{8}"),
    ],
)
def test_placeholders_of_a_manifest(text: str, expected: str) -> None:
    (row,) = batchinputs.from_csv("sample,lane id,7,größe\nS1,4,seven,12\n")
    assert filled(text, row) == expected


def test_a_value_with_braces_is_not_read_again() -> None:
    (row,) = batchinputs.from_csv("a,b,job.inputpath\n{b},{a},/x{#}{a}\n")
    assert filled("{a} {b} {} {/}", row) == "{b} {a} /x{#}{a} x{#}{a}"


TEXT_WITHOUT_BRACES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="{\0"))


@given(TEXT_WITHOUT_BRACES, TEXT_WITHOUT_BRACES.filter(bool))
def test_a_text_without_placeholders_stays(text: str, path: str) -> None:
    assert filled(text, batchinputs.from_paths([path])[0]) == text


@given(TEXT_WITHOUT_BRACES.filter(bool), TEXT_WITHOUT_BRACES, TEXT_WITHOUT_BRACES)
def test_a_value_arrives_as_it_is(path: str, before: str, after: str) -> None:
    before = before.rstrip("$")
    assert filled(f"{before}{{}}{after}", batchinputs.from_paths([path])[0]) == before + path + after


@given(st.text(string.ascii_letters + "'\" \\$;\n{}", min_size=1))
def test_a_word_stays_one_word_whatever_is_put_in(name: str) -> None:
    row = batchinputs.from_paths([f"/data/{name}"])[0]
    for template in ({"command": ["cat", "{}"]}, {"command": "cat {}"}, {"command": "cat '{}'"}):
        assert commands(template, [row]) == [["cat", f"/data/{name}"]]


def test_every_text_of_the_document_is_filled() -> None:
    template = {
        "image": "lab/tool:{#}",
        "command": ["run", "{/}"],
        "outputpath": "/out/{/.}",
        "timeout": 60,
        "queue": "q-{#}",
        "priority": 3,
        "after": ["{/.}"],
    }
    (job,) = batch.expand(template, batchinputs.from_paths(["/in/a.csv"]))
    assert job.kwargs == {"image": "lab/tool:1", "command": ["run", "a.csv"], "outputpath": "/out/a", "timeout": 60}
    assert job.options == {"queue": "q-1", "priority": 3, "after": ["a"]}
    assert job.row.index == 1


def test_the_values_of_a_table_are_filled_and_its_keys_are_not() -> None:
    assert batch._filled({"{}": {"x": ["{}", 1, None]}}, {"": "v"}) == {"{}": {"x": ["v", 1, None]}}


def test_nothing_to_expand() -> None:
    assert batch.expand({"image": "busybox"}, []) == []


# The default input


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param({"command": ["wc"]}, "{}", id="nothing about the path"),
        pytest.param({"command": ["wc", "${x}", "{print}"]}, "{}", id="braces of others"),
        pytest.param({"outputpath": "/out/{#}"}, "{}", id="a number says nothing about the path"),
        pytest.param({"inputpath": None}, "{}", id="no input"),
        pytest.param({"inputpath": "/ref"}, "/ref", id="an input"),
        pytest.param({"command": ["wc", "<{}>"]}, None, id="in a word"),
        pytest.param({"command": "wc {}"}, None, id="in a command"),
        pytest.param({"outputpath": "/out/{/.}"}, "{}", id="its name says nothing of the path"),
        pytest.param({"env": {"X": "{}"}}, None, id="in a table"),
    ],
)
def test_default_input(template: dict[str, Any], expected: str | None) -> None:
    assert batch.with_default_input(template).get("inputpath") == expected


# Manifests


def test_a_column_with_the_prefix_sets_the_field_of_its_job() -> None:
    text = "sample,job.timeout,job.command,job.image\nS1,90,\"sh -c 'echo {sample}'\",lab/a\nS2,,,\n"
    template = {"image": "busybox", "command": "run {sample}", "timeout": 5}
    first, second = batch.expand(template, batchinputs.from_csv(text))
    assert first.kwargs == {"image": "lab/a", "command": ["sh", "-c", "echo {sample}"], "timeout": 90}
    assert second.kwargs == {"image": "busybox", "command": ["run", "S2"], "timeout": 5}


def test_a_key_with_the_prefix_keeps_its_type() -> None:
    (job,) = batch.expand(
        {"image": "busybox"}, batchinputs.from_jsonl('{"job.command": ["a b", "{x}"], "job.retry_on": [3]}')
    )
    assert job.kwargs == {"image": "busybox", "command": ["a b", "{x}"], "retry_on": [3]}


@pytest.mark.parametrize("name", sorted(line.name for line in jobfields.DOCUMENT))
def test_a_column_named_like_any_field_is_data_only(name: str) -> None:
    """The user root of a table of samples, say."""
    template = {"image": "busybox", "command": [f"{{{name}}}"], "user": "5:6", "queue": "q"}
    for rows in (batchinputs.from_csv(f"{name}\nroot\n"), batchinputs.from_jsonl(json.dumps({name: "root"}))):
        (job,) = batch.expand(template, rows)
        assert job.kwargs == {"image": "busybox", "command": ["root"], "user": "5:6"}
        assert job.options == {"queue": "q"}
        assert batch.unused_field_columns(template, rows) == []


def test_a_column_that_looks_like_a_field_and_is_not_used_is_named() -> None:
    rows = batchinputs.from_csv("memory,sample,user,job.cpus,cpus\n1g,a,root,2,3\n")
    assert batch.unused_field_columns({"image": "busybox", "command": ["{sample}"]}, rows) == ["user", "memory"]
    assert batch.unused_field_columns({"image": "busybox"}, batchinputs.from_array("1-3")[0]) == []


def test_a_column_with_the_prefix_sets_an_option_of_its_job() -> None:
    rows = batchinputs.from_csv('job.queue,job.priority,job.after\nnight,3,0f3a\n"",,\n')
    first, second = batch.expand({"image": "busybox", "queue": "q"}, rows)
    assert first.options == {"queue": "night", "priority": 3, "after": ["0f3a"]}
    assert second.options == {"queue": "q"}


# Text that is no template


@pytest.mark.parametrize("text", ["{}", "{sample}", "{#}", "a{/}b", "{{sample}}"])
def test_literal_text_stays_as_it_is(text: str) -> None:
    template = {
        "image": "busybox",
        "command": [batch.Literal(text), "{sample}"],
        "env": {"X": batch.Literal(text), "Y": "{sample}"},
    }
    (job,) = batch.expand(template, batchinputs.from_csv("sample\nS1\n"))
    assert job.kwargs["command"] == [text, "S1"]
    assert job.kwargs["env"] == {"X": text, "Y": "S1"}


@pytest.mark.parametrize("script", ["cp {} {/.} {#}", "awk '{print}' {sample}"])
def test_a_script_is_no_template(script: str) -> None:
    """Braces mean something in most languages, and what differs from job to job is among its arguments."""
    (row,) = batchinputs.from_csv("sample\na b\n")
    (job,) = batch.expand({"image": "busybox", "script": script, "command": ["{sample}"]}, [row])
    assert (job.kwargs["script"], job.kwargs["command"]) == (script, ["a b"])
    assert batch.with_default_input({"image": "busybox", "script": "cat {}"})["inputpath"] == "{}"
    assert batch.unused_field_columns({"script": "{name}"}, batchinputs.from_csv("name\na\n")) == ["name"]


def test_a_literal_document_is_split_into_words_and_filled_nowhere() -> None:
    template = batch.literal({"image": "busybox", "command": "echo {} '{#} x'", "env": ["X={}"], "labels": {"l": "{}"}})
    (job,) = batch.expand(template, batchinputs.from_paths(["/data/a"]))
    assert job.kwargs["command"] == ["echo", "{}", "{#} x"]
    assert (job.kwargs["env"], job.kwargs["labels"]) == ({"X": "{}"}, {"l": "{}"})
    assert batch.with_default_input(template)["inputpath"] == "{}"


def test_a_word_that_is_no_column_is_a_typo() -> None:
    (line,) = refusal({"command": ["{sampel}", "{sampel}", "{sample}"]}, batchinputs.from_csv("sample,lane\nS1,1\n"))
    assert line.startswith("{sampel} is not a column; there are {sample}, {lane}, {#}")


def test_an_object_without_a_key_that_is_used() -> None:
    given_rows = batchinputs.from_jsonl('{"s": 1}\n{"t": 1}\n{"s": null}\n')
    assert refusal({"command": ["{s}"]}, given_rows) == [
        "line 2, column s: is missing, and the job uses {s}",
        "line 3, column s: is missing, and the job uses {s}",
    ]


# Mistakes


def test_all_problems_are_told_with_line_and_column() -> None:
    text = "job.inputpath,job.timeout,out\n/a,5,/o\nb,5,/o\n/c,never,/o\n/d,6,o\n"
    lines = refusal({"outputpath": "{out}"}, batchinputs.from_csv(text))
    assert [line.partition(" must be ")[0] for line in lines] == [
        "line 3, column job.inputpath: 'b'",
        "line 4, column job.timeout: 'never'",
        "line 5, column out: outputpath: 'o'",
    ]


@pytest.mark.parametrize(
    ("count", "last"),
    [(10, "input 10: inputpath:"), (11, "and 1 more like these"), (1500, "and 1,490 more like these")],
)
def test_ten_problems_are_enough(count: int, last: str) -> None:
    lines = refusal({"inputpath": "{}"}, batchinputs.from_paths(["relative"] * count))
    assert len(lines) == min(count, 11)
    assert lines[-1].startswith(last)


@pytest.mark.parametrize(
    ("template", "given_rows", "words"),
    [
        ({"inputpath": "x"}, batchinputs.from_array("4")[0], "array number 4: inputpath: 'x' must be an absolute path"),
        ({"inputpath": "{}"}, batchinputs.from_path_list("\nx\n"), "line 2: inputpath: 'x' must be an absolute path"),
        ({"imgae": "x"}, batchinputs.from_array("4")[0], "array number 4: 'imgae' is not an argument"),
        ({"command": "echo 'a"}, batchinputs.from_array("1-9")[0], 'command: "echo \'a" cannot be split into words'),
    ],
)
def test_one_problem_is_one_line(template: dict[str, Any], given_rows: list[Row], words: str) -> None:
    (line,) = refusal(template, given_rows)
    assert line.startswith(words)


def test_what_is_wrong_with_a_batch_is_wrong_with_a_spec() -> None:
    assert issubclass(errors.BatchError, errors.SpecError)


# Environment and done markers


@pytest.mark.parametrize("env", [{}, None, {"A": "1"}, {"A": "1", "CELERY_DOCKER_BATCH_ID": "mine"}])
def test_the_place_in_the_batch_is_in_the_environment(env: dict[str, str] | None) -> None:
    kwargs = {"image": "busybox", "env": env}
    placed = batch.with_batch_env(kwargs, "b1", 3, 20)
    assert placed["env"] == {
        **(env or {}),
        "CELERY_DOCKER_BATCH_ID": "b1",
        "CELERY_DOCKER_BATCH_INDEX": "3",
        "CELERY_DOCKER_BATCH_SIZE": "20",
    }
    assert kwargs["env"] == env


def test_a_hash_is_stable() -> None:
    """Markers lie in users' folders for years: another hash would run everything again."""
    assert batch.spec_hash({"image": "busybox", "command": ["wc", "é"]}) == "d1a2bedfc52e3626"


@pytest.mark.parametrize(
    "same",
    [
        {"command": ["wc"], "image": "busybox"},
        {"image": "busybox", "command": ("wc",)},
        {"image": "busybox", "command": ["wc"], "user": None},
        {"image": "busybox", "command": ["wc"], "env": {}},
        batch.with_batch_env({"image": "busybox", "command": ["wc"]}, "b", 1, 2),
    ],
)
def test_the_same_job_has_the_same_hash(same: dict[str, Any]) -> None:
    assert batch.spec_hash(same) == batch.spec_hash({"image": "busybox", "command": ["wc"]})


@pytest.mark.parametrize(
    "template",
    [
        {"image": "busybox", "command": ["wc", ""]},
        {"image": "busybox", "command": ["w", "c"]},
        {"image": "busybox"},
        {"image": "busybox", "command": ["wc"], "timeout": 1},
        {"image": "busybox", "command": ["wc"], "env": {"A": "1"}},
    ],
)
def test_another_job_has_another_hash(template: dict[str, Any]) -> None:
    assert batch.spec_hash(template) != batch.spec_hash({"image": "busybox", "command": ["wc"]})


def test_jobs_of_an_array_are_told_apart_by_their_number() -> None:
    """Such a job may read its number from its environment only."""
    markers = [job.marker for job in batch.expand({"image": "busybox"}, batchinputs.from_array("1-3")[0])]
    assert len(set(markers)) == 3
    assert markers[1:] == [job.marker for job in batch.expand({"image": "busybox"}, batchinputs.from_array("2,3")[0])]


def test_a_path_keeps_its_marker_when_its_position_changes() -> None:
    template = {"image": "busybox", "inputpath": "{}"}
    _, second = batch.expand(template, batchinputs.from_paths(["/a", "/b"]))
    (alone,) = batch.expand(template, batchinputs.from_paths(["/b"]))
    assert second.marker == alone.marker == batch.marker_of({"image": "busybox", "inputpath": "/b"})
    assert second.marker.startswith(".celery-docker-done-")


def test_a_number_may_come_from_a_placeholder() -> None:
    text = 't,codes,cores,rank\n90,"1,2",0.5,3\n2h,7,2,0\n'
    template = {"image": "busybox", "timeout": "{t}", "retry_on": "{codes}", "cpus": "{cores}", "priority": "{rank}"}
    jobs = batch.expand(template, batchinputs.from_csv(text))
    assert [(job.kwargs["timeout"], job.kwargs["retry_on"], job.kwargs["cpus"]) for job in jobs] == [
        (90, [1, 2], 0.5),
        (7200, [7], 2.0),
    ]
    assert [job.options["priority"] for job in jobs] == [3, 0]


def test_what_is_no_number_is_refused_with_line_and_column() -> None:
    assert refusal({"timeout": "{t}", "retries": "{n}"}, batchinputs.from_csv("t,n\nsoon,1\n9,x\n")) == [
        "line 2, column t: timeout: 'soon' must be seconds, or a number with s, m, h or d, like '90' or '2h'",
        "line 3, column n: retries: 'x' must be a whole number from 0 to 1000",
    ]


def test_a_template_is_known_by_its_job_and_not_by_its_place_in_the_queue() -> None:
    template = {"image": "busybox", "command": ["wc", "{}"], "env": ["A={}"]}
    template_id = batch.template_id(template, batchinputs.Source.PATHS)
    assert batch.template_id({**template, "priority": 3}, batchinputs.Source.PATHS) == template_id
    assert batch.template_id({**template, "memory": "1g"}, batchinputs.Source.PATHS) != template_id
    assert batch.template_id(template, batchinputs.Source.ARRAY) != template_id
