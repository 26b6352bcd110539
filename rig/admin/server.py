"""
The server side of the admin API.

    GET  /livez      200 while the supervisor's loop turns
    GET  /status     where the run stands
    GET  /topics     where each topic stands
    POST /rotate     hand over to another connection; 409 if one stayed where it was
    POST /flight     write down what the flight recorders hold; 409 if one could not

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

log = structlog.get_logger()


async def serve(run: Run, directory: Path) -> None:
    """Serve a run on the socket of its state directory until cancelled. Where there can be none, say so and do without."""
    path = socket_path(directory)
    try:
        listener = listen(directory)
    except OSError as exc:
        log.warning(
            "no admin socket: rig status and rig topics cannot reach this run", path=str(path), reason=exc.strerror or str(exc)
        )
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


def application(run: Run) -> web.Application:
    """Return the routes over one run."""

    async def livez(request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def status(request: web.Request) -> web.Response:
        return _json(run.status())

    async def topics(request: web.Request) -> web.Response:
        return _json({"topics": await run.topics()})

    async def rotate(request: web.Request) -> web.Response:
        rotations = await run.rotate()
        return _json({"io": rotations}, status=_CONFLICT if any(rotation.failure for rotation in rotations) else 200)

    async def flight(request: web.Request) -> web.Response:
        dumps = await run.dump_flight()
        return _json({"io": dumps}, status=_CONFLICT if any(dump.error for dump in dumps) else 200)

    app = web.Application(middlewares=[_answer_errors])
    app.add_routes([web.get("/livez", livez), web.get("/status", status), web.get("/topics", topics)])
    app.add_routes([web.post("/rotate", rotate), web.post("/flight", flight)])
    return app


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as exc:
        return _json({"error": f"{request.method} {request.path}: {exc.reason}"}, status=exc.status)
    except Exception:
        log.exception("a request to the admin API failed", path=request.path)
        return _json({"error": "it failed: see the log of the run"}, status=500)


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
