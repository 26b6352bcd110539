"""
The server side of the admin API: JSON over HTTP. `GET /` lists what there is.

What must stay true: nothing here changes a run but by `Run`; a request that fails ends nothing but itself.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from rig.admin.address import listen, socket_path
from rig.admin.run import Run

_ENDING = 1.0
"""Seconds that a request has to end when the run does."""
_CONFLICT = 409

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


async def serve(run: Run, directory: Path) -> None:
    """Serve a run on the socket of its state directory until cancelled. Where there can be none, say so and do without."""
    path = socket_path(directory)
    try:
        listener = listen(directory)
    except OSError as exc:
        log.warning("no admin socket: rig topics cannot reach this run", path=str(path), reason=exc.strerror or str(exc))
        return
    runner = web.AppRunner(application(run), access_log=None, shutdown_timeout=_ENDING)
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        log.debug("admin socket", path=str(path))
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()
        listener.close()
        with contextlib.suppress(OSError):
            path.unlink()


class AdminApi:
    """The handlers, over one run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def index(self, request: web.Request) -> web.Response:
        """List the requests that are understood."""
        return _json({f"{method} {path}": handler.__doc__ for method, path, handler in self.table()})

    async def livez(self, request: web.Request) -> web.Response:
        """Answer, as long as the supervisor does."""
        return _json({"alive": True})

    async def status(self, request: web.Request) -> web.Response:
        """Say where the run stands: its connections, its workers, its counts, what is stored."""
        return _json(self._run.status())

    async def topics(self, request: web.Request) -> web.Response:
        """Say where each topic stands."""
        return _json({"topics": await self._run.topics()})

    async def rotate(self, request: web.Request) -> web.Response:
        """Hand over to another connection; 409 if one stayed where it was."""
        rotations = await self._run.rotate()
        return _json({"io": rotations}, status=_CONFLICT if any(rotation.failure for rotation in rotations) else 200)

    async def flight(self, request: web.Request) -> web.Response:
        """Write down what the flight recorders hold; 409 if one could not."""
        dumps = await self._run.dump_flight()
        return _json({"io": dumps}, status=_CONFLICT if any(dump.error for dump in dumps) else 200)

    def table(self) -> list[tuple[str, str, _Handler]]:
        """Return method, path and handler of everything that is understood."""
        return [
            ("GET", "/", self.index),
            ("GET", "/livez", self.livez),
            ("GET", "/status", self.status),
            ("GET", "/topics", self.topics),
            ("POST", "/rotate", self.rotate),
            ("POST", "/flight", self.flight),
        ]


def application(run: Run) -> web.Application:
    """Return the routes over one run."""
    app = web.Application(middlewares=[_answer_errors])
    add = {"GET": app.router.add_get, "POST": app.router.add_post}
    for method, path, handler in AdminApi(run).table():
        add[method](path, handler)
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as exc:
        return _json({"error": f"{request.method} {request.path}: {exc.reason}"}, status=exc.status)
    except Exception:
        log.exception("a request to the admin API failed", path=request.path)
        return _json({"error": "it failed: see the log of the run"}, status=500)


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
