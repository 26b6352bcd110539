"""Importing the user's application: every way in which that fails is one sentence that says what to do."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rig.errors import AppError, HandlerSignatureError
from rig.worker.describe import Description, describe, load_app

APP = """
import msgspec, rig
app = rig.App("max")
other = rig.App("other")

class Tick(msgspec.Struct):
    id: int

@app.on("room:*", "tick", key="payload.id", retries=7, timeout=1.5, overflow="latest")
async def tick(event: rig.Event[Tick]) -> None: ...

@app.on("room:*", "*")
def anything(event) -> None: ...

@app.on("room:*", "list", key=None)
def many(event: rig.Event[list[int]]) -> None: ...
"""

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Give a function that writes a module and returns the folder; what is imported from it is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(tmp_path)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_application_is_described(write: Write) -> None:
    """The description says what the io process and `rig check` need, and survives the way to the supervisor."""
    found = describe("described:app", write("described.py", APP))

    assert found.name == "max"
    assert found.joins == {"room:*": {}}
    first, second, third = found.routes
    assert (first.topic, first.event, first.key, first.retries, first.timeout) == ("room:*", "tick", "payload.id", 7, 1.5)
    assert (first.overflow, second.overflow) == ("latest", None)
    assert (first.handler, first.payload) == ("described.tick", "Tick")
    assert (second.payload, second.key, second.retries, second.timeout) == ("any", "topic", None, None)
    assert (third.payload, third.key) == ("list", None)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Description) == found


def test_attribute_is_app_unless_said_otherwise(write: Write) -> None:
    """`module` stands for `module:app`; dots reach into objects."""
    folder = write("attributes.py", APP + "class Holder:\n    inner = other\n")

    assert load_app("attributes", app_dir=folder).name == "max"
    assert load_app("attributes:", app_dir=folder).name == "max"
    assert load_app("attributes:other", app_dir=folder).name == "other"
    assert load_app("attributes:Holder.inner", app_dir=folder).name == "other"


def test_module_in_a_package(write: Write) -> None:
    """Dotted modules are found below the folder, and may import their neighbours."""
    write("shop/__init__.py", "")
    write("shop/names.py", "NAME = 'shop'")
    folder = write("shop/main.py", "import rig\nfrom shop.names import NAME\napp = rig.App(NAME)")

    assert load_app("shop.main", app_dir=folder).name == "shop"


def test_folder_of_the_application_comes_first(write: Write) -> None:
    """A module in `--app-dir` is found before one of the same name elsewhere on the path."""
    folder = write("tomllib_like.py", "import rig\napp = rig.App('mine')")
    sys.path.insert(0, str(Path(__file__).parent))

    assert load_app("tomllib_like", app_dir=folder).name == "mine"


def test_factory_makes_the_app(write: Write) -> None:
    """With `--factory` the attribute is called."""
    folder = write("made.py", "import rig\ndef make():\n    return rig.App('made')\nclass Made(rig.App): pass")

    assert load_app("made:make", app_dir=folder, factory=True).name == "made"
    assert load_app("made:Made", app_dir=folder, factory=True).name == "rig"


@pytest.mark.parametrize(
    ("target", "text", "sentence"),
    [
        (":app", "", r"':app' names no module: write MODULE:APP, as in rig.demo:app"),
        ("nowhere_", None, r"there is no module 'nowhere_' in /.*: check the name, or set --app-dir"),
        ("nowhere_.deep:app", None, r"there is no module 'nowhere_.deep' in /"),
        ("faulty.deep:app", "", r"there is no module 'faulty.deep' in /"),
        ("faulty", "import missing_dependency_", r"module 'faulty' imports 'missing_dependency_', which is not installed"),
        ("faulty", "import missing_.deep", r"module 'faulty' imports 'missing_', which is not installed"),
        (
            "faulty",
            "raise ModuleNotFoundError('by hand')",
            r"module 'faulty' cannot be imported: ModuleNotFoundError: by hand \(.*faulty.py:1\)",
        ),
        ("faulty", "\n\n1 / 0", r"module 'faulty' cannot be imported: ZeroDivisionError: division by zero \(.*faulty.py:3\)"),
        ("faulty", "x = 1\ndef f(:\n", r"module 'faulty' cannot be imported: SyntaxError: invalid syntax \(.*faulty.py:2\)"),
        ("faulty", "from rig import Nothing_", r"module 'faulty' cannot be imported: ImportError: cannot import name 'Nothing_'"),
        ("faulty", "", r"module 'faulty' has no 'app': write app = rig.App\(…\) in it"),
        ("faulty", "import rig\nmax = rig.App()", r"module 'faulty' has no 'app': did you mean 'max'\?"),
        ("faulty:a.b", "class a: pass", r"module 'faulty' has no 'a.b'"),
        ("faulty", "app = 5", r"faulty is a int, not a rig.App$"),
        (
            "faulty",
            "def app(): pass",
            r"faulty is a function, not a rig.App; use --factory if it is a function that",
        ),
        ("..faulty", "", r"cannot be imported"),
    ],
)
def test_application_that_cannot_be_loaded(write: Write, target: str, text: str | None, sentence: str) -> None:
    """Each fault names its cause, and the place if it is in the user's code."""
    folder = write("faulty.py", text) if text is not None else write("unused.txt", "")

    with pytest.raises(AppError, match=sentence) as raised:
        load_app(target, app_dir=folder)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import rig\napp = rig.App()", r"faulty:app is a App, not a function that returns an app: leave out --factory"),
        ("def app(): return 5", r"faulty:app is a int, not a rig.App$"),
        ("def app():\n    1 / 0", r"faulty:app failed: ZeroDivisionError: division by zero \(.*faulty.py:2\)"),
        ("def app(settings): pass", r"faulty:app failed: TypeError: app\(\) missing 1 required positional argument"),
    ],
)
def test_factory_that_makes_no_app(write: Write, text: str, sentence: str) -> None:
    """A factory that cannot be called, fails, or returns something else is told apart."""
    with pytest.raises(AppError, match=sentence):
        load_app("faulty:app", app_dir=write("faulty.py", text), factory=True)


