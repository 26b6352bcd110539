"""`python -m rig.io FD`: started by the supervisor."""

from rig.child import run
from rig.io.process import serve

run(serve, die_with_parent=False)
