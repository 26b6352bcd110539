"""`python -m bench`: everything, side by side; a table, `results.json` and a chart."""

import sys
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console

from bench.contenders import contenders, install_node_modules
from bench.report import describe_machine, show, write
from bench.rounds import Measured, Plan, measure
from rig.errors import RigError

_FULL = Plan(rounds=5, share=1.0, pace_seconds=5.0, idle_seconds=10.0)
_WIDTH = 110
"""Columns of the widest table."""
_QUICK = Plan(rounds=2, share=0.2, pace_seconds=1.0, idle_seconds=2.0)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Two short rounds: about a minute, and rough figures.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of throughput.  [default: 5, quick: 2]")
@click.option("--only", multiple=True, metavar="KEY", help="Only contenders whose key contains this; repeatable.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).parent,
    help="Where to write.  [default: the folder of this program]",
)
def main(*, quick: bool, rounds: int | None, only: tuple[str, ...], out: Path) -> None:
    """Measure rig beside other clients, on this machine."""
    plan = _QUICK if quick else _FULL
    if rounds is not None:
        plan = Plan(rounds, plan.share, plan.pace_seconds, plan.idle_seconds)
    install_node_modules()
    found = [one for one in contenders() if not only or any(part in one.key for part in only)]
    able, left_out = [one for one in found if not one.missing], [one for one in found if one.missing]
    console, progress = Console(), Console(stderr=True)
    console.width = max(console.width, _WIDTH)
    machine = describe_machine()
    try:
        measured = uvloop.run(measure(able, plan, lambda line: progress.print(line, style="dim", highlight=False)))
    except RigError as exc:
        sys.exit(f"The benchmark ended: {exc}")
    show(console, machine, measured, left_out)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "results.json", machine, plan, measured)
    _draw(out, machine, measured, console)
    sys.exit(0 if measured.lossless else 1)


def _draw(out: Path, machine: dict[str, Any], measured: Measured, console: Console) -> None:
    from bench.chart import draw

    subtitle = f"{machine['processor']}, {machine['cores']} cores, client and server on one machine, Python {machine['python']}"
    paths = [out / "throughput.svg", out / "throughput.png"]
    try:
        draw(measured, subtitle, *paths)
    except ImportError:
        console.print("no chart: matplotlib is not installed")
    else:
        console.print(
            f"written: {', '.join(str(path) for path in [out / 'results.json', *paths])}", soft_wrap=True, highlight=False
        )


if __name__ == "__main__":
    main()
