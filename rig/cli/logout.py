"""`rig logout`: delete a stored token."""

import click

_EPILOG = """\b
Examples:
  rig logout
  rig logout staging
"""


@click.command(epilog=_EPILOG)
@click.argument("name", default="default")
def logout(name: str) -> int:
    """
    Delete the token that `rig login` stored under NAME ("default" if there is none).

    A worker that runs with it does not send it again. What the server was sent stays good until it expires or is revoked there.
    """
    from rig.auth.stores import FileStore, KeyringStore, keyring_store

    keyring, files = keyring_store(), FileStore()
    deleted = [str(files.path(name))] if files.delete(name) else []
    if isinstance(keyring, KeyringStore) and keyring.delete(name):
        deleted.append(keyring.where)
    if not deleted:
        click.echo(f"Error: there is no token {name}: rig whoami {name} shows where it was looked for", err=True)
        return 1
    click.echo(f"Deleted from {' and '.join(deleted)}")
    return 0
