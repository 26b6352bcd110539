"""Who is measured, with how many events, and what has to be installed for it."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

import msgspec

from rig.benchmark.app import TOPICS
from rig.benchmark.measure import STEP

_HERE = Path(__file__).parent
_NODE_MODULES = _HERE / "node_modules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """
    One way to receive events.

    Attributes:
        key: For the results and `--only`.
        label: For the table and the chart.
        steps: Events of a full round, in multiples of STEP: about one to three seconds.
        workers: Of rig; 0 for all others.
        command: Of all others.
        topics: What it joins.
        realtime: True if it needs the server that speaks Supabase Realtime.
        missing: What is not installed; empty if it can run.
        version: Of the library.
    """

    key: str
    label: str
    steps: int
    workers: int = 0
    command: Sequence[str] = ()
    topics: Sequence[str] = field(default=TOPICS, repr=False)
    realtime: bool = False
    missing: str = ""
    version: str = ""

    def events(self, share: float) -> int:
        """Return the events of a round that is shorter by this factor, but no less than one step."""
        return max(round(self.steps * share), 1) * STEP


def contenders() -> list[Contender]:
    """List everybody, rig first; who cannot run says why in `missing`."""
    from bench.realtime_server import TOPICS as REALTIME_TOPICS

    rig_version = _version("rig-channels")
    return [
        Contender(key="rig-1", label="rig, 1 worker", steps=62, workers=1, version=rig_version),
        Contender(key="rig-2", label="rig, 2 workers", steps=62, workers=2, version=rig_version),
        _python("picows", "picows, counting frames", 124, "picows_frames"),
        _python("websockets", "websockets + json", 12, "websockets_json"),
        _python("aiohttp", "aiohttp + json", 12, "aiohttp_json"),
        _python("phoenix-channels-python-client", "phoenix-channels-python-client", 3, "phoenix_channels"),
        _python("realtime", "realtime (Supabase)", 3, "supabase_realtime", topics=REALTIME_TOPICS, realtime=True),
        _node("ws", "node ws + JSON.parse", 40, "ws_json"),
        _node("phoenix", "phoenix.js on node ws", 40, "phoenix_js"),
    ]


def install_node_modules() -> None:
    """Install the JavaScript contenders beside this file, if node is here and they are not; say so if that fails."""
    if _NODE_MODULES.is_dir() or not (shutil.which("node") and shutil.which("npm")):
        return
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    result = subprocess.run(command, cwd=_HERE, check=False, capture_output=True, text=True)
    if result.returncode:
        print(f"npm install failed, so the JavaScript contenders are left out: {result.stderr.strip()[-300:]}", file=sys.stderr)


def _python(
    distribution: str, label: str, steps: int, program: str, *, topics: Sequence[str] = TOPICS, realtime: bool = False
) -> Contender:
    found = util.find_spec(distribution.replace("-", "_")) is not None
    return Contender(
        key=distribution,
        label=label,
        steps=steps,
        command=(sys.executable, "-m", f"bench.peers.{program}"),
        topics=topics,
        realtime=realtime,
        missing="" if found else f"{distribution} is not installed",
        version=_version(distribution) if found else "",
    )


def _node(package: str, label: str, steps: int, program: str) -> Contender:
    installed = _NODE_MODULES / package / "package.json"
    node = shutil.which("node") or ""
    missing = "" if installed.is_file() and node else "node is not installed" if not node else f"npm install {package} did not work"
    version = "" if missing else msgspec.json.decode(installed.read_bytes())["version"]
    command = (node, str(_HERE / "peers" / f"{program}.mjs"))
    return Contender(key=f"node-{package}", label=label, steps=steps, command=command, missing=missing, version=version)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
