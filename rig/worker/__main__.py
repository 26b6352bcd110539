"""`python -m rig.worker FD`: started by the supervisor."""

from rig.child import run
from rig.worker.process import serve

run(serve, die_with_parent=True)
