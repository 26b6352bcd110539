"""
What the supervisor looks at in the store of a run: before the start whether it is one, after the end what waits in it.

What must stay true: it is not open here while the io processes of the run are there: they alone write to it.
"""

from rig.errors import AppError, StoreFailed, StoreUnusable
from rig.store import Outbox, StateDirectory, Store, Sync


async def insist_usable(directory: StateDirectory, sync: Sync) -> None:
    """
    Refuse a database that is there and will never take anything. It is left as it is.

    Every run stores: what `rig.enqueue` is given, the dead letters of its handlers, cursors. One that could not would break its
    promises from the first event on. What may get well by itself, as a full disk, keeps no run from starting.

    Args:
        directory: The run's, which has it.
        sync: As in `Store.open`.

    Raises:
        AppError: If it is no database, damaged, of another program or of a newer rig.
    """
    if not directory.has_database:
        return
    try:
        store = await Store.open(directory.database, sync)
        await store.close()
    except StoreUnusable as exc:
        raise AppError(f"the run has not started, because it could store nothing: {exc}") from exc
    except StoreFailed:
        pass  # the io processes say so, and try it again


async def count_waiting(directory: StateDirectory, sync: Sync) -> int | None:
    """
    Return how many durable pushes wait for the next run; None if that cannot be read.

    Args:
        directory: The run's.
        sync: As in `Store.open`.

    Raises:
        Nothing.
    """
    if not directory.has_database:
        return 0
    try:
        store = await Store.open(directory.database, sync)
        try:
            return (await Outbox(store).counts()).rows
        finally:
            await store.close()
    except StoreFailed:
        return None
