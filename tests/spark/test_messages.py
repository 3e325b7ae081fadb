"""Is a message that an enclave would hang up on an error with a next step, before it is sent?"""

import socket
import threading

import pytest

from securemllib.errors import CapacityError
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.wire.framing import receive, send
from securemllib.wire.task import FRAME_BYTES, REQUESTS, Advanced, Begin


def test_a_message_over_the_enclaves_limit_is_not_sent():
    """One byte over the limit is refused and nothing is sent; a message of the limit is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                receive(connection, REQUESTS)
                send(connection, Advanced(round=1))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with EnclaveClient("127.0.0.1", listener.getsockname()[1]) as client:
            with pytest.raises(CapacityError, match=str(FRAME_BYTES + 1)) as refused:
                client.ask(Begin(job_id="job"), bytes(FRAME_BYTES), b"1", types=(Advanced,))
            assert refused.value.error_code == "unavailable.capacity.message"
            assert client.ask(Begin(job_id="job"), bytes(FRAME_BYTES - 1), b"1", types=(Advanced,))[0] == Advanced(round=1)
        thread.join(5)
