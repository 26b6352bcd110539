"""
The admin API of a run: JSON over HTTP on a Unix socket in its state directory.

`server` is loaded by the supervisor once its children run, `client` by the commands that talk to a run: each brings an HTTP
library.
"""
