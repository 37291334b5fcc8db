"""SQLite cache of a judge's answers, with the journal of its calls and the money they cost."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.files.atomic import make_folder, refuse_other_than_file
from siftune.curate.judge_calls.types import Answer, Question

__all__ = ["AnswerCache", "Receipt", "key_of"]

_APPLICATION: Final = 0x53464A43  # "SFJC", in the header of our files
_VERSION: Final = 1
_MOST_MONEY: Final = 1 << 62  # of an integer of SQLite
_WAIT: Final = 60.0  # seconds for another process that writes
_TABLES: Final = (
    "CREATE TABLE answers (key BLOB PRIMARY KEY, model TEXT NOT NULL, version TEXT NOT NULL,"
    " attempt INTEGER NOT NULL, answer TEXT NOT NULL, seconds REAL NOT NULL, digest BLOB NOT NULL)",
    "CREATE TABLE runs (run INTEGER PRIMARY KEY, account TEXT NOT NULL, model TEXT NOT NULL,"
    " started TEXT NOT NULL)",
    "CREATE TABLE calls (call INTEGER PRIMARY KEY, run INTEGER NOT NULL, key BLOB NOT NULL,"
    " reserved INTEGER NOT NULL, outcome TEXT, input_tokens INTEGER, output_tokens INTEGER,"
    " cost INTEGER, seconds REAL)",
    "CREATE TABLE money (account TEXT PRIMARY KEY, spent INTEGER NOT NULL,"
    " reserved INTEGER NOT NULL, digest BLOB NOT NULL)",
)


def key_of(identity: str, question: Question, attempt: int) -> bytes:
    """The cache's key (16 bytes) of a question to a model; ``attempt`` counts repeated asking."""
    asked = {name: value for name, value in vars(question).items() if value}
    parts = (identity, asked, attempt)
    return blake2b(_bytes(parts), digest_size=16).digest()


def _bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, which UTF-8 cannot write
        return repr(value).encode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Receipt:
    """One call that ended: ``outcome`` is ``answered`` or the reason of its failure.

    ``cost`` is in billionths of a dollar. ``unsettled``: whether it is billed is not known, so its
    reservation still counts.
    """

    key: bytes
    outcome: str
    answer: Answer | None = None
    version: str = ""
    attempt: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    seconds: float = 0.0
    call: int | None = None
    reserved: int = 0
    unsettled: bool = False


