"""What a piece of evidence weighs before a single pair was seen.

The means are those of a fit on the natural pairs of Quora Question Pairs (a share of them, beside
the similarity of an untuned encoder), rounded. A few hundred pairs of somebody's own hold too few
of some kinds to fit them afresh: there the prior stays about what it is.

`unknown` no pairs of English questions can tell: two texts whose words all look the same to the
encoder have a similarity of 1 that says nothing, so its weight takes them below any duplicate.
"""

from __future__ import annotations

PRIOR = {
    "negation": -1.0,
    "opposite": -1.3,
    "numbers": -2.1,
    "number_alone": -0.3,
    "names": -2.1,
    "name_alone": -0.8,
    "swapped": -0.8,
    "reordered": -0.5,
    "asks": -0.6,
    "unknown": -8.0,
}
PRIOR_DEVIATION = 0.5
