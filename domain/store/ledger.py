"""The ledger: a file of what no restore of the database may undo, such as revocations. docs/backup.md says how it is used.

The first line is a header, each further line a record: a text in base64 of JSON encrypted with AES-GCM by a key made from
MARKONCE_SECRET. A record belongs to its line and its file, so that none can be taken out, exchanged or moved without
being noticed. Processes that append take turns by a lock (flock) and write a record with one write, followed by fsync.
"""

import base64
import errno
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.declare.errors import DatabaseError
from domain.support.keys import make_cipher

SUFFIX = ".ledger"
_MAGIC = b"markonce-ledger-1 "
_PURPOSE = "markonce ledger"
_NONCE_BYTES = 12
_LOCK_SECONDS = 5.0
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


@dataclass(frozen=True)
class Entry:
    """What one transaction did. `at` is by the database's clock, and orders the entries of several servers."""

    id: UUID
    at: datetime
    kind: str
    facts: Mapping[str, Any]


class NotTakenBackError(OSError):
    """A record did not reach the disk for certain and could not be taken back: it may be read at the next start, or not."""


class Ledger:
    """The file of this server, to which it alone appends, with the operator's commands on the same machine."""

    def __init__(self, path: Path, secret: bytes, *others: bytes) -> None:
        """`secret` writes a file that is new. A file that another of the secrets wrote goes on with that, until `reseal`."""
        self.path = path
        self._ciphers = [make_cipher(each, _PURPOSE) for each in (secret, *others)]

    def prepare(self) -> bool:
        """Makes the file unless it is there, and makes sure that it can be appended to. Returns whether a record that was cut off
        while it was written has been removed. Raises DatabaseError."""
        if self.path.suffix != SUFFIX or not self.path.stem:
            raise DatabaseError(f"MARKONCE_LEDGER is a file whose name ends with {SUFFIX}.")
        if not self.path.is_absolute():  # a command in another folder would write into another file, which no restore reads
            raise DatabaseError("MARKONCE_LEDGER is the whole path of a file, such as /var/lib/markonce-ledger/server-1.ledger.")
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.close(descriptor)
            with self._lock() as file:
                size = os.fstat(file).st_size
                self._repair(file)
                is_torn = os.fstat(file).st_size < size
                os.fsync(file)
            _flush_folder(self.path)
        except OSError as problem:
            advice = " Its folder must be there, and be one that this user may write." if problem.errno in _NO_FOLDER else ""
            raise DatabaseError(f"The ledger {self.path} cannot be written: {problem.strerror or problem}.{advice}") from problem
        return is_torn

    def append(self, entries: Sequence[Entry]) -> None:
        """Appends the entries of one transaction, and returns when they are on disk. Blocks.

        Raises OSError, and DatabaseError where the file is no longer a ledger of this secret; nothing of it then stays in the file,
        unless it is NotTakenBackError.
        """
        self._write({"entries": [[str(entry.id), entry.at.isoformat(), entry.kind, entry.facts] for entry in entries]})

    def give_up(self, ids: Collection[UUID]) -> None:
        """Appends that the transactions of these entries were rolled back. Blocks. Raises as `append` does."""
        self._write({"givenUp": [str(id_) for id_ in ids]})

    def _write(self, record: Mapping[str, Any]) -> None:
        with self._lock() as file:
            cipher, header, lines = self._repair(file)
            size = os.fstat(file).st_size
            try:
                data = _seal(cipher, record, header, lines) + b"\n"
                if os.write(file, data) != len(data):
                    raise OSError(0, "no space left")
                os.fsync(file)
            except OSError as problem:
                try:
                    os.ftruncate(file, size)
                except OSError:
                    raise NotTakenBackError(problem.errno, problem.strerror) from problem
                with suppress(OSError):
                    os.fsync(file)
                raise

    @contextmanager
    def _lock(self) -> Iterator[int]:
        """Yields the descriptor of the file, which is there, for this process alone."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(file).st_ino == os.stat(self.path).st_ino:
                        break
                    replaced = file  # another process has put a resealed one in its place
                    file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
                    os.close(replaced)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise OSError(0, "another process has locked it for long") from None
                    time.sleep(0.005)
            yield file
        finally:
            os.close(file)

    def reseal(self) -> bool:
        """Writes the file anew with the first of the secrets, where another one wrote it; returns whether it did. The file is whole at every
        moment, and one that is broken stays as it is. Raises DatabaseError and OSError."""
        with self._lock() as file:
            cipher, header, _ = self._repair(file)
            if cipher is self._ciphers[0]:
                return False
            _, *lines = os.pread(file, os.fstat(file).st_size, 0).split(b"\n")[:-1]
            new = _MAGIC + _seal(self._ciphers[0], {"ledger": header}, "", 0) + b"\n"
            for n, line in enumerate(lines, 1):
                if (record := _open(cipher, line, header, n)) is None:
                    raise DatabaseError(f"The ledger {self.path} is broken in line {n + 1}. Bring the file back from a copy.")
                new += _seal(self._ciphers[0], record, header, n) + b"\n"
            fresh = self.path.with_name(f"{self.path.name}.new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as written:
                written.write(new)
                written.flush()
                os.fsync(descriptor)
            fresh.replace(self.path)
            _flush_folder(self.path)
        return True

    def _repair(self, file: int) -> tuple[AESGCM, str, int]:
        """Cuts off a torn last record and writes the header where there is none. Returns the file's cipher, its id and its number of lines."""
        content = os.pread(file, os.fstat(file).st_size, 0)
        whole = _cut_torn_end(content)
        if len(whole) < len(content):
            os.ftruncate(file, len(whole))
        if not whole:
            ledger_id = str(uuid4())
            whole = _MAGIC + _seal(self._ciphers[0], {"ledger": ledger_id}, "", 0) + b"\n"
            if os.write(file, whole) != len(whole):
                raise OSError(0, "no space left")
        return *_open_header(self._ciphers, whole.partition(b"\n")[0], self.path), whole.count(b"\n")


