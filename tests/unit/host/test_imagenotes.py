"""The memory of a host's images: over restarts, between workers, and after damage."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from celery_docker.core.hostimages import ImageNote
from celery_docker.host.imagenotes import ImageNotes


def kept(notes: ImageNotes, *image_ids: str) -> dict[str, ImageNote]:
    with notes.turn(image_ids, 1000.0) as known:
        return dict(known)


def test_notes_outlive_the_process(tmp_path: Path) -> None:
    notes = ImageNotes(tmp_path)
    notes.note_pull("a", "tool:1", 5.0)
    notes.note_use("b", 7.0)
    assert kept(notes, "a", "b", "c") == {"a": ImageNote(5.0, ("tool:1",)), "b": ImageNote(7.0)}
    assert kept(ImageNotes(tmp_path), "a", "b") == kept(notes, "a", "b")


def test_a_pull_is_on_disk_at_once_and_a_use_when_it_is_saved(tmp_path: Path) -> None:
    """Whatever kills the worker then; a use is lost that no turn and no stop has saved."""
    notes = ImageNotes(tmp_path)
    notes.note_pull("a", "tool:1", 5.0)
    notes.note_use("a", 7.0)
    assert kept(ImageNotes(tmp_path), "a") == {"a": ImageNote(5.0, ("tool:1",))}
    notes.save()
    assert kept(ImageNotes(tmp_path), "a") == {"a": ImageNote(7.0, ("tool:1",))}


def test_an_image_that_comes_after_the_list_was_made_is_kept_in_mind(tmp_path: Path) -> None:
    notes = ImageNotes(tmp_path)
    notes.note_pull("a", "tool:1", 1001.0)
    assert kept(notes) == {"a": ImageNote(1001.0, ("tool:1",))}


def test_a_pull_waits_for_no_turn(tmp_path: Path) -> None:
    notes = ImageNotes(tmp_path)
    with notes.turn([], 1000.0):
        ImageNotes(tmp_path).note_pull("a", "tool:1", 5.0)
    assert kept(notes, "a")["a"].pulled == ("tool:1",)


def test_a_later_use_counts_and_names_are_gathered(tmp_path: Path) -> None:
    notes = ImageNotes(tmp_path)
    notes.note_pull("a", "tool:1", 5.0)
    kept(notes, "a")
    notes.note_use("a", 9.0)
    notes.note_use("a", 8.0)
    notes.note_pull("a", "tool:2", 3.0)
    assert kept(notes, "a") == {"a": ImageNote(9.0, ("tool:1", "tool:2"))}


def test_an_image_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """If somebody else brings it back, it is his."""
    notes = ImageNotes(tmp_path)
    notes.note_pull("a", "tool:1", 5.0)
    assert kept(notes) == {}
    assert kept(notes, "a") == {}


def test_two_workers_of_a_host_share_them(tmp_path: Path) -> None:
    first, second = ImageNotes(tmp_path), ImageNotes(tmp_path)
    first.note_pull("a", "tool:1", 5.0)
    kept(first, "a")
    second.note_use("a", 9.0)
    kept(second, "a")
    assert kept(first, "a") == {"a": ImageNote(9.0, ("tool:1",))}


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    first, second = ImageNotes(tmp_path), ImageNotes(tmp_path)
    came = threading.Event()

    def wait() -> None:
        with second.turn([], 1000.0):
            came.set()

    with first.turn([], 1000.0):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not came.wait(0.2)
    assert came.wait(10)
    thread.join()


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"x", b"[]", b'{"a": {"used_s": 5, "pulled": ["tool:1"]}', b"\xff\x00", b"[" * 100_000),
        *(b'{"a": 5}', b'{"a": {"pulled": "tool:1"}}', b'{"a": {"pulled": [5], "used_s": "x"}}'),
        b'{"a": {"used_s": 1, "pulled": ["tool:1"]}, "a": {"used_s": 1, "pulled": ["x"]}}',
        b" " * (5 * 2**20),
    ],
    ids=range(11),
)
def test_damage_makes_no_image_this_packages(tmp_path: Path, text: bytes) -> None:
    """They are kept for good, and what comes then is remembered again."""
    (tmp_path / "images.json").write_bytes(text)
    notes = ImageNotes(tmp_path)
    assert kept(notes, "a").get("a", ImageNote()).pulled == ()
    notes.note_pull("b", "tool:2", 5.0)
    assert kept(notes, "a", "b")["b"].pulled == ("tool:2",)
    assert kept(ImageNotes(tmp_path), "b")["b"].pulled == ("tool:2",)


def test_a_disk_that_is_full_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = ImageNotes(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        notes.note_pull("a", "tool:1", 5.0)
        with pytest.raises(OSError, match="No space"):
            kept(notes, "a")
    assert kept(notes, "a")["a"].pulled == ("tool:1",)
