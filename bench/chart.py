"""The chart of the throughput, as SVG and as PNG."""

from pathlib import Path

from bench.rounds import Measured

_RIG, _OTHERS, _CEILING = "#5b3fd1", "#a7b0bd", "#d8dce2"


def draw(measured: Measured, subtitle: str, *paths: Path) -> None:
    """
    Draw a bar per contender, with whiskers from its slowest to its fastest round.

    Args:
        measured: What to draw.
        subtitle: What it was measured on.
        paths: Files to write; the suffix says in which format.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "rig"
    from matplotlib import pyplot as plt

    standings = sorted(measured.throughput, key=lambda standing: standing.rate)
    rates = [standing.rate for standing in standings]
    spread = [
        [rate - min(one.rate for one in s.rounds) for rate, s in zip(rates, standings, strict=True)],
        [max(one.rate for one in s.rounds) - rate for rate, s in zip(rates, standings, strict=True)],
    ]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(standings) + 1.6), layout="constrained")
    bars = axes.barh(
        [standing.label for standing in standings],
        rates,
        xerr=[[max(length, 0) for length in side] for side in spread],
        color=[_colour(standing.key) for standing in standings],
        error_kw={"ecolor": "#444", "lw": 1, "capsize": 3},
    )
    for bar, rate, above in zip(bars, rates, spread[1], strict=True):
        end = (rate + max(above, 0), bar.get_y() + bar.get_height() / 2)
        axes.annotate(f"{rate:,.0f}", end, (8, 0), textcoords="offset points", va="center", size=9)
    axes.margins(x=0.12)
    figure.suptitle("Events per second into a handler", size=12)
    axes.set_title("200 bytes, 64 topics; median of the rounds, with the slowest and the fastest", size=9)
    axes.set_xlabel(subtitle, size=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    for path in paths:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _colour(key: str) -> str:
    return _RIG if key.startswith("rig-") else _CEILING if key == "picows" else _OTHERS
