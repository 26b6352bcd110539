"""
Cursors: for each topic, how far its events were handled.

What must stay true: a number comes back as a number and a text as a text, whatever its size.
"""

import json
from collections.abc import Mapping

from rig.store.rows import insert
from rig.store.store import Store


class Cursors:
    """The cursors in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self) -> dict[str, int | str]:
        """
        Return all cursors by topic.

        Raises:
            StoreFailed: If the database cannot be read.
        """
        rows = await self._store.read(lambda connection: connection.execute("SELECT topic, cursor FROM cursors").fetchall())
        return {topic: json.loads(cursor) for topic, cursor in rows}

    async def save(self, cursors: Mapping[str, int | str]) -> None:
        """
        Store cursors in the place of those that these topics had.

        Raises:
            StoreFailed: If the database does not take them.
        """
        rows = [(topic, json.dumps(cursor)) for topic, cursor in cursors.items()]
        await self._store.write(lambda connection: insert(connection, "INSERT OR REPLACE INTO cursors", rows))
