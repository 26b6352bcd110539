"""`rig bench`: throughput and latency of this machine."""

import click


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value}: expected whole numbers of 1 or more with commas between them, such as 1,2")
    return numbers


@click.command(epilog="\b\nExample:\n  rig bench --workers 1,2 --json > bench.json")
@click.option("--events", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Events of each throughput run.")
@click.option(
    "--workers", callback=_numbers, metavar="N,N,…", default="1,2", show_default=True, help="Worker processes, one run each."
)
@click.option(
    "--rates",
    callback=_numbers,
    metavar="N,N,…",
    default="1000,10000",
    show_default=True,
    help="Events a second of the latency runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(events: int, workers: tuple[int, ...], rates: tuple[int, ...], *, as_json: bool) -> int:
    """Measure throughput and latency of this machine, from the mock server to a handler."""
    from rig.benchmark import main

    return main(events, workers, rates, as_json)
