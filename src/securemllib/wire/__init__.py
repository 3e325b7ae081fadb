"""Bytes that cross a trust boundary: every message, its one encoding and its one strict decoder.

Runs in: every process of the system.
Sees: messages; it is inert: no keys, no decisions, the standard library and one CBOR library.
"""
