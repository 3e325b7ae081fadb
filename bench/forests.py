"""Trees of both sides as arrays, read from the text that both write alike, so that both are scored by the same code."""

import re

import numpy as np

__all__ = ["nodes_of_text", "sums_of_trees"]

_LINE = re.compile(r"^ *(?:(Tree) \d+ \(weight (\S+)\):|(If) \(feature (\d+) <= (\S+)\)|(Else) .*|(Predict): (\S+))$")


def nodes_of_text(text: str) -> np.ndarray:
    """Return ``(nodes, 6)``: tree weight of a root or NaN, feature of a split or -1, threshold, left and right child, prediction."""
    nodes: list[list[float]] = []
    waiting: list[int] = []
    weight = 1.0
    for line in text.rstrip("\n").split("\n")[1:]:
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"no line of a tree: {line!r}")
        if found[1]:
            weight = float(found[2])
        elif found[3] or found[7]:
            if waiting:
                # The left child stands behind its parent; the right one fills the place that is still empty.
                parent = nodes[waiting[-1]]
                parent[3 if parent[3] < 0 else 4] = len(nodes)
                if parent[4] >= 0:
                    waiting.pop()
            root, weight = weight, np.nan
            if found[3]:
                waiting.append(len(nodes))
                nodes.append([root, float(found[4]), float(found[5]), -1.0, -1.0, 0.0])
            else:
                nodes.append([root, -1.0, 0.0, -1.0, -1.0, float(found[8])])
    return np.array(nodes)


def sums_of_trees(features: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the weighted sum of the trees' predictions, ``(n,)``, of rows ``(n, d)``."""
    total = np.zeros(len(features))
    split, left, right = (nodes[:, column].astype(np.int64) for column in (1, 3, 4))
    for root in np.flatnonzero(~np.isnan(nodes[:, 0])):
        at = np.full(len(features), root)
        going = np.arange(len(features))
        while (going := going[split[at[going]] >= 0]).size:
            node = at[going]
            at[going] = np.where(features[going, split[node]] <= nodes[node, 2], left[node], right[node])
        total += nodes[root, 0] * nodes[at, 5]
    return total
