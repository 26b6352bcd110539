"""`rig mock`."""

import click
import pytest


@pytest.fixture
def started(replace_module):
    """The ports that a mock server was started on."""
    ports = []

    @click.command()
    @click.option("--port", type=int, default=0)
    def main(port):
        """Stand for the bundled server."""
        ports.append(port)

    replace_module("mock_server.__main__", main=main)
    return ports


def test_arguments_are_passed_on(rig, started):
    """`rig mock` is `python -m mock_server`."""
    assert rig("mock", "--port", "4000").exit_code == 0
    assert started == [4000]


def test_help_is_that_of_the_server(rig, started):
    """Its options are its own."""
    result = rig("mock", "--help")

    assert result.exit_code == 0
    assert "--port" in result.stdout
    assert started == []


def test_a_wrong_option_is_a_usage_error(rig, started):
    """As anywhere else."""
    result = rig("mock", "--prot", "4000")

    assert result.exit_code == 2
    assert "--port" in result.stderr
