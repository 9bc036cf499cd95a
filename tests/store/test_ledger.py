"""The ledger's file: what was acknowledged is read again; what is torn, broken or of another secret is told apart."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.declare.errors import DatabaseError
from domain.store.ledger import Entry, Ledger, NotTakenBackError, read_ledgers
from tests.fixtures.settings import SECRET

KEY = SECRET.encode()


def make(folder: Path, name: str = "one.ledger") -> Ledger:
    ledger = Ledger(folder / name, KEY)
    ledger.prepare()
    return ledger


def entry(n: int) -> Entry:
    return Entry(uuid4(), datetime(2026, 11, 27, 12, n, tzinfo=UTC), "upns", {"n": n, "name": "Zoë"})


def read(ledger: Ledger) -> list[Entry]:
    return read_ledgers(ledger.path, KEY)[ledger.path]


def test_what_is_appended_is_read_from_every_ledger_of_the_folder(tmp_path: Path) -> None:
    """Without what was given up; the file says nothing in clear text, and only its owner may read it."""
    one, two = make(tmp_path), make(tmp_path, "two.ledger")
    entries = [entry(n) for n in range(4)]
    one.append(entries[:2])
    two.append(entries[2:3])
    one.append(entries[3:])
    one.give_up([entries[0].id])
    assert one.prepare() is False
    found = read_ledgers(one.path, KEY)
    assert found == {one.path: [entries[1], entries[3]], two.path: [entries[2]]}
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
    assert not any(word in one.path.read_bytes() for word in (b"upns", b"name", str(entries[0].id).encode()))


def test_those_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    """The lock is one of the open file, so that threads stand for processes here."""
    ledger = make(tmp_path)
    entries = [entry(n) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: Ledger(ledger.path, KEY).append([each]), entries))
    assert sorted(read(ledger), key=lambda each: each.at) == entries


@pytest.mark.parametrize(
    "torn",
    [lambda last: last[:-1], lambda last: last[:9], lambda last: bytes(len(last)), lambda last: last[:9] + bytes(20) + b"\n"],
)
def test_a_record_that_was_cut_off_is_left_out_and_removed(tmp_path: Path, torn: object) -> None:
    """By a kill or by a crash of the machine, which may leave zeros. The next record comes after the whole ones."""
    ledger = make(tmp_path)
    first, second, third = entry(1), entry(2), entry(3)
    ledger.append([first])
    whole = ledger.path.read_bytes()
    ledger.append([second])
    assert callable(torn)
    ledger.path.write_bytes(whole + torn(ledger.path.read_bytes()[len(whole) :]))
    assert read(ledger) == [first]
    assert (ledger.prepare(), ledger.path.read_bytes()) == (True, whole)
    ledger.append([third])
    assert read(ledger) == [first, third]


def test_a_broken_record_is_an_error_with_its_line(tmp_path: Path) -> None:
    """A changed one, one that was taken out, two that were exchanged, one of another ledger, and a changed last one."""
    ledger, other = make(tmp_path), make(tmp_path / "..", f"{tmp_path.name}-other.ledger")
    for n in range(3):
        ledger.append([entry(n)])
        other.append([entry(n)])
    lines, of_other = ledger.path.read_bytes().splitlines(keepends=True), other.path.read_bytes().splitlines(keepends=True)
    other.path.unlink()
    changed = lines[2][:20] + (b"A" if lines[2][20:21] != b"A" else b"B") + lines[2][21:]
    for content, line in (
        ([*lines[:2], changed, lines[3]], 3),
        ([lines[0], *lines[2:]], 2),
        ([lines[0], lines[2], lines[1], lines[3]], 2),
        ([*lines[:3], of_other[3]], 4),
        ([*lines[:3], lines[3][:-9] + b"\n"], 4),
    ):
        ledger.path.write_bytes(b"".join(content))
        with pytest.raises(DatabaseError, match=rf"one\.ledger is broken in line {line}:"):
            read(ledger)


def test_another_secret_another_file_and_a_missing_one_are_errors(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.append([entry(1)])
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET is not the one that the ledger"):
        read_ledgers(ledger.path, KEY[::-1])
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET is not the one"):
        Ledger(ledger.path, KEY[::-1]).append([entry(2)])
    assert len(read(ledger)) == 1
    (tmp_path / "two.ledger").write_text("my notes\n")
    with pytest.raises(DatabaseError, match=r"two\.ledger is no ledger"):
        read(ledger)
    with pytest.raises(DatabaseError, match=r"name ends with \.ledger"):
        Ledger(tmp_path / "notes.txt", KEY).prepare()
    with pytest.raises(DatabaseError, match="the whole path of a file"):
        Ledger(Path("here.ledger"), KEY).prepare()
    assert not Path("here.ledger").exists()
    ledger.path.unlink()
    with pytest.raises(OSError, match="No such file"):  # a disk that is no longer mounted must not become a new, empty ledger
        ledger.append([entry(3)])
    assert not ledger.path.exists()


def test_a_record_that_does_not_reach_the_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make(tmp_path)
    ledger.append([entry(1)])
    before = ledger.path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            ledger.append([entry(2)])
        assert ledger.path.read_bytes() == before
        patched.setattr(os, "ftruncate", lambda descriptor, size: fail(descriptor))
        with pytest.raises(NotTakenBackError):
            ledger.append([entry(2)])
    assert len(read(ledger)) == 2
    ledger.give_up([UUID(int=0)])
