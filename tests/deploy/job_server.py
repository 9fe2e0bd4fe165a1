"""An imitation of Ray's job server, which asks for a token, drops connections or falls silent."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

LOG = [f"line {number}\n" for number in range(1, 7)]


class JobServer:
    """One job. Each request for its log takes a step of `plan`; the last one stays.

    A step is how many lines are sent, and what happens then: "cut" (the connection breaks), "close"
    (it ends in order, though the job runs), "silent", "end" (the job ends) or "end, cut". At "502"
    the request for the log fails, at "down" that for the job's status.
    """

    def __init__(self) -> None:
        self.plan: list[tuple[int, str]] = [(len(LOG), "end")]
        self.token: str | None = None
        self.status = "SUCCEEDED"
        self.exit_code = 0
        self.package_bytes = b""  # a zip
        self.submitted: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.has_ended = self.is_stuck = False
        self.released = asyncio.Event()  # ends every silence
        self.url = ""

    def step(self) -> tuple[int, str]:
        return self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]

    @web.middleware
    async def check(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """As Ray's own: 401 without a token, 403 with a wrong one."""
        given = request.headers.get("Authorization")
        self.headers.append(given)
        if self.is_stuck:
            await self.released.wait()
        if self.token and not given:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        if self.token and given != f"Bearer {self.token}":
            return web.Response(status=403, text="Forbidden: Invalid authentication token")
        return await handler(request)

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"ray_version": "2.60.0", "version": "4"})

    async def package(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response(status=404)
        self.package_bytes = await request.read()
        return web.Response()

    async def submit(self, request: web.Request) -> web.Response:
        self.submitted.append(await request.json())
        return web.json_response({"job_id": "job_1", "submission_id": "job_1"})

    async def info(self, _: web.Request) -> web.StreamResponse:
        if self.plan[0][1] == "down":
            self.step()
            return web.Response(status=502, text="Bad Gateway")
        status = self.status if self.has_ended else "RUNNING"
        code = self.exit_code if self.has_ended else None
        job = {"type": "SUBMISSION", "status": status, "entrypoint": "", "driver_exit_code": code}
        return web.json_response(job)

    async def tail(self, request: web.Request) -> web.StreamResponse:
        count, then = self.step()
        if then == "502":
            return web.Response(status=502, text="Bad Gateway")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for start in range(0, count, 2):  # Ray sends several lines together
            await socket.send_str("".join(LOG[start : min(start + 2, count)]))
        if then == "silent":
            await self.released.wait()
        self.has_ended = self.has_ended or then.startswith("end")
        if then.endswith("cut"):
            request.transport.abort()
        return socket


@contextmanager
def job_server() -> Iterator[JobServer]:
    """A server at `url` for the block's time."""
    server = JobServer()
    app = web.Application(client_max_size=100 << 20, middlewares=[server.check])
    app.router.add_get("/api/version", server.version)
    app.router.add_route("*", "/api/packages/{protocol}/{name}", server.package)
    app.router.add_post("/api/jobs/", server.submit)
    app.router.add_get("/api/jobs/job_1", server.info)
    app.router.add_get("/api/jobs/job_1/logs/tail", server.tail)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    server.url = "http://{}:{}".format(*runner.addresses[0])
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(server.released.set)
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
