"""docs/protocol.md says which test shows each behaviour: those tests must exist, and no behaviour stands there unproved."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^`]*\])?`")
RECORDING = re.compile(r"\b(golden|js) ((?:`\w+`(?: \([^)]*\))?(?:, )?)+)")
OTHER_PROOF = re.compile(r"Autobahn [\d,]|`tests/[\w/]+\.py`|\brace\b|browsers only")


def named_tests() -> dict[str, set[str]]:
    """Return file → names of tests."""
    found: dict[str, set[str]] = {}
    for path, name in TEST.findall(PAGE):
        found.setdefault(path, set()).add(name)
    return found


def named_recordings() -> set[tuple[str, str]]:
    """Return the recordings that rows name, each with `golden` or `js`."""
    return {(kind, name) for kind, names in RECORDING.findall(PAGE) for name in re.findall(r"`(\w+)`", names)}


@cache
def names_in(path: str) -> frozenset[str]:
    """Return what a test file defines: functions and classes, however deep, and what is assigned at its top."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    assigned = {
        target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)
    }
    return frozenset(defined | assigned)


@pytest.mark.parametrize("path", sorted(named_tests()))
def test_every_test_that_the_page_names_exists(path: str) -> None:
    """A row whose test was renamed or removed proves nothing."""
    assert named_tests()[path] <= names_in(path)


def test_every_recording_that_the_page_names_exists() -> None:
    """Of at least one version of Phoenix."""
    names = [path.stem for path in (ROOT / "tests" / "golden").glob("*.json")]
    missing = {
        (kind, name)
        for kind, name in named_recordings()
        if not any(
            re.fullmatch(rf"(js-)?phx1\.\d(-v\d)?-{name}", stem) and stem.startswith("js-") is (kind == "js") for stem in names
        )
    }
    assert not missing


def test_no_behaviour_stands_there_unproved() -> None:
    """Each row of a table names a test, a recording, or a case of the Autobahn|Testsuite."""
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    heads = {i - 1 for i, row in enumerate(rows) if set(row) <= set("|- ")}
    unproved = [
        row
        for i, row in enumerate(rows)
        if i not in heads
        and not set(row) <= set("|- ")
        and not row.startswith("| **")
        and not (TEST.search(row) or RECORDING.search(row) or OTHER_PROOF.search(row))
    ]
    assert not unproved


def test_the_page_is_about_both_sides() -> None:
    """Hundreds of behaviours of the client, and all of the server's."""
    assert sum(map(len, named_tests().values())) > 300
    assert len(named_recordings()) > 40
