"""
`python -m rig.benchmark.run PARENT ARGUMENTS…`: `rig run ARGUMENTS…` that ends with the benchmark, whose process number is PARENT.

It has a session of its own, so that Ctrl-C in the terminal does not reach it before the benchmark has its figures; and a benchmark
that is killed must not leave it behind, as a client that tries for ever to reach a server which is gone.
"""

import runpy
import sys

from rig.child import end_with_parent

if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    sys.argv[:] = ["rig", "run", *sys.argv[2:]]
    runpy.run_module("rig", run_name="__main__", alter_sys=True)
