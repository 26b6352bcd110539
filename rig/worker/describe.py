"""
Import the user's application, and say what is in it.

Only worker processes do this: what an import does, or breaks, stays away from the io process and the supervisor.
"""

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rig.app import App, Route
from rig.errors import AppError, RigError
from rig.routing import Overflow, joined_topics


class RouteDescription(msgspec.Struct, frozen=True):
    """One handler, as data."""

    topic: str
    event: str
    handler: str
    payload: str
    key: str | None
    retries: int | None
    timeout: float | None
    overflow: Overflow | None = None
    cursor: str | None = None


class Description(msgspec.Struct, frozen=True):
    """
    An application, as data.

    Attributes:
        name: The app's name.
        routes: Its handlers, in the order of declaration.
        joins: The topics to join, with their join payloads.
        gap_callbacks: What is told of gaps, in the order of declaration.
    """

    name: str
    routes: list[RouteDescription]
    joins: dict[str, Any]
    gap_callbacks: list[str] = []


def load_app(target: str, *, app_dir: str = ".", factory: bool = False) -> App:
    """
    Import `module:attribute`.

    Args:
        target: Dotted module, colon, attribute (dots allowed); `app` where the attribute is missing.
        app_dir: The folder to import from, put first on the path.
        factory: True calls the attribute to get the app.

    Raises:
        AppError: If there is no such module or attribute, its import fails, or it is no `rig.App`.
    """
    module_name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    if not module_name:
        raise AppError(f"{target!r} names no module: write MODULE:APP, as in rig.demo:app")
    sys.path.insert(0, str(Path(app_dir).resolve()))
    found: Any = _import(module_name, app_dir)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AppError(f"module {module_name!r} has no {attribute!r}: {_apps_in(found)}") from None
    if factory:
        if not callable(found):
            raise AppError(f"{target} is a {type(found).__name__}, not a function that returns an app: leave out --factory")
        try:
            found = found()
        except RigError:
            raise
        except Exception as exc:
            raise AppError(f"{target} failed: {_last_line(exc)}") from exc
    if not isinstance(found, App):
        hint = "; use --factory if it is a function that returns the app" if callable(found) else ""
        raise AppError(f"{target} is a {type(found).__name__}, not a rig.App{hint}")
    return found


def describe(target: str, app_dir: str = ".", factory: bool = False) -> Description:
    """
    Import an application and return what is in it.

    Raises:
        AppError: If it cannot be loaded, has no handler and no topic, has nothing to join for one, a join payload is no
            JSON, or the cursor of a topic is not the same for all its handlers, or has no place in its join payload.
    """
    app = load_app(target, app_dir=app_dir, factory=factory)
    if not app.routes and not app.topics:
        raise AppError(f"{target} has neither handlers nor topics: add @app.on(topic, event) above a function")
    topics = joined_topics(app.topics, list(app.patterns))
    joins = {topic: _plain(topic, app.topics.get(topic, {})) for topic in topics}
    _check_cursors(app.routes, joins)
    return Description(app.name, [_describe(route) for route in app.routes], joins, [route.name for route in app.gap_routes])


def _check_cursors(routes: Sequence[Route], joins: Mapping[str, Any]) -> None:
    with_cursor = [route for route in routes if route.cursor is not None]
    for topic, payload in joins.items():
        found = [route for route in with_cursor if route.pattern.covers(topic)]
        for route in found:
            if route.cursor != found[0].cursor:
                raise AppError(
                    f"topic {topic!r} has two cursors, {found[0].cursor} ({found[0].name}) and {route.cursor} ({route.name}): "
                    "its events have one order, so name one field"
                )
        if found and not isinstance(payload, dict):
            raise AppError(f"the join payload of {topic!r} is no object, so it has no place for the cursor: make it {{}} at least")


def _plain(topic: str, payload: Any) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(payload))
    except (TypeError, ValueError, RecursionError) as exc:
        raise AppError(f"the join payload of {topic!r} cannot be written as JSON ({exc}): use plain objects or structs") from exc


def _describe(route: Route) -> RouteDescription:
    payload = "any" if route.payload_type is Any else getattr(route.payload_type, "__name__", repr(route.payload_type))
    pattern = route.pattern
    options = (route.key, route.retries, route.timeout, route.overflow, route.cursor)
    return RouteDescription(pattern.topic, pattern.event, route.name, payload, *options)


def _import(name: str, app_dir: str) -> Any:
    try:
        return importlib.import_module(name)
    except RigError:
        raise
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(exc.name + ".")):
            raise AppError(f"there is no module {name!r} in {Path(app_dir).resolve()}: check the name, or set --app-dir") from exc
        if exc.name is None:
            raise AppError(f"module {name!r} cannot be imported: {_last_line(exc)}") from exc
        raise AppError(f"module {name!r} imports {exc.name!r}, which is not installed") from exc
    except Exception as exc:
        raise AppError(f"module {name!r} cannot be imported: {_last_line(exc)}") from exc


def _last_line(exc: Exception) -> str:
    """Return type, message and place of a failure in the user's code, in one line."""
    if isinstance(exc, SyntaxError):
        return f"{type(exc).__name__}: {exc.msg} ({exc.filename}:{exc.lineno})"
    frames = traceback.extract_tb(exc.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {exc}{where}"


def _apps_in(module: Any) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, App)] if hasattr(module, "__dict__") else []
    return f"did you mean {names[0]!r}?" if names else "write app = rig.App(…) in it"
