"""The `rig` command: one file a sub-command, options made from `rig.config`, nothing heavy imported before it is needed."""
