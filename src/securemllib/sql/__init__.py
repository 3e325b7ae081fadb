"""SQL over encoded columns: a query is parsed, checked against what each column's encoding can answer, and rewritten for plain Spark.

Runs in: the Spark driver; the host.
Sees: the query, names and types of columns, which encodings they have, and the codes of the query's literals; no key and no value.
"""
