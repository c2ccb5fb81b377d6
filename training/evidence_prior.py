"""What a piece of evidence weighs before a single pair was seen.

The means are those of a fit on the natural pairs of Quora Question Pairs (a share of them, beside
the similarity of an untuned encoder), rounded. A few hundred pairs of somebody's own hold too few
of some kinds to fit them afresh: there the prior stays about what it is. The deviation is small
enough that one template asked eighty times over does not decide what a name weighs.

`unknown` no pairs of English questions can tell: two texts whose words all look the same to the
encoder have a similarity of 1 that says nothing, so its weight takes them below any duplicate.
"""

from __future__ import annotations

PRIOR = {
    "negation": -1.5,
    "opposite": -1.9,
    "numbers": -2.8,
    "number_alone": -1.1,
    "names": -2.6,
    "name_alone": -1.3,
    "swapped": -2.8,
    "reordered": -0.5,
    "asks": -0.9,
    "unknown": -8.0,
}
PRIOR_DEVIATION = 0.2