def _flush_folder(path: Path) -> None:
    """Puts on disk which file the folder has by this name."""
    folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_ledgers(path: Path, *secrets: bytes) -> dict[Path, list[Entry]]:
    """Returns the entries of every ledger in the folder of this one, without those whose transactions were given up. Each server
    has its own. Changes nothing, and leaves out a last record that was cut off.

    Raises DatabaseError, which names the file and the line, where a record is broken or none of the secrets is that of the file.
    """
    try:
        return {file: _read(file, secrets) for file in sorted(path.absolute().parent.glob(f"*{SUFFIX}"))}
    except OSError as problem:
        raise DatabaseError(f"The ledger {problem.filename} cannot be read: {problem.strerror}.") from problem


def _read(path: Path, secrets: Sequence[bytes]) -> list[Entry]:
    ciphers = [make_cipher(secret, _PURPOSE) for secret in secrets]
    whole = _cut_torn_end(path.read_bytes())
    if not whole:
        return []
    header, *lines = whole.split(b"\n")[:-1]
    cipher, ledger_id = _open_header(ciphers, header, path)
    entries, given_up = list[Entry](), set[UUID]()
    for n, line in enumerate(lines, 1):
        record = _open(cipher, line, ledger_id, n)
        if record is None:
            raise DatabaseError(
                f"The ledger {path} is broken in line {n + 1}: that record was changed, or others were taken out before it."
                " Bring the file back from a copy."
            )
        given_up |= {UUID(text) for text in record.get("givenUp", ())}
        entries += [Entry(UUID(id_), datetime.fromisoformat(at), kind, facts) for id_, at, kind, facts in record.get("entries", ())]
    return [entry for entry in entries if entry.id not in given_up]


def _cut_torn_end(content: bytes) -> bytes:
    """Returns the content without a last record that was never on disk as a whole, so that nobody was told of it.

    A crash of the machine may leave the length of a record with zeros in place of its bytes.
    """
    whole = content[: content.rfind(b"\n") + 1]
    last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
    return whole[: -len(last)] if b"\0" in last else whole


def _seal(cipher: AESGCM, record: Mapping[str, Any], ledger_id: str, line: int) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return base64.b64encode(nonce + cipher.encrypt(nonce, json.dumps(record).encode(), f"{ledger_id} {line}".encode()))


def _open(cipher: AESGCM, line: bytes, ledger_id: str, n: int) -> dict[str, Any] | None:
    """Returns the record of a line, None where it is not the one that was written there."""
    try:
        sealed = base64.b64decode(line, validate=True)
        record: dict[str, Any] = json.loads(
            cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], f"{ledger_id} {n}".encode())
        )
    except (InvalidTag, ValueError):
        return None
    return record


def _open_header(ciphers: Sequence[AESGCM], header: bytes, path: Path) -> tuple[AESGCM, str]:
    """Returns the cipher of a ledger and its id. Raises DatabaseError where its secret is another one."""
    if not header.startswith(_MAGIC):
        raise DatabaseError(f"{path} is no ledger of this program.")
    for cipher in ciphers:
        if (record := _open(cipher, header.removeprefix(_MAGIC), "", 0)) is not None:
            return cipher, str(record["ledger"])
    raise DatabaseError(f"MARKONCE_SECRET is not the one that the ledger {path} was written with, or its first line is broken.")
