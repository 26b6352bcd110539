"""The table in THREADS.md: each thread has tests that exist, and each test here says whose trouble it is about."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TABLE = (HERE / "THREADS.md").read_text()
OWN = "tests/regressions/"

_ROW = re.compile(r"^\| (?P<threads>[^|]+) \| [^|]+ \| (?P<tests>[^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<name>test_\w+)`")
_THREAD = re.compile(r"(?:[\w.-]+/)?(?P<repository>[\w.-]+)?#(?P<number>\d+)")


class Row(NamedTuple):
    """One line of the table."""

    threads: str
    tests: list[tuple[str, str]]


ROWS = [
    Row(row["threads"], [(test["file"], test["name"]) for test in _TEST.finditer(row["tests"])])
    for row in _ROW.finditer(TABLE)
    if row["threads"] not in ("thread", "---")
]


def threads_in(text: str) -> set[str]:
    """Return the threads that a text names, as `repository#number`; a number alone is of the repository before it."""
    found, repository = set(), ""
    for thread in _THREAD.finditer(text):
        repository = thread["repository"] or repository
        found.add(f"{repository}#{thread['number']}")
    return found or {text.strip()}


@cache
def documented(file: str) -> dict[str, str]:
    """Return the docstrings of the tests in a file, by name."""
    functions = [node for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_docstring(node) or "" for node in functions if node.name.startswith("test_")}


def own_tests() -> list[tuple[str, str]]:
    """Return (file, name) of all tests here but those of this file."""
    files = [f"{OWN}{path.name}" for path in sorted(HERE.glob("test_*.py")) if path.name != Path(__file__).name]
    return [(file, name) for file in files for name in documented(file)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.threads)
def test_each_thread_has_tests_that_exist(row: Row) -> None:
    """And whoever reads one of them here finds the thread in what it says of itself."""
    assert row.tests, "no test is named"
    for file, name in row.tests:
        assert name in documented(file), f"{file} has no {name}"
        if file.startswith(OWN):
            said = documented(file)[name]
            missing = {thread for thread in threads_in(row.threads) if thread not in threads_in(said) and thread not in said}
            assert not missing, f"{name} does not name {missing}"


@pytest.mark.parametrize(("file", "name"), own_tests())
def test_each_test_here_is_in_the_table(file: str, name: str) -> None:
    """So that the table says all that is known."""
    assert any((file, name) in row.tests for row in ROWS)


def test_the_table_is_whole() -> None:
    """Each line between the rules is a row that this file has read."""
    lines = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith("| thread ")]
    assert len(lines) == len(ROWS)
