"""Entries of an audit log that are verified a CPU second, from the lines of an export: ``.venv/bin/python bench/audit.py``."""

import argparse
import json
import time
from hashlib import sha256

from securemllib.broker.audit_log import AuditHead, read_lines, verify_log
from securemllib.crypto.identity import PrivateIdentity
from securemllib.wire.encoding import length_prefixed

# As long as the entries of a broker are.
_PADDING = "x" * 300
_PREFIX = length_prefixed("securemllib/audit-entry/v1")


def main() -> None:
    """Make a log, verify it, and print."""
    parser = argparse.ArgumentParser(prog="bench/audit.py", description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    options = parser.parse_args()
    broker = PrivateIdentity.generate("broker")
    lines = _lines(broker, options.entries)
    start = time.process_time()
    verify_log(*read_lines(lines), broker.public)
    seconds = time.process_time() - start
    print(f"{options.entries:,} entries verified in {seconds:.2f} CPU s: {options.entries / seconds:,.0f} a second")


def _lines(broker: PrivateIdentity, count: int) -> list[str]:
    lines, previous = [], bytes(32)
    for sequence in range(1, count + 1):
        payload = json.dumps({"sequence": sequence, "event": "job", "decision": "accepted", "padding": _PADDING})
        previous = sha256(_PREFIX + previous + payload.encode()).digest()
        lines.append(json.dumps({"sequence": sequence, "payload": payload, "digest": previous.hex()}))
    head = broker.sign(AuditHead(broker=broker.public.fingerprint, sequence=count, entry=previous))
    return [*lines, json.dumps({"head": head.to_bytes().hex()})]


if __name__ == "__main__":
    main()
