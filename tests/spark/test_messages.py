"""Is a message that an enclave would hang up on an error with a next step, before it is sent?"""

import socket
import threading

import pytest

from securemllib.errors import CapacityError
from securemllib.spark.enclave_client import EnclaveClient
from securemllib.wire.framing import receive, send
from securemllib.wire.task import REQUESTS, Advanced, Begin


def test_a_message_over_the_enclaves_limit_names_the_bound():
    """One byte over the limit is refused with the setting to raise and nothing is sent; a message of the limit is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                receive(connection, REQUESTS)
                send(connection, Advanced(round=1))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with EnclaveClient("127.0.0.1", listener.getsockname()[1]) as client:
            client.limit = 1000
            with pytest.raises(CapacityError, match="1001") as refused:
                client.ask(Begin(job_id="job"), bytes(1001), types=(Advanced,))
            assert refused.value.error_code == "unavailable.capacity.message"
            assert "spark.securemllib.enclave.memory" in refused.value.next_step
            assert client.ask(Begin(job_id="job"), bytes(1000), types=(Advanced,))[0] == Advanced(round=1)
        thread.join(5)
