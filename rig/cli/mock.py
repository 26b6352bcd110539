"""`rig mock`: the bundled Phoenix server."""

import click


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.pass_context
def mock(context: click.Context) -> int | None:
    """
    Run the bundled Phoenix server.

    Takes the options of `python -m mock_server`; `rig mock --help` lists them.
    """
    from mock_server.__main__ import main

    code: int | None = main.main(args=context.args, prog_name="rig mock", standalone_mode=False)
    return code
