"""Pairs that people really confuse, or really ask twice, judged with what is shipped.

The table, `real_cases.tsv`, says what a person would want: `duplicate`, or `other` for anything
but `duplicate`. Where the shipped encoder and calibration say something else, its last column has
what they say: a case that is known to be wrong. When one changes, for better or worse, the test
fails and prints the lines as they should be now; `python tests/api/test_real_cases.py` writes them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

TABLE = Path(__file__).with_name("real_cases.tsv")
DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Case:
    """Two texts.

    kind: what makes them hard; want: `duplicate` or `other`; gets: the verdict, where it is not
    what is wanted, else "".
    """

    kind: str
    left: str
    right: str
    want: str
    gets: str

    def judged(self, verdict: str) -> Case:
        """Return the case as it is to stand in the table if it gets this verdict."""
        right = (verdict == DUPLICATE) == (self.want == DUPLICATE)
        return replace(self, gets="" if right else verdict)

    @property
    def line(self) -> str:
        """Return its line of the table."""
        return f"{self.kind}\t{self.left}\t{self.right}\t{self.want}\t{self.gets}"


def read() -> list[Case]:
    """Return the cases of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Case(*row) for row in list(rows)[1:]]


def judged(service: httpx.Client, cases: list[Case]) -> list[Case]:
    """Return the cases as they are to stand in the table."""
    pairs = [{"left": case.left, "right": case.right} for case in cases]
    results = service.post("/v1/compare", json={"pairs": pairs}).json()["results"]
    return [case.judged(result["verdict"]) for case, result in zip(cases, results, strict=True)]


def test_every_real_case_gets_its_verdict(shared_service: httpx.Client) -> None:
    """As wanted, or as the table says it is known to be wrong; anything else is news."""
    cases = read()
    found = judged(shared_service, cases)
    news = [now.line for case, now in zip(cases, found, strict=True) if now != case]
    assert not news, "\n" + "\n".join(news)


def test_most_real_cases_are_right() -> None:
    """The table must not fill with excuses: at most a fifth is wrong, and nothing unreadable is.

    No pair is in it twice.
    """
    cases = read()
    wrong = [case for case in cases if case.gets]
    assert not [case for case in wrong if case.kind == "unknown"]
    assert len({(case.left, case.right) for case in cases}) == len(cases) >= 40
    assert len(wrong) <= len(cases) // 5


def main() -> None:
    """Write the table as it should be now."""
    from tempfile import TemporaryDirectory

    from tests.conftest import serving

    with TemporaryDirectory() as folder, serving(Path(folder)) as service:
        lines = [case.line for case in judged(service, read())]
    TABLE.write_text("\n".join(["kind\tleft\tright\twant\tgets", *lines]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
