"""`python -m rig` is the `rig` command."""

from rig.cli.main import main

main(prog_name="rig")