@dataclass
class AnswerCache:
    """Answers by key, calls, and the money spent of each account; ``path`` None keeps no answers.

    Write-ahead log: a committed answer survives the end of the process at any moment, by
    ``kill -9`` too; a crash of the machine itself may lose the last seconds, and leaves the file
    whole. Several processes may use it at once; of two answers with one key the first stays.
    Money of an account is what its calls cost and what is reserved for calls that have not ended,
    those of killed runs included: they may have been billed. With ``read_only`` nothing is written.
    """

    path: Path | None
    account: str
    model: str
    run: int = 0
    read_only: bool = False
    _database: sqlite3.Connection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._database = self._connect()
        try:
            with self._errors():
                self._prepare()
            if not self.read_only:
                with self.transaction():
                    self.run = self._begin_run()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction: all that is written in it is committed at its end, or nothing."""
        with self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def get(self, key: bytes) -> Answer | None:
        """The answer of a key."""
        if self.path is None:
            return None
        with self._errors():
            found = self._database.execute(
                "SELECT answer, digest FROM answers WHERE key = ?", (key,)
            ).fetchone()
        return None if found is None else self._answer(key, *found)

    def reserve(self, key: bytes, amount: int, cap: int | None) -> int | None:
        """The number of a call that may be sent; None where its highest price passes the cap."""
        spent, reserved = self._money()
        if cap is not None and spent + reserved + amount > cap:
            return None
        self._write_money(spent, reserved + amount)
        return self._database.execute(
            "INSERT INTO calls (run, key, reserved) VALUES (?, ?, ?)", (self.run, key, amount)
        ).lastrowid

    def settle(self, receipt: Receipt) -> Answer | None:
        """Record a call that ended, in the transaction; the answer that the cache has for its key.

        It is that of the call, or an earlier one of another process.
        """
        spent, reserved = self._money()
        left = reserved if receipt.unsettled else reserved - receipt.reserved
        self._write_money(min(spent + receipt.cost, _MOST_MONEY), left)
        ended = (
            receipt.outcome,
            receipt.input_tokens,
            receipt.output_tokens,
            min(receipt.cost, _MOST_MONEY),
            receipt.seconds,
        )
        if receipt.call is None:
            self._database.execute(
                "INSERT INTO calls (run, key, reserved, outcome, input_tokens, output_tokens, cost,"
                " seconds) VALUES (?, ?, 0, ?, ?, ?, ?, ?)",
                (self.run, receipt.key, *ended),
            )
        else:
            self._database.execute(
                "UPDATE calls SET outcome = ?, input_tokens = ?, output_tokens = ?, cost = ?,"
                " seconds = ? WHERE call = ?",
                (*ended, receipt.call),
            )
        return self._put(receipt)

    def money(self) -> tuple[int, int]:
        """What the account has spent, and what is reserved, in billionths of a dollar."""
        with self._errors():
            return self._money()

    def dearest(self) -> int:
        """The highest cost of a call of this account and model that was above its reservation."""
        with self._errors():
            found = self._database.execute(
                "SELECT max(cost) FROM calls JOIN runs USING (run) WHERE account = ? AND model = ?"
                " AND cost > reserved AND reserved > 0",
                (self.account, self.model),
            ).fetchone()
        return found[0] or 0

    def journal(self) -> list[dict[str, Any]]:
        """Calls, tokens and money of each run that used this file, by outcome."""
        names = ["run", "account", "model", "started", "outcome", "calls"]
        names += ["input_tokens", "output_tokens", "cost"]
        with self._errors():
            rows = self._database.execute(
                "SELECT run, account, model, started, coalesce(outcome, 'not_ended'), count(*),"
                " coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),"
                " coalesce(sum(cost), 0) FROM calls JOIN runs USING (run)"
                " GROUP BY run, outcome ORDER BY run, outcome"
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _connect(self) -> sqlite3.Connection:
        """A connection for the thread that asks, which need not be this one."""
        name = ":memory:"
        if self.path is not None and self.read_only:
            if self.path.exists():
                refuse_other_than_file(self.path)
            if self.path.exists() and self.path.stat().st_size:  # an empty one has no answers
                name = f"{self.path.absolute().as_uri()}?mode=ro"
        elif self.path is not None:
            refuse_other_than_file(self.path)
            make_folder(self.path.parent)
            with suppress(FileExistsError):  # answers quote the data: for the user's eyes only
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            name = str(self.path.absolute())  # no name is special, such as :memory:
        with self._errors():
            return sqlite3.connect(
                name,
                timeout=_WAIT,
                isolation_level=None,
                check_same_thread=False,
                uri=name.startswith("file:"),
            )

    def _prepare(self) -> None:
        """Refuse a file of another program or version; make the tables of a new one."""
        database = self._database
        # tables first: another process may make both just now
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application = database.execute("PRAGMA application_id").fetchone()[0]
        if application != _APPLICATION and (application or tables):
            raise UsageError(
                f"{self.path} is no cache of judge answers, but a database of another program: "
                "name another file"
            )
        if self.read_only and tables:
            self._check_version()
            return
        with suppress(sqlite3.OperationalError):  # another process sets it just now
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN IMMEDIATE")
        if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for table in _TABLES:
                database.execute(table)
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
        self._check_version()

    def _check_version(self) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise UsageError(
                f"{self.path} is of another version of Siftune (format {version}, expected "
                f"{_VERSION}): name another file"
            )

    def _begin_run(self) -> int:
        made = self._database.execute(
            "INSERT INTO runs (account, model, started) VALUES (?, ?, datetime('now'))",
            (self.account, self.model),
        ).lastrowid
        return made or 0

    def _put(self, receipt: Receipt) -> Answer | None:
        if self.path is None or receipt.answer is None:
            return receipt.answer
        text = _text_of(receipt.answer)
        added = self._database.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                receipt.key,
                self.model,
                receipt.version,
                receipt.attempt,
                text,
                receipt.seconds,
                _digest(receipt.key, text),
            ),
        ).rowcount
        return receipt.answer if added else self.get(receipt.key)

    def _answer(self, key: bytes, text: Any, digest: bytes) -> Answer:
        if not isinstance(text, str) or digest != _digest(key, text):
            raise self._damaged("an answer does not match its checksum")
        found = orjson.loads(text)
        if "probabilities" in found:  # NaN is null in JSON
            shares = found["probabilities"].items()
            found["probabilities"] = {k: math.nan if v is None else v for k, v in shares}
        return Answer(**{"truncated": False, **found})  # what is kept is decided, and False unset

    def _money(self) -> tuple[int, int]:
        found = self._database.execute(
            "SELECT spent, reserved, digest FROM money WHERE account = ?", (self.account,)
        ).fetchone()
        if found is None:
            return 0, 0
        if found[2] != self._money_digest(*found[:2]):
            raise self._damaged("the money spent does not match its checksum")
        return found[0], found[1]

    def _write_money(self, spent: int, reserved: int) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO money VALUES (?, ?, ?, ?)",
            (self.account, spent, reserved, self._money_digest(spent, reserved)),
        )

    def _money_digest(self, spent: int, reserved: int) -> bytes:
        return _digest(self.account.encode(), f"{spent} {reserved}")

    def _damaged(self, problem: str) -> DataError:
        return DataError(
            f"{self.path} is damaged ({problem}): put back a copy of it, or remove it, and its "
            "answers are asked and paid for again"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error_of(error) from None

    def _error_of(self, error: sqlite3.Error) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return SiftuneError(
                f"{self.path} was locked by another process for {_WAIT:.0f} s: wait until it has "
                "ended, and run the same command again"
            )
        if code == sqlite3.SQLITE_IOERR:
            return SiftuneError(
                f"{self.path} cannot be read or written ({error}): look at its disk, and run the "
                "same command again, which resumes"
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return UsageError(f"{self.path} cannot be written ({error}): name another file")
        return self._damaged(str(error))


def _text_of(answer: Answer) -> str:
    """An answer as JSON, without what is not set."""
    unset = (None, False)  # by identity: 0 tokens are known, and equal to False
    fields = {k: v for k, v in vars(answer).items() if not any(v is one for one in unset)}
    if answer.probabilities is not None:
        fields["probabilities"] = {k: float(v) for k, v in answer.probabilities.items()}
    if answer.label_mass is not None:
        fields["label_mass"] = float(answer.label_mass)  # of numpy, too
    try:
        return orjson.dumps(fields).decode()
    except TypeError:  # half a surrogate pair
        clean = (answer.text or "").encode("utf-8", "replace").decode()
        return orjson.dumps(fields | {"text": clean}).decode()


def _digest(key: bytes, text: str) -> bytes:
    return blake2b(text.encode(), key=key[:64], digest_size=8).digest()
