"""What a run says first."""

from __future__ import annotations

from postgres import find_programs


def pytest_report_header():
    """Name the database."""
    programs = find_programs()
    if programs is None:
        return "database: SQLite; for PostgreSQL, apt-get install postgresql"
    return f"database: PostgreSQL, {programs}"
