"""What `rig bench` measures: the throughput and the latency of the real pipeline on this machine."""


def main(events: int, workers: tuple[int, ...], rates: tuple[int, ...], as_json: bool) -> int:
    """
    Measure, print a table or JSON, and return the exit code: 0 if nothing was lost, else 1.

    Args:
        events: Of each throughput run; rounded up to what the benchmark can count exactly.
        workers: Worker processes, one throughput run each.
        rates: Events per second, one latency run each and per number of workers.
        as_json: True prints JSON.

    Raises:
        RigError: If the server or the pipeline does not come up, or ends too early.
    """
    # Imported here, since every worker that runs the benchmark's application imports this package too.
    from rig.benchmark.command import run

    return run(events, workers, rates, as_json=as_json)