def test_wrong_handler_keeps_its_own_sentence(write: Write) -> None:
    """What `@app.on` refuses at the import is shown as it is, not as a failure of the import."""
    folder = write("faulty.py", "import rig\napp = rig.App()\n@app.on('a', 'b')\ndef handler(): pass")

    with pytest.raises(HandlerSignatureError, match=r"^handler handler \(.*faulty.py:\d\) takes \(\)"):
        load_app("faulty", app_dir=folder)


def test_application_without_anything_is_refused(write: Write) -> None:
    """Nothing to do is no application."""
    folder = write("faulty.py", "import rig\napp = rig.App()")

    with pytest.raises(AppError, match=r"faulty has neither handlers nor topics: add @app.on\(topic, event\) above a function"):
        describe("faulty", folder)


def test_pattern_with_captures_needs_a_topic_to_join(write: Write) -> None:
    """`{name}` cannot be joined: the sentence shows what to write."""
    folder = write("faulty.py", "import rig\napp = rig.App()\n@app.on('room:{id}', 'tick')\ndef handler(event): pass")

    with pytest.raises(AppError, match=r"nothing to join for 'room:\{id\}': name its topics, as in app.join\('room:1'\)"):
        describe("faulty", folder)


@pytest.mark.parametrize(
    ("lines", "joins"),
    [
        ("app.on('room:*', 'tick')(h)", {"room:*": {}}),
        (
            "app.on('room:{id}', 'tick')(h)\napp.join('room:1', 'room:2', payload={'since': 1})",
            {"room:1": {"since": 1}, "room:2": {"since": 1}},
        ),
        ("app.on('room:*', 'tick')(h)\napp.join('room:1')", {"room:1": {}}),
        ("app.on('room:*', 'a')(h)\napp.on('room:*', 'b')(h)\napp.on('lobby', 'c')(h)", {"room:*": {}, "lobby": {}}),
        ("app.join('silent')", {"silent": {}}),
        ("app.join('room:*', payload=Since(5))\napp.on('room:*', 'tick')(h)", {"room:*": {"id": 5}}),
    ],
)
def test_topics_to_join(write: Write, lines: str, joins: dict[str, Any]) -> None:
    """Named topics are joined as named; a pattern that covers none of them is joined as it is written."""
    start = "import msgspec, rig\napp = rig.App()\nclass Since(msgspec.Struct):\n    id: int\ndef h(event): pass\n"

    assert describe("joining", write("joining.py", start + lines)).joins == joins


def test_join_payload_that_is_no_json_is_refused(write: Write) -> None:
    """It would fail at each join; it fails now."""
    folder = write("faulty.py", "import rig\napp = rig.App()\napp.join('room:1', payload={'since': object()})")

    with pytest.raises(AppError, match=r"the join payload of 'room:1' cannot be written as JSON \("):
        describe("faulty", folder)


CURSORS = """
import rig

app = rig.App("max")
app.join("room:1", "room:2", "other:1")

@app.on("room:*", "tick", cursor="payload.id")
async def tick(event: rig.Event) -> None: ...

@app.on("room:*", "tock")
async def tock(event: rig.Event) -> None: ...

@app.on("room:2", "*", cursor="payload.{field}")
async def any_event(event: rig.Event) -> None: ...

@app.on("other:*", "*", cursor="payload.seq")
async def other(event: rig.Event) -> None: ...

@app.on_gap
async def gap(gap: rig.Gap) -> None: ...
"""


def test_cursors_and_callbacks_of_gaps_are_described(write: Write) -> None:
    """Other topics may have other cursors, and handlers that name none contradict nobody."""
    found = describe("cursors:app", write("cursors.py", CURSORS.replace("{field}", "id")))

    assert [route.cursor for route in found.routes] == ["payload.id", None, "payload.id", "payload.seq"]
    assert found.gap_callbacks == ["cursors.gap"]


def test_two_cursors_of_one_topic_are_refused(write: Write) -> None:
    """The events of a topic have one order: the sentence names the topic, both fields and both handlers."""
    folder = write("contradiction.py", CURSORS.replace("{field}", "at"))

    with pytest.raises(
        AppError,
        match=r"'room:2' has two cursors, payload\.id \(contradiction\.tick\) and payload\.at \(contradiction\.any_event\)",
    ):
        describe("contradiction:app", folder)


def test_join_payload_without_a_place_for_the_cursor_is_refused(write: Write) -> None:
    """It is found at the start, and what is in the payload is not shown."""
    text = CURSORS.replace("{field}", "id") + 'app.join("room:3", payload=["hunter2"])\n'

    with pytest.raises(AppError, match="the join payload of 'room:3' is no object, so it has no place for the cursor") as caught:
        describe("no_place:app", write("no_place.py", text))
    assert "hunter2" not in str(caught.value)
