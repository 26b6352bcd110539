"""Rig's real transport against the Autobahn|Testsuite: `make autobahn`."""
