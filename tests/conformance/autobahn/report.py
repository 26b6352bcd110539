"""What the fuzzing server found, as a page for people: `tests/conformance/AUTOBAHN.md`."""

import json
import platform
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

SECTIONS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits and performance",
    "10": "Miscellaneous",
}
"""The sections that are run. 12 and 13 are about compression, which rig does not offer; there are no others."""

VERDICTS = ("OK", "NON-STRICT", "INFORMATIONAL")
"""What is no failure. An informational case has no right answer in RFC 6455: the server only notes what the testee does."""

_WHY = {
    "6.4.3": "A frame is judged when it is whole. The case sends half a frame with the bad octet, and waits for the close at once.",
    "6.4.4": "As 6.4.3.",
}


@dataclass(frozen=True)
class Verdict:
    """
    The verdict on one case.

    Attributes:
        case: Its number, like `7.1.2`.
        behavior: On what was sent.
        closing: On how the connection ended.
        found: The server's own words: what it saw, or what it says of a case without a right answer.
    """

    case: str
    behavior: str
    closing: str
    found: str

    @property
    def section(self) -> str:
        return self.case.partition(".")[0]

    @property
    def worst(self) -> str:
        """The less good of the two; INFORMATIONAL where neither is a failure and one of them is that."""
        verdicts = {self.behavior, self.closing} - {"OK"}
        failures = verdicts - set(VERDICTS)
        return min(failures or verdicts or {"OK"})

    @property
    def failed(self) -> bool:
        return self.worst not in VERDICTS


def read_verdicts(reports: Path, agent: str) -> list[Verdict]:
    """
    Read what the server has written about an agent, in the order of the cases.

    Raises:
        OSError: If it has written nothing.
    """
    index = json.loads((reports / "index.json").read_text())[agent]
    verdicts = []
    for case, entry in index.items():
        details = json.loads((reports / entry["reportfile"]).read_text(encoding="utf-8", errors="replace"))
        found = " ".join(re.sub(r"<[^>]*>", " ", details["expectation"]).split()) if entry["behavior"] == "INFORMATIONAL" else ""
        found = found or f"{details['result']} {details['resultClose']}".strip()
        verdicts.append(Verdict(case, entry["behavior"], entry["behaviorClose"], found))
    return sorted(verdicts, key=lambda verdict: [int(part) for part in verdict.case.split(".")])


def counts(verdicts: list[Verdict]) -> dict[str, Counter[str]]:
    """Count the verdicts of every section."""
    return {section: Counter(verdict.worst for verdict in verdicts if verdict.section == section) for section in SECTIONS}


def write_page(path: Path, verdicts: list[Verdict], *, testsuite: str, seconds: float) -> None:
    """
    Write the page.

    Args:
        path: Where to.
        verdicts: All of them.
        testsuite: The testsuite's version.
        seconds: How long the run took.
    """
    path.write_text("\n".join(_lines(verdicts, testsuite, seconds)) + "\n")


def _lines(verdicts: list[Verdict], testsuite: str, seconds: float) -> list[str]:
    columns = [*VERDICTS, *sorted({verdict.worst for verdict in verdicts} - set(VERDICTS))]
    sections = counts(verdicts)
    rows = [
        f"| {section} {SECTIONS[section]} | " + " | ".join(str(found[column]) for column in columns) + " |"
        for section, found in sections.items()
    ]
    total = sum(sections.values(), Counter[str]())
    return [
        "# Autobahn|Testsuite",
        "",
        "rig's own transport (`rig.transport.dial`) as the client of the testsuite's fuzzing server. Written by `make autobahn`;",
        "the numbers of the cases, and what each of them does, are the testsuite's own.",
        "",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} s",
        f"- autobahntestsuite {testsuite}; rig {version('rig-channels')}, picows {version('picows')}, uvloop {version('uvloop')}, "
        f"Python {platform.python_version()}",
        "- Command: `make autobahn`",
        "- Not run: 12 and 13, which are about compression. rig does not offer it.",
        "",
        "| section | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *rows,
        f"| all {len(verdicts)} | " + " | ".join(str(total[column]) for column in columns) + " |",
        "",
        "## What is not plain OK",
        "",
        "INFORMATIONAL is no failure: RFC 6455 leaves open what to do, and the testsuite notes what is done.",
        "",
        "| case | behaviour | closing | why |",
        "|---|---|---|---|",
        *[
            f"| {verdict.case} | {verdict.behavior} | {verdict.closing} | {_WHY.get(verdict.case, verdict.found)} |"
            for verdict in verdicts
            if verdict.worst != "OK"
        ],
    ]
