"""Does the host's side leave nothing open when its process ends?"""

import subprocess
import sys

# A broker that knows no job, a request to it over the connection that a process keeps, and the end of the process.
PROGRAM = """
import atexit
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from securemllib.spark.broker_client import BrokerAddress, broker_client

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments):
        pass

# What is registered first is called last.
atexit.register(lambda: print(len(client._http.pools), flush=True))
server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = broker_client(BrokerAddress(url=f"http://127.0.0.1:{server.server_port}"))
assert client is broker_client(BrokerAddress(url=f"http://127.0.0.1:{server.server_port}"))
print(client.head("job"), flush=True)
"""


def test_the_connection_to_the_broker_ends_with_the_process():
    """A process that asked its broker, over the one connection that it keeps, hangs up when it ends."""
    found = subprocess.run([sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout, found.stderr) == (0, "None\n0\n", "")
