"""Cursors: the newest of each topic, as it was."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rig.store import Cursors, Store
from tests.running import run


def test_the_newest_cursor_of_each_topic_stays(opened):
    """Also over the end of the process."""

    async def test() -> None:
        store = await opened()
        await Cursors(store).save({"room:1": 1, "room:2": "a"})
        await Cursors(store).save({"room:1": 2, "room:3": 0})
        await Cursors(store).save({})
        await store.close()
        assert await Cursors(await opened()).load() == {"room:1": 2, "room:2": "a", "room:3": 0}

    opened.run(test)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers() | st.text(), max_size=70))
def test_a_number_stays_a_number_and_a_text_a_text(tmp_path_factory, cursors):
    """Whatever its size, and whatever it looks like."""

    async def test() -> None:
        store = await Store.open(tmp_path_factory.mktemp("cursors") / "rig.db", "off")
        await Cursors(store).save(cursors)
        assert await Cursors(store).load() == cursors
        await store.close()

    run(test)
