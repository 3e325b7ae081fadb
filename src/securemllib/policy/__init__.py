"""What owners allow, and the one decision about it: the broker enforces it, and an owner's `policy explain`, `test` and `diff` ask it.

Runs in: the key broker; the owner's machine.
Sees: policies, job specifications and the names of columns; never keys or rows.
"""
