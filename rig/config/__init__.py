"""Every option, declared once (`settings`), what follows from that (`options`, `values`), and where values come from (`load`)."""

from rig.config.load import Loaded, load
from rig.config.options import Option, options
from rig.config.settings import About, Settings, usable_cores
from rig.config.values import parse_size, show_size

__all__ = ["About", "Loaded", "Option", "Settings", "load", "options", "parse_size", "show_size", "usable_cores"]
