"""Every option, declared once (`settings`), what follows from that (`options`, `values`), and where values come from (`load`)."""

from rig.config.about import About
from rig.config.cores import usable_cores
from rig.config.load import Loaded, check, load
from rig.config.options import Option, options
from rig.config.settings import Settings, TransportMode, Vsn
from rig.config.values import parse_size, show_size

__all__ = [
    "About",
    "Loaded",
    "Option",
    "Settings",
    "TransportMode",
    "Vsn",
    "check",
    "load",
    "options",
    "parse_size",
    "show_size",
    "usable_cores",
]
