"""A death between any two lines of some modules, which stands for SIGKILL: nothing catches it or cleans up after it."""

import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any


class Killed(BaseException):
    """What is raised at the line."""


def die_at(line: int, action: Callable[[], object], *modules: ModuleType) -> bool:
    """Run something, but die before a line of these modules (counted from 0); True if it died, False if it came to its end."""
    sources = {module.__file__ for module in modules}
    remaining = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal remaining
        if frame.f_code.co_filename not in sources:
            return None
        if event == "line":
            remaining -= 1
            if remaining < 0:
                raise Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Killed:
        return True
    finally:
        sys.settrace(before)
    return False
