"""The command `key`: fingerprints and never a key, the steps of a change, and the way to another host."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from celery_docker.cli import main
from celery_docker.core import signingkeys
from celery_docker.core.signingkeys import Keys, key_id
from celery_docker.host import secretfile
from celery_docker.host.keyfile import KeyFile

Output = pytest.CaptureFixture[str]
A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFile:
    """The file of whoever runs the tests, who may be no root."""
    monkeypatch.setattr(secretfile, "OWNER", os.getuid())
    monkeypatch.setattr(secretfile, "group", os.getgid)
    return KeyFile(str(tmp_path / "key"))


def call(file: KeyFile, *words: str) -> int:
    return main.main(["key", *words], {"CELERY_DOCKER_KEY": file.path})


def keys_of(file: KeyFile) -> Keys:
    return signingkeys.parse(Path(file.path).read_bytes())


def given(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))


def test_a_first_key(file: KeyFile, capsys: Output) -> None:
    assert call(file) == 125
    assert "there is no" in capsys.readouterr().err
    assert call(file, "new") == 0
    assert call(file) == 0
    assert key_id(keys_of(file).signing) in capsys.readouterr().out


def test_no_key_is_shown(file: KeyFile, capsys: Output) -> None:
    file.write(Keys(A, old=B))
    for words in ((), ("show",), ("--json",), ("drop-old",), ("new",)):
        call(file, *words)
    out, err = capsys.readouterr()
    assert not any(key.hex()[:16] in out + err for key in (A, B, *keys_of(file).valid))
    assert key_id(A) in out


def test_json(file: KeyFile, capsys: Output) -> None:
    file.write(Keys(A, coming=B))
    assert call(file, "--json") == 0
    rows = [{"key": key_id(A), "use": "signs"}, {"key": key_id(B), "use": "next"}]
    assert json.loads(capsys.readouterr().out) == {"file": file.path, "keys": rows, "problems": []}


def test_an_open_file_is_a_problem(file: KeyFile, capsys: Output) -> None:
    file.write(Keys(A))
    Path(file.path).chmod(0o644)
    assert call(file) == 1
    assert "key: " in (err := capsys.readouterr().err)
    assert "has mode 0644" in err


def test_a_change_on_one_host(file: KeyFile) -> None:
    file.write(Keys(A))
    assert call(file, "new") == 0
    assert keys_of(file).old == A
    assert call(file, "drop-old") == 0
    assert keys_of(file).valid != (A,)
    assert len(keys_of(file).valid) == 1


def test_a_change_on_several_hosts(file: KeyFile) -> None:
    file.write(Keys(A))
    assert call(file, "prepare") == 0
    assert keys_of(file).signing == A
    assert call(file, "use") == 0
    assert keys_of(file).old == A


@pytest.mark.parametrize("words", [("drop-old",), ("use",), ("nonsense",)])
def test_a_step_out_of_turn_changes_nothing(file: KeyFile, words: tuple[str, ...], capsys: Output) -> None:
    file.write(Keys(A))
    assert call(file, *words) == 2
    assert keys_of(file) == Keys(A)
    assert capsys.readouterr().err.startswith("celery-docker: key")


def test_the_way_to_another_host(
    file: KeyFile, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write(Keys(A, old=B))
    assert call(file, "export") == 0
    other = KeyFile(str(tmp_path / "other"))
    given(monkeypatch, capsysbinary.readouterr().out)
    assert call(other, "import") == 0
    assert keys_of(other) == Keys(A, old=B)


def test_an_import_that_drops_a_key_is_asked_for(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    file.write(Keys(C))
    given(monkeypatch, Keys(A).text().encode())
    assert call(file, "import") == 2
    assert keys_of(file) == Keys(C)
    assert key_id(C) in capsys.readouterr().err
    given(monkeypatch, Keys(A).text().encode())
    assert call(file, "import", "--yes") == 0
    assert keys_of(file) == Keys(A)


@pytest.mark.parametrize("text", [b"", b"signs 12\n", Keys(A).text().encode()[:-5], b"\xff\0"])
def test_an_import_of_nonsense_changes_nothing(
    file: KeyFile, text: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    file.write(Keys(C))
    given(monkeypatch, text)
    assert call(file, "import", "--yes") == 2
    assert keys_of(file) == Keys(C)
    assert capsys.readouterr().err.startswith("celery-docker: key import: the standard input ")


def test_an_import_mends_a_damaged_file(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(file.path).write_text("signs 12")
    given(monkeypatch, Keys(A).text().encode())
    assert call(file, "import", "--yes") == 0
    assert keys_of(file) == Keys(A)


def test_a_key_goes_to_no_terminal(file: KeyFile, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    file.write(Keys(A))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert call(file, "export") == 2
    assert A.hex() not in capsys.readouterr().out
