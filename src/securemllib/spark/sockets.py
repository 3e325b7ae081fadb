"""TCP as relays use it: no delay for small frames, and a dead peer is noticed."""

import socket

from securemllib.errors import ConnectionLostError, UnavailableError

__all__ = ["connect", "listen", "tuned"]

_CONNECT_SECONDS = 10.0
# A peer whose machine is gone sends no reset: it is given up after 15 + 3 * 5 seconds.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


def tuned(connection: socket.socket) -> socket.socket:
    """Return the connection without send delay and with keep-alive."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection


def connect(host: str, port: int) -> socket.socket:
    """Return a connection; `ConnectionLostError` where nobody listens."""
    try:
        return tuned(socket.create_connection((host, port), timeout=_CONNECT_SECONDS))
    except OSError as error:
        raise ConnectionLostError(f"Nothing answers at {host}:{port}.") from error


def listen(host: str, ports: tuple[int, int]) -> socket.socket:
    """Return a listener on the first free port of the range; ``(0, 0)`` is any port."""
    for port in range(ports[0], ports[1] + 1):
        try:
            return socket.create_server((host, port), backlog=256)
        except OSError:
            continue
    raise UnavailableError(
        f"No port from {ports[0]} to {ports[1]} is free on {host}.", next_step="Widen spark.securemllib.ports.", code="unavailable.ports"
    )
