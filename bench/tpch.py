"""TPC-H in small: tables after clause 4.2.3 of its specification (3.0.1), and eight of its queries in a form that encodings permit.

Drawn by numpy from one seed: key ranges, rows a scale factor, date ranges, prices and the lists of words are the specification's; comments,
addresses and phone numbers, on which no query computes, are shortened to numbered texts. dbgen's own random numbers are not reproduced.

Three things an encoding cannot do move to the owner, who adds a column before the table is encoded:

- products of columns: ``l_disc_price`` is ``l_extendedprice * (1 - l_discount)``, ``l_charge`` is that times ``1 + l_tax``, and
  ``l_disc_amount`` is ``l_extendedprice * l_discount``;
- comparing two columns by size: ``l_on_time`` says ``l_shipdate < l_commitdate AND l_commitdate < l_receiptdate``.

``QUERIES`` are what plain Spark answers and `securemllib` rewrites, one text for both. Query 14 asks for the prefix of ``p_type``
by LIKE, and query 12 counts by CASE, as in the specification.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ENCODINGS", "QUERIES", "TABLES", "Tables", "make_tables"]

TABLES = ("region", "nation", "supplier", "customer", "part", "orders", "lineitem")
Tables = dict[str, pa.Table]

_NATIONS = (
    ("ALGERIA", 0), ("ARGENTINA", 1), ("BRAZIL", 1), ("CANADA", 1), ("EGYPT", 4), ("ETHIOPIA", 0), ("FRANCE", 3), ("GERMANY", 3),
    ("INDIA", 2), ("INDONESIA", 2), ("IRAN", 4), ("IRAQ", 4), ("JAPAN", 2), ("JORDAN", 4), ("KENYA", 0), ("MOROCCO", 0),
    ("MOZAMBIQUE", 0), ("PERU", 1), ("CHINA", 2), ("ROMANIA", 3), ("SAUDI ARABIA", 4), ("VIETNAM", 2), ("RUSSIA", 3),
    ("UNITED KINGDOM", 3), ("UNITED STATES", 1),
)  # fmt: skip
_REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
_SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "MACHINERY", "HOUSEHOLD")
_PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
_INSTRUCTIONS = ("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")
_MODES = ("REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB", "AIR REG")
_TYPES = tuple(
    f"{a} {b} {c}"
    for a in ("STANDARD", "SMALL", "MEDIUM", "LARGE", "ECONOMY", "PROMO")
    for b in ("ANODIZED", "BURNISHED", "PLATED", "POLISHED", "BRUSHED")
    for c in ("TIN", "NICKEL", "BRASS", "STEEL", "COPPER")
)
_CONTAINERS = tuple(
    f"{a} {b}" for a in ("SM", "LG", "MED", "JUMBO", "WRAP") for b in ("CASE", "BOX", "BAG", "JAR", "PKG", "PACK", "CAN", "DRUM")
)
_BRANDS = tuple(f"Brand#{m}{n}" for m in range(1, 6) for n in range(1, 6))
_START, _END, _TODAY = (np.datetime64(day, "D").astype(np.int32) for day in ("1992-01-01", "1998-08-02", "1995-06-17"))
_LINES = 7


def make_tables(scale: float, seed: int = 1) -> Tables:
    """Return the tables by name; ``scale`` 1 has about 6 million rows in ``lineitem``."""
    random = np.random.default_rng(seed)
    suppliers, customers, parts, orders = (max(10, round(base * scale)) for base in (10_000, 150_000, 200_000, 1_500_000))
    region = pa.table({"r_regionkey": _keys(5, 0), "r_name": _texts(_REGIONS)})
    nation = pa.table(
        {
            "n_nationkey": _keys(25, 0),
            "n_name": _texts([n for n, _ in _NATIONS]),
            "n_regionkey": pa.array([r for _, r in _NATIONS], pa.int64()),
        }
    )
    supplier = pa.table({"s_suppkey": _keys(suppliers), "s_nationkey": random.integers(0, 25, suppliers)})
    customer = pa.table(
        {
            "c_custkey": _keys(customers),
            "c_name": _numbered("Customer#", customers),
            "c_nationkey": random.integers(0, 25, customers),
            "c_acctbal": _money(random.integers(-99_999, 1_000_000, customers)),
            "c_mktsegment": _drawn(random, _SEGMENTS, customers),
            "c_phone": _numbered("11-", customers),
        }
    )
    price = 90_000 + (np.arange(1, parts + 1) // 10) % 20_001 + 100 * (np.arange(1, parts + 1) % 1_000)
    part = pa.table(
        {
            "p_partkey": _keys(parts),
            "p_brand": _drawn(random, _BRANDS, parts),
            "p_type": _drawn(random, _TYPES, parts),
            "p_size": random.integers(1, 51, parts),
            "p_container": _drawn(random, _CONTAINERS, parts),
        }
    )
    dates = random.integers(_START, _END + 1, orders).astype(np.int32)
    ordered = pa.table(
        {
            "o_orderkey": _keys(orders),
            "o_custkey": random.integers(1, customers + 1, orders),
            "o_orderdate": pa.array(dates, pa.date32()),
            "o_orderpriority": _drawn(random, _PRIORITIES, orders),
            "o_shippriority": pa.array(np.zeros(orders, np.int64)),
        }
    )
    tables = (region, nation, supplier, customer, part, ordered, _lines(random, dates, price, suppliers))
    return dict(zip(TABLES, tables, strict=True))


def _lines(random: np.random.Generator, dates: np.ndarray, price: np.ndarray, suppliers: int) -> pa.Table:
    counts = random.integers(1, _LINES + 1, len(dates))
    order = np.repeat(np.arange(len(dates)), counts)
    rows = len(order)
    partkey = random.integers(1, len(price) + 1, rows)
    quantity, discount, tax = (random.integers(low, high, rows) for low, high in ((1, 51), (0, 11), (0, 9)))
    extended = quantity * price[partkey - 1]
    ship = dates[order] + random.integers(1, 122, rows).astype(np.int32)
    commit = dates[order] + random.integers(30, 91, rows).astype(np.int32)
    receipt = ship + random.integers(1, 31, rows).astype(np.int32)
    returned = np.where(receipt <= _TODAY, np.where(random.random(rows) < 0.5, "R", "A"), "N")
    discounted = extended * (100 - discount)
    return pa.table(
        {
            "l_orderkey": order + 1,
            "l_partkey": partkey,
            "l_suppkey": random.integers(1, suppliers + 1, rows),
            "l_quantity": _money(quantity * 100),
            "l_extendedprice": _money(extended),
            "l_discount": _money(discount),
            "l_returnflag": pa.array(returned),
            "l_linestatus": pa.array(np.where(ship > _TODAY, "O", "F")),
            "l_shipdate": pa.array(ship, pa.date32()),
            "l_receiptdate": pa.array(receipt, pa.date32()),
            "l_shipinstruct": _drawn(random, _INSTRUCTIONS, rows),
            "l_shipmode": _drawn(random, _MODES, rows),
            "l_disc_price": _decimal(discounted, 4),
            "l_charge": _decimal(discounted * (100 + tax), 6),
            "l_disc_amount": _decimal(extended * discount, 4),
            "l_on_time": pa.array((ship < commit) & (commit < receipt)),
        }
    )


def _keys(count: int, first: int = 1) -> pa.Array:
    return pa.array(np.arange(first, first + count))


def _texts(texts: tuple[str, ...] | list[str]) -> pa.Array:
    return pa.array(list(texts), pa.string())


def _numbered(prefix: str, count: int) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(pa.array(np.arange(1, count + 1)).cast(pa.string()), 9, "0"), "")


def _drawn(random: np.random.Generator, words: tuple[str, ...], count: int) -> pa.Array:
    return _texts(words).take(pa.array(random.integers(0, len(words), count)))


def _money(cents: np.ndarray) -> pa.Array:
    return _decimal(cents, 2)


def _decimal(units: np.ndarray, scale: int) -> pa.Array:
    """Return decimals of 18 digits from their units, which are the low words of 128-bit numbers."""
    words = np.stack([units.astype(np.int64), units.astype(np.int64) >> 63], axis=1)
    return pa.Array.from_buffers(pa.decimal128(18, scale), len(units), [None, pa.py_buffer(words)])


ENCODINGS = {
    "region": "{r_regionkey: {encoding: deterministic, join_group: region}, r_name: deterministic}",
    "nation": """{n_nationkey: {encoding: deterministic, join_group: nation}, n_name: deterministic,
        n_regionkey: {encoding: deterministic, join_group: region}}""",
    "supplier": "{s_suppkey: {encoding: deterministic, join_group: supplier}, s_nationkey: {encoding: deterministic, join_group: nation}}",
    "customer": """{c_custkey: {encoding: deterministic, join_group: customer}, c_name: deterministic, c_phone: deterministic,
        c_nationkey: {encoding: deterministic, join_group: nation}, c_acctbal: order, c_mktsegment: deterministic}""",
    "part": """{p_partkey: {encoding: deterministic, join_group: part}, p_brand: deterministic, p_type: order, p_size: order,
        p_container: deterministic}""",
    "orders": """{o_orderkey: {encoding: deterministic, join_group: orders}, o_custkey: {encoding: deterministic, join_group: customer},
        o_orderdate: order, o_orderpriority: deterministic, o_shippriority: clear}""",
    "lineitem": """{l_orderkey: {encoding: deterministic, join_group: orders}, l_partkey: {encoding: deterministic, join_group: part},
        l_suppkey: {encoding: deterministic, join_group: supplier}, l_quantity: [order, additive], l_extendedprice: additive,
        l_discount: [order, additive], l_returnflag: order, l_linestatus: order, l_shipdate: order, l_receiptdate: order,
        l_shipinstruct: deterministic, l_shipmode: deterministic, l_disc_price: additive, l_charge: additive, l_disc_amount: additive,
        l_on_time: deterministic}""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query.

    Attributes:
        text: Spark SQL.
        differs: What of the specification's text it has otherwise, beside the owner's columns.
    """

    text: str
    differs: str


QUERIES = {
    1: Query(
        text="""SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base_price,
            sum(l_disc_price) AS sum_disc_price, sum(l_charge) AS sum_charge, avg(l_quantity) AS avg_qty,
            avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS count_order
            FROM lineitem WHERE l_shipdate <= date '1998-12-01' - interval '90' day
            GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus""",
        differs="l_disc_price and l_charge for the products",
    ),
    3: Query(
        text="""SELECT l_orderkey, sum(l_disc_price) AS revenue, o_orderdate, o_shippriority
            FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey
            WHERE c_mktsegment = 'BUILDING' AND o_orderdate < date '1995-03-15' AND l_shipdate > date '1995-03-15'
            GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate, l_orderkey LIMIT 10""",
        differs="l_disc_price for the product; sorted by sums once they are opened; l_orderkey breaks ties",
    ),
    5: Query(
        text="""SELECT n_name, sum(l_disc_price) AS revenue
            FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey
            JOIN supplier ON l_suppkey = s_suppkey AND c_nationkey = s_nationkey
            JOIN nation ON s_nationkey = n_nationkey JOIN region ON n_regionkey = r_regionkey
            WHERE r_name = 'ASIA' AND o_orderdate >= date '1994-01-01' AND o_orderdate < date '1994-01-01' + interval '1' year
            GROUP BY n_name ORDER BY revenue DESC""",
        differs="l_disc_price for the product; sorted by sums once they are opened",
    ),
    6: Query(
        text="""SELECT sum(l_disc_amount) AS revenue FROM lineitem
            WHERE l_shipdate >= date '1994-01-01' AND l_shipdate < date '1994-01-01' + interval '1' year
            AND l_discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01 AND l_quantity < 24""",
        differs="l_disc_amount for the product",
    ),
    10: Query(
        text="""SELECT c_custkey, c_name, sum(l_disc_price) AS revenue, c_acctbal, n_name, c_phone
            FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey
            JOIN nation ON c_nationkey = n_nationkey
            WHERE o_orderdate >= date '1993-10-01' AND o_orderdate < date '1993-10-01' + interval '3' month AND l_returnflag = 'R'
            GROUP BY c_custkey, c_name, c_acctbal, c_phone, n_name ORDER BY revenue DESC, c_custkey LIMIT 20""",
        differs="l_disc_price for the product; no address and comment; sorted by sums once they are opened; c_custkey breaks ties",
    ),
    12: Query(
        text="""SELECT l_shipmode,
            sum(CASE WHEN o_orderpriority = '1-URGENT' OR o_orderpriority = '2-HIGH' THEN 1 ELSE 0 END) AS high_line_count,
            sum(CASE WHEN o_orderpriority <> '1-URGENT' AND o_orderpriority <> '2-HIGH' THEN 1 ELSE 0 END) AS low_line_count
            FROM orders JOIN lineitem ON o_orderkey = l_orderkey
            WHERE l_shipmode IN ('MAIL', 'SHIP') AND l_on_time = true
            AND l_receiptdate >= date '1994-01-01' AND l_receiptdate < date '1994-01-01' + interval '1' year
            GROUP BY l_shipmode ORDER BY l_shipmode""",
        differs="l_on_time for the two comparisons of dates; sorted once ship modes are opened",
    ),
    14: Query(
        text="""SELECT 100.00 * sum(CASE WHEN p_type LIKE 'PROMO%' THEN l_disc_price ELSE 0 END) / sum(l_disc_price) AS promo_revenue
            FROM lineitem JOIN part ON l_partkey = p_partkey
            WHERE l_shipdate >= date '1995-09-01' AND l_shipdate < date '1995-09-01' + interval '1' month""",
        differs="l_disc_price for the product",
    ),
    19: Query(
        text="""SELECT sum(l_disc_price) AS revenue FROM lineitem JOIN part ON p_partkey = l_partkey
            WHERE l_shipmode IN ('AIR', 'AIR REG') AND l_shipinstruct = 'DELIVER IN PERSON'
            AND (p_brand = 'Brand#12' AND p_container IN ('SM CASE', 'SM BOX', 'SM PACK', 'SM PKG')
                AND l_quantity BETWEEN 1 AND 11 AND p_size BETWEEN 1 AND 5
              OR p_brand = 'Brand#23' AND p_container IN ('MED BAG', 'MED BOX', 'MED PKG', 'MED PACK')
                AND l_quantity BETWEEN 10 AND 20 AND p_size BETWEEN 1 AND 10
              OR p_brand = 'Brand#34' AND p_container IN ('LG CASE', 'LG BOX', 'LG PACK', 'LG PKG')
                AND l_quantity BETWEEN 20 AND 30 AND p_size BETWEEN 1 AND 15)""",
        differs="l_disc_price for the product; the conditions that the specification repeats in each branch stand before them",
    ),
}
