"""Refuses request bodies that are too large, and addresses that ask too often, before anything reads what they sent."""

from collections.abc import Callable
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from securemllib.broker.rates import Rates
from securemllib.errors import RateLimitError

__all__ = ["AddressLimit", "BodyLimit"]


class AddressLimit:
    """ASGI middleware that bounds the requests of a client's address.

    Args:
        app: The application.
        rates: Counts them.
        refusal: Makes the answer to a request over the rate.
    """

    def __init__(self, app: ASGIApp, *, rates: Rates, refusal: Callable[[RateLimitError], ASGIApp]) -> None:
        self._app = app
        self._rates = rates
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless its address is over the rate."""
        answer = self._app
        if scope["type"] == "http" and scope.get("client"):
            try:
                self._rates.check_address(scope["client"][0])
            except RateLimitError as error:
                answer = self._refusal(error)
        await answer(scope, receive, send)


class BodyLimit:
    """ASGI middleware that bounds the bytes of a body, whether they are announced or not.

    Args:
        app: The application.
        limit: Bytes for every path.
        large: Bytes for the paths directly under ``large_prefix``: enrolments hold whole manifests.
        large_prefix: See ``large``.
    """

    def __init__(self, app: ASGIApp, *, limit: int, large: int, large_prefix: str) -> None:
        self._app = app
        self._limit = limit
        self._large = large
        self._large_prefix = large_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prefix, _, name = scope["path"].rpartition("/")
        limit = self._large if prefix == self._large_prefix and name else self._limit
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request has more than {limit} bytes")
            return message

        await self._app(scope, counted, send)
