"""`python -m tests.reliability.report FIGURES PAGE`: puts what `make soak` has counted into the table of the page."""

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
HEAD = (
    "| harm | rounds | events | lost | repeated | reordered | durable pushes lost | repeated | reordered | seconds | seed |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def table(figures: list[dict[str, object]]) -> str:
    """Return the table: one line a proof, its last run."""
    last = {str(one["name"]): one for one in figures}
    columns = ("name", "rounds", "events", "lost", "repeated", "reordered", "pushes_lost", "pushes_repeated", "pushes_reordered")
    lines = [
        "| " + " | ".join(_show(one[column]) for column in (*columns, "seconds")) + f" | {one['seed']} |" for one in last.values()
    ]
    return "\n".join((*HEAD, *lines))


def put(page: str, figures: str) -> str:
    """Return the page with the table between its marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"the page has no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def _show(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def main(source: Path, page: Path) -> None:
    """Read the figures, and write the page."""
    figures = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    page.write_text(put(page.read_text(encoding="utf-8"), table(figures)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
