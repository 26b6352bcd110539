"""What counts as a failure of a case of the Autobahn|Testsuite, and how it is told."""

import json

import pytest

from tests.conformance.autobahn.report import Verdict, counts, read_verdicts, write_page


@pytest.mark.parametrize(
    ("behavior", "closing", "worst", "failed"),
    [
        ("OK", "OK", "OK", False),
        ("NON-STRICT", "OK", "NON-STRICT", False),
        ("INFORMATIONAL", "INFORMATIONAL", "INFORMATIONAL", False),
        ("OK", "WRONG CODE", "WRONG CODE", True),
        ("FAILED", "OK", "FAILED", True),
        ("NON-STRICT", "UNCLEAN", "UNCLEAN", True),
        ("UNIMPLEMENTED", "OK", "UNIMPLEMENTED", True),
    ],
)
def test_the_worse_of_two_verdicts_counts(behavior, closing, worst, failed):
    """A case is passed if neither what was sent nor how it ended is a failure."""
    verdict = Verdict("1.1.1", behavior, closing, "")

    assert (verdict.worst, verdict.failed) == (worst, failed)


def test_the_page_has_every_failure_with_what_the_server_says(tmp_path):
    """A failure has a column of its own, and a line with the server's words; the order is that of the numbers."""
    cases = {"10.1.1": ("OK", "OK"), "2.10": ("FAILED", "OK"), "2.9": ("OK", "OK")}
    index = {case: {"behavior": a, "behaviorClose": b, "reportfile": f"{case}.json"} for case, (a, b) in cases.items()}
    (tmp_path / "index.json").write_text(json.dumps({"rig": index}))
    for case in cases:
        found = {"result": "It broke.", "resultClose": "It closed.", "expectation": "<b>Any</b>"}
        (tmp_path / f"{case}.json").write_text(json.dumps(found))

    verdicts = read_verdicts(tmp_path, "rig")
    write_page(tmp_path / "page.md", verdicts, testsuite="1.0", seconds=1.0)

    assert [verdict.case for verdict in verdicts] == ["2.9", "2.10", "10.1.1"]
    assert counts(verdicts)["2"] == {"OK": 1, "FAILED": 1}
    page = (tmp_path / "page.md").read_text()
    assert "| 2 Pings and pongs | 1 | 0 | 0 | 1 |" in page
    assert "| 2.10 | FAILED | OK | It broke. It closed. |" in page
    assert "| 2.9 |" not in page
