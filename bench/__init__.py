"""`python -m bench`: rig beside other clients, on this machine, in one run. `make bench` installs what it needs first."""
