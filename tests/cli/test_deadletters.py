"""`rig deadletters`."""

import asyncio
import json

import pytest

from rig.store import DeadLetters, NewLetter, NewPush, Outbox, Store


def with_store(folder, action):
    async def main():
        store = await Store.open(folder / "rig.db", clock=lambda: 1_700_000_000.0)
        try:
            return await action(Outbox(store), DeadLetters(store))
        finally:
            await store.close()

    return asyncio.run(main())


@pytest.fixture
def folder(tmp_path):
    """A state directory with two events and a push that failed for good."""

    async def fill(outbox, letters):
        await letters.add(
            [
                NewLetter(
                    "room:1", "seen", "shop:seen", "ValueError: no\x1b[2J", "Traceback\n  line 1\x07", b'{"a": 1}', False, 3, 7.5
                ),
                NewLetter("hall:1", "blob", "shop:blob", "TypeError: no", None, b"\xff", True, 0, 8.5),
            ]
        )
        await outbox.add([NewPush("k1", "room:2", "say", b"{}")])
        await outbox.bury([1], "refused")

    with_store(tmp_path, fill)
    return tmp_path


@pytest.fixture
def letters(rig, folder):
    """Run `rig deadletters` on that directory."""
    return lambda command, *arguments: rig("deadletters", command, "--state-dir", str(folder), *arguments)


def test_the_list_has_what_one_looks_for(letters):
    """Which handler, since when, and why."""
    assert letters("list").stdout.splitlines() == [
        "id\tkind\ttopic\tevent\thandler\tsince\tretry\treason",
        "1\tevent\troom:1\tseen\tshop:seen\t2023-11-14T22:13:20Z\tno\tValueError: no?[2J",
        "2\tevent\thall:1\tblob\tshop:blob\t2023-11-14T22:13:20Z\tno\tTypeError: no",
        "3\tpush\troom:2\tsay\t-\t2023-11-14T22:13:20Z\tno\trefused",
    ]


def ids(result):
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


def test_kind_and_topic_pick(letters):
    """Together: both must fit."""
    assert ids(letters("list", "--json", "--kind", "push")) == [3]
    assert ids(letters("export", "--kind", "event")) == [1, 2]
    assert ids(letters("export", "--topic", "room:*")) == [1, 3]
    assert ids(letters("export", "--kind", "event", "--topic", "room:*")) == [1]
    assert letters("list", "--kind", "odd").exit_code == 2


def test_show_has_traceback_and_payload(letters):
    """All that is needed to see what went wrong; control characters are not."""
    shown = letters("show", "1").stdout

    assert "handler      shop:seen" in shown
    assert "received_at  1970-01-01T00:00:07Z" in shown
    assert 'traceback\n  Traceback\n    line 1?\npayload\n  {"a": 1}\n' in shown
    assert "\x1b" not in shown
    assert json.loads(letters("show", "2", "--json").stdout)["payload_base64"] == "/w=="
    assert letters("show", "4").exit_code == 1


def test_an_export_has_the_raw_payload(letters):
    """To be repaired and pushed again, say."""
    exported = json.loads(letters("export").stdout.splitlines()[0])

    assert exported["payload"] == {"a": 1}
    assert (exported["traceback"], exported["reason"]) == ("Traceback\n  line 1\x07", "ValueError: no\x1b[2J")
    assert (exported["worker"], exported["received_at"], exported["buried_at"]) == (3, 7.5, 1_700_000_000.0)


def test_retry_puts_a_push_back_and_marks_an_event(letters, folder):
    """The push keeps its key; the event waits for a run."""
    assert letters("retry", "--topic", "room:*").stdout == "2 retried\n"

    async def look(outbox, dead):
        return [row.key for row in await outbox.page(0, 9)], [letter.id for letter in await dead.to_retry(9)]

    assert with_store(folder, look) == (["k1"], [1])
    assert "1\tevent\troom:1\tseen\tshop:seen\t2023-11-14T22:13:20Z\tyes\t" in letters("list").stdout
    assert letters("retry", "3").exit_code == 1


@pytest.mark.parametrize(("command", "done"), [(("retry",), "retried"), (("purge", "--yes"), "purged")])
def test_an_id_that_is_not_there_is_named_and_the_others_are_done(letters, folder, command, done):
    """Each once, whatever the format; it ends with 1 as `show` does, so that a script hears of it."""
    result = letters(*command, "99", "2", "98", "99")

    assert (result.exit_code, result.stdout) == (1, f"1 {done}\n")
    assert result.stderr == "Error: there is no 99, 98: it may have been sent, retried or purged since\n"
    result = letters(*command, "3", "97", "--json")
    assert (result.exit_code, result.stdout) == (1, f'{{"{done}":1}}\n')
    assert "there is no 97" in result.stderr

    async def look(outbox, dead):
        return [letter.id for letter in await dead.page(0, 9) if not letter.retry]

    assert with_store(folder, look) == [1]


def test_ids_that_are_all_there_end_with_0(letters):
    """Whether one of them is said twice or not."""
    result = letters("retry", "1", "3", "1")

    assert (result.exit_code, result.stdout, result.stderr) == (0, "2 retried\n", "")


def test_an_id_that_none_can_have_is_a_wrong_argument(letters):
    """It is refused before anything is done."""
    for command in (("show",), ("retry",), ("purge", "--yes")):
        for id in ("0", "x", str(2**63)):
            assert letters(*command, "1", id).exit_code == 2
    assert ids(letters("list", "--json")) == [1, 2, 3]


def test_purge_deletes_what_is_meant(letters):
    """Of one kind, then all."""
    assert letters("purge", "--kind", "push", "--yes").stdout == "1 purged\n"
    assert letters("purge", "--all").exit_code == 2
    assert letters("purge", "--yes").exit_code == 2
    assert letters("purge", "--all", "--yes", "--json").stdout == '{"purged":2}\n'
    assert letters("list").stdout.count("\n") == 1
