"""Ratings in SQLite: durable before they are acknowledged, one for each rater and trial."""

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from srgan.study.records import Rating

RATINGS_FILE = "ratings.sqlite"

_BUSY_SECONDS = 30.0  # another process may be writing
_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS raters (
  rater TEXT PRIMARY KEY,
  token TEXT NOT NULL UNIQUE,
  plan INTEGER NOT NULL,
  joined REAL NOT NULL,
  display TEXT
);
CREATE TABLE IF NOT EXISTS ratings (
  rater TEXT NOT NULL REFERENCES raters (rater),
  trial INTEGER NOT NULL,
  answer INTEGER NOT NULL,
  milliseconds INTEGER NOT NULL,
  received REAL NOT NULL,
  UNIQUE (rater, trial)
);
"""


class Rater(NamedTuple):
    """A rater whom the server knows.

    Attributes:
        name: The pseudonym.
        plan: The number of the rater's plan.
        has_display: Whether the rater has told of screen and room.
    """

    name: str
    plan: int
    has_display: bool


class RatingStore:
    """The ratings of a study that is served.

    Raises:
        UserError: If the file holds the ratings of another study.
    """

    def __init__(self, study: Path, identity: str, plans: int) -> None:
        self._plans = plans
        self._lock = threading.Lock()  # one connection for all threads
        self._connection = sqlite3.connect(
            study / RATINGS_FILE,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
            isolation_level=None,
        )
        with self._lock:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # a commit waits for the disk
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.executescript(_SCHEMA)
        with self._transaction() as connection:
            if not connection.execute("SELECT id FROM study").fetchone():
                connection.execute("INSERT INTO study VALUES (?)", (identity,))
            _check_study(connection, study, identity)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def join(self) -> tuple[str, Rater]:
        """A new rater and the secret token, of which only the sha256 is stored."""
        token = secrets.token_urlsafe(32)
        with self._transaction() as connection:
            (count,) = connection.execute("SELECT count(*) FROM raters").fetchone()
            rater = Rater(secrets.token_hex(8), count % self._plans, False)
            connection.execute(
                "INSERT INTO raters VALUES (?, ?, ?, ?, NULL)",
                (rater.name, sha256_hex(token.encode()), rater.plan, time.time()),
            )
        return token, rater

    def find(self, token: str) -> Rater | None:
        """The rater of a token, if there is one."""
        with self._lock:
            row = self._connection.execute(
                "SELECT rater, plan, display IS NOT NULL FROM raters WHERE token = ?",
                (sha256_hex(token.encode()),),
            ).fetchone()
        return Rater(row[0], row[1], bool(row[2])) if row else None

    def answered(self, rater: str) -> list[int]:
        """The trials that the rater has answered."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT trial FROM ratings WHERE rater = ? ORDER BY trial", (rater,)
            ).fetchall()
        return [trial for (trial,) in rows]

    def set_display(self, rater: str, display: str) -> None:
        """Keeps what a rater tells of screen and room; the first answer stays."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE raters SET display = ? WHERE rater = ? AND display IS NULL",
                (display, rater),
            )

    def add(self, rating: Rating) -> Literal["stored", "other"]:
        """Stores a rating; on return it is on the disk.

        Returns:
            `stored`, also if the same answer was stored before. `other` if another answer was
            stored before, which stays.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO ratings VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (rating.rater, rating.trial, rating.answer, rating.milliseconds, time.time()),
            )
            (answer,) = connection.execute(
                "SELECT answer FROM ratings WHERE rater = ? AND trial = ?",
                (rating.rater, rating.trial),
            ).fetchone()
        return "stored" if answer == rating.answer else "other"

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def stored_ratings(study: Path, identity: str) -> list[Rating]:
    """The ratings that a server stored; none if the study was never served.

    Raises:
        UserError: If the file is damaged or holds the ratings of another study.
    """
    path = study / RATINGS_FILE
    if not path.exists():
        return []
    query = (
        "SELECT rater, plan, trial, answer, milliseconds FROM ratings JOIN raters USING (rater) "
        "ORDER BY rater, trial"
    )
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            _check_study(connection, study, identity)
            return [Rating(*row) for row in connection.execute(query)]
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: does not read: {error}; put back a copy of it") from error


def _check_study(connection: sqlite3.Connection, study: Path, identity: str) -> None:
    stored = connection.execute("SELECT id FROM study").fetchone()
    if stored != (identity,):
        raise UserError(
            f"{study / RATINGS_FILE}: holds ratings of another study; move it to that study"
        )
