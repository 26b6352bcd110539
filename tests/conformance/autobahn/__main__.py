"""Run every case, print a summary, write the page. Ends with 1 if any case has failed, or is missing."""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.conformance.autobahn.client import AGENT, count_cases, run_case, write_reports
from tests.conformance.autobahn.report import SECTIONS, counts, read_verdicts, write_page
from tests.conformance.autobahn.server import fuzzing_server

PAGE = Path(__file__).parent.parent / "AUTOBAHN.md"
_RUN_SECONDS = 1200.0


async def _run_all(wstest: Path, folder: Path) -> int:
    async with asyncio.timeout(_RUN_SECONDS), fuzzing_server(wstest, folder, [f"{section}.*" for section in SECTIONS]) as url:
        total = await count_cases(url)
        _say(f"{total} cases, which take about a minute at most")
        for number in range(1, total + 1):
            await run_case(url, number)
        await write_reports(url)
    return total


def main(wstest: Path) -> int:
    """
    Run the testsuite.

    Args:
        wstest: The testsuite's program.
    """
    started = time.monotonic()
    testsuite = subprocess.run([wstest, "-a"], check=True, capture_output=True, text=True).stdout.split()[-1]
    with tempfile.TemporaryDirectory(prefix="autobahn-") as folder:
        total = uvloop.run(_run_all(wstest, Path(folder)))
        verdicts = read_verdicts(Path(folder) / "reports", AGENT)
    write_page(PAGE, verdicts, testsuite=testsuite, seconds=time.monotonic() - started)
    for section, found in counts(verdicts).items():
        _say(f"{section:>3} {SECTIONS[section]:<24}" + ", ".join(f"{count} {verdict}" for verdict, count in found.most_common()))
    failed = [verdict for verdict in verdicts if verdict.failed]
    for verdict in failed:
        _say(f"FAILED {verdict.case}: {verdict.behavior}, {verdict.closing}: {verdict.found}")
    if len(verdicts) != total:
        _say(f"{total - len(verdicts)} of {total} cases have no verdict")
    return 1 if failed or len(verdicts) != total else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
