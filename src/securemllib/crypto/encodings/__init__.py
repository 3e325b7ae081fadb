"""Column encodings: ciphertexts of a column on which plain Spark SQL can still answer some questions.

One module an encoding; each says in its docstring what it ``Answers:`` and what it ``Reveals:`` to whoever holds the companion, and
`securemllib data plan` and the page on leakage print just that.

Runs in: the owner's and the analyst's own machine; no module of it is part of the enclave.
Sees: plaintext columns, and the keys of the columns.
"""
