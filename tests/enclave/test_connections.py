"""Does an enclave serve as many connections as it has threads for, and no more?"""

import socket
import threading

import pytest

from securemllib.attestation.insecure import InsecureAttester
from securemllib.enclave.server import Server
from securemllib.enclave.service import Enclave
from securemllib.errors import ConnectionLostError
from securemllib.wire.framing import receive, send
from securemllib.wire.task import REPLIES, End, Ended


@pytest.fixture
def port():
    """The port of an enclave that serves two connections at once."""
    server = Server(Enclave(InsecureAttester(bytes(32), ()), memory_limit=2**20), socket.create_server(("127.0.0.1", 0)), 2)
    thread = threading.Thread(target=server.serve, args=(0.1,))
    thread.start()
    yield server.port
    thread.join(10)


def test_a_connection_too_many_is_closed_and_the_others_go_on(port):
    """The third connection ends at once, the first two are answered, and a place that is given up is taken again."""

    def answered(connection):
        send(connection, End(job_id="job"))
        return isinstance(receive(connection, REPLIES)[0], Ended)

    address = ("127.0.0.1", port)
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        assert answered(first)
        assert answered(second)
        with socket.create_connection(address, timeout=10) as third:
            assert third.recv(1) == b""
        assert answered(first)
        second.close()
        for _ in range(200):
            with socket.create_connection(address, timeout=10) as again:
                try:
                    if answered(again):
                        return
                except ConnectionLostError:
                    # The server notices the place that was given up a moment later.
                    continue
        pytest.fail("the place was not taken again")
