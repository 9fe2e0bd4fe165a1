"""The web server of a study: the page, its pictures, and ratings that are durable."""

import hmac
import json
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from data_pipeline.platform.errors import UserError
from srgan.study.files import is_valid, read_key, stimulus_key, study_id
from srgan.study.limits import RequestLimit
from srgan.study.rater_view import PAGE, SCRIPTS, STYLE, study_facts
from srgan.study.records import Rating
from srgan.study.requests import (
    RefusedError,
    check_origin,
    parse_answer,
    parse_display,
    parse_number,
    read_json,
)
from srgan.study.store import Rater, RatingStore

_LOCAL = ("127.0.0.1", "localhost", "::1")
_SHORTEST_TOKEN = 16
_COOKIE_SECONDS = 90 * 24 * 3600
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


class StudyServer:
    """Answers a study's requests.

    Args:
        study: STUDY.
        token: The word that new raters need; None lets everybody in.

    Raises:
        UserError: If there is no such study, or a picture is gone.
    """

    def __init__(self, study: Path, token: str | None) -> None:
        self._key, self._identity, self._token = read_key(study), study_id(study), token
        # All are in memory: none takes longer than others.
        self._pictures = {name: _read(study / stimulus_key(name)) for name in self._key.stimuli}
        # Browsers keep one jar for all ports of a host: two studies must not share a cookie.
        self._cookie = f"rater-{self._identity}"
        self._store = RatingStore(study, self._identity, len(self._key.plans))
        self._limit = RequestLimit()

    def app(self, *, is_local: bool) -> Starlette:
        """The application.

        A local one answers to local names only: a page of another site could make its own name lead
        here.
        """
        files = {"/": "index.html"} | {f"/{name}": name for name in (STYLE, *SCRIPTS)}
        # Open to all: raters come from links on other sites, and many may share an address.
        routes = [Route(path, _file(name)) for path, name in files.items()]
        routes += [
            Route("/api/study", self._guarded(self._study)),
            Route("/api/join", self._guarded(self._join), methods=["POST"]),
            Route("/api/display", self._guarded(self._display), methods=["POST"]),
            Route("/api/rate", self._guarded(self._rate), methods=["POST"]),
            Route("/api/picture/{trial}/{place}", self._guarded(self._picture)),
        ]
        app = Starlette(routes=routes)
        if is_local:
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOCAL, "[::1]"])
        return app

    def close(self) -> None:
        """Closes the ratings' file."""
        self._store.close()

    def _guarded(
        self, answer: Callable[[Request, Rater | None], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Refuses what comes too often or from elsewhere."""

        async def guarded(request: Request) -> Response:
            try:
                rater = await self._rater(request)
                who = rater.name if rater else str(request.client and request.client.host)
                if wait := self._limit.seconds_to_wait(who, time.monotonic()):
                    raise RefusedError(429, f"too many requests; wait {wait:.1f} s")
                check_origin(request)
                response = await answer(request, rater)
            except RefusedError as error:
                response = JSONResponse({"problem": str(error)}, error.status)
            response.headers.update(_HEADERS)
            return response

        return guarded

    async def _rater(self, request: Request) -> Rater | None:
        token = request.cookies.get(self._cookie)
        return await run_in_threadpool(self._store.find, token) if token else None

    async def _study(self, _: Request, rater: Rater | None) -> Response:
        """What the page shows at its start; a browser without a rater gets any plan's length."""
        facts = study_facts(self._key, self._identity, rater.plan if rater else 0)
        facts |= {"rater": None, "hasDisplay": False, "answered": []}
        if rater:
            answered = await run_in_threadpool(self._store.answered, rater.name)
            facts |= {"rater": rater.name, "hasDisplay": rater.has_display, "answered": answered}
        return JSONResponse(facts)

    async def _join(self, request: Request, rater: Rater | None) -> Response:
        given = (await read_json(request)).get("token")
        if rater:
            return await self._study(request, rater)
        if self._token is not None and not _is_equal(given, self._token):
            raise RefusedError(403, "the token is wrong")
        secret, rater = await run_in_threadpool(self._store.join)
        response = await self._study(request, rater)
        response.set_cookie(
            self._cookie,
            secret,
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.headers["origin"].startswith("https:"),  # TLS may end at a proxy
        )
        return response

    async def _display(self, request: Request, rater: Rater | None) -> Response:
        known = _known(rater)
        display = json.dumps(parse_display(await read_json(request)))
        await run_in_threadpool(self._store.set_display, known.name, display)
        return JSONResponse({})

    async def _rate(self, request: Request, rater: Rater | None) -> Response:
        known = _known(rater)
        answer = parse_answer(await read_json(request))
        rating = Rating(known.name, known.plan, *answer)
        if not is_valid(self._key, rating):
            raise RefusedError(400, "no such trial or answer")
        if await run_in_threadpool(self._store.add, rating) == "other":
            raise RefusedError(409, "was answered before; the first answer stays")
        return JSONResponse({})

    async def _picture(self, request: Request, rater: Rater | None) -> Response:
        plan = self._key.plans[_known(rater).plan]
        trial, place = (parse_number(request.path_params[one]) for one in ("trial", "place"))
        if trial >= len(plan) or place >= len(plan[trial].stimuli):
            raise RefusedError(404, "no such picture")
        return Response(self._pictures[plan[trial].stimuli[place]], media_type="image/png")


def _is_equal(given: Any, token: str) -> bool:
    """Whether the tokens are equal; takes as long for any wrong one."""
    return (
        isinstance(given, str)
        and given.isascii()
        and hmac.compare_digest(given.encode(), token.encode())
    )


def _known(rater: Rater | None) -> Rater:
    if rater is None:
        raise RefusedError(401, "no rater of this study")
    return rater


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response(_page_file(name), 200, _HEADERS, _KINDS[Path(name).suffix])

    return answer


@lru_cache
def _page_file(name: str) -> bytes:
    return (PAGE / name).read_bytes()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: does not read: {error.strerror}; make the study anew") from error


def serve(study: Path, host: str, port: int, token: str | None, say: Callable[[str], Any]) -> None:
    """Serves a study until the process is told to stop.

    Args:
        study: STUDY.
        host: The address to listen on.
        port: 0 takes a free one.
        token: The word that new raters need. It is in their link, behind the #, which browsers
            send to no server.
        say: Gets the link when the server listens.

    Raises:
        UserError: If the address is not local and there is no token, or it cannot be listened on.
    """
    import uvicorn

    is_local = host in _LOCAL
    if not is_local and token is None:
        raise UserError(f"--host {host}: others can reach it; pass --token, a word for raters")
    if token is not None and (
        len(token) < _SHORTEST_TOKEN or not (token.isascii() and token.isalnum())
    ):
        raise UserError(f"--token: pass at least {_SHORTEST_TOKEN} letters and digits, at random")
    server = StudyServer(study, token)
    config = uvicorn.Config(
        server.app(is_local=is_local),
        log_config=None,  # its own would close the handlers of this process
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=1000,
        timeout_graceful_shutdown=5,
    )
    shown = f"[{host}]" if ":" in host else host
    with closing(server), closing(_listening(host, port)) as opened:
        say(f"http://{shown}:{opened.getsockname()[1]}/" + (f"#{token}" if token else ""))
        with suppress(KeyboardInterrupt):  # the usual end; uvicorn has answered all requests
            uvicorn.Server(config).run([opened])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens: from here on a rater who comes waits, and is not refused."""
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a restart
        opened.bind((host, port))
        opened.listen()
    except OSError as error:
        opened.close()
        raise UserError(f"--host {host} --port {port}: {error.strerror}; pass others") from error
    return opened
