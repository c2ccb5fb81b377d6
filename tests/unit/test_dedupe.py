"""`deja dedupe`: a file in, a file without its duplicates out, with the shipped encoder."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from app.deduping import grouping
from app.domain.anchors import CollectionSettings
from app.usecases.grouping import Criteria
from app.usecases.matching import Judge
from tests.unit.fakes import CALIBRATION, WordEncoder

RESET = [
    "How do I reset my password?",
    "How can I reset my password?",
    "how do i reset my PASSWORD",
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["dedupe", *map(str, arguments)], env={"COLUMNS": "120"})


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_csv_file_is_written_without_its_duplicates(tmp_path: Path) -> None:
    """Byte for byte: quotes, line ends and further columns stay; the groups say who went where."""
    content = (
        b"\xef\xbb\xbfid,text,note\r\n"
        b'a,How do I reset my password?,"x, y"\r\n'
        b'b,"Where is\nthe station?",\r\n'
        b"c,How can I reset my password?,z\n"
        b"d,how do i reset my password,\r\n"
        b"e,What is a good name for a cat?,last"
    )
    file, told = tmp_path / "q.csv", tmp_path / "groups.jsonl"
    file.write_bytes(content)
    result = run(file, "--groups", told)
    assert result.exit_code == 0, result.stderr
    assert "5 rows in " in result.stdout
    assert "3 kept, 2 duplicates left out (1 of equal text) in 1 groups" in result.stdout
    lines = content.split(b"\n")
    assert (tmp_path / "q.deduped.csv").read_bytes() == b"\n".join(lines[:4] + lines[6:])
    (group,) = map(json.loads, told.read_text(encoding="utf-8").splitlines())
    assert group["size"] == 3
    assert group["canonical"] == {"line": 2, "id": "a", "text": "How do I reset my password?"}
    equal, near = group["members"]
    assert (equal["line"], equal["id"], equal["probability"]) == (6, "d", 1.0)
    assert (near["line"], near["id"], near["verdict"]) == (5, "c", "duplicate")
    assert 0.9 < near["similarity"] < 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ["txt", "tsv", "jsonl"])
def test_every_format(tmp_path: Path, ending: str, packed: bool) -> None:
    """Packed or not, under its own name or `--output`; blank lines of a txt file are no rows."""
    made = {
        "txt": [RESET[0], "", RESET[1], "Who are you?", RESET[2]],
        "tsv": [
            "n\ttext",
            f'1\t"{RESET[0]}',
            f'2\t"{RESET[1]}',
            "3\tWho are you?",
            f"4\t{RESET[2]}",
        ],
        "jsonl": [json.dumps({"text": text, "k": 1}) for text in (*RESET, "Who are you?")],
    }[ending]
    kept = {"txt": [0, 1, 3], "tsv": [0, 1, 3], "jsonl": [0, 3]}[ending]
    file = tmp_path / (f"q.{ending}.gz" if packed else f"q.{ending}")
    content = "".join(line + "\n" for line in made).encode()
    file.write_bytes(gzip.compress(content) if packed else content)
    expected = "".join(made[place] + "\n" for place in kept).encode()
    output = tmp_path / (f"q.deduped.{ending}.gz" if packed else f"q.deduped.{ending}")
    result = run(file)
    assert result.exit_code == 0, result.stderr
    assert listed(tmp_path) == sorted([file.name, output.name, "q.groups.jsonl"])
    (group,) = map(json.loads, (tmp_path / "q.groups.jsonl").read_text("utf-8").splitlines())
    assert group["canonical"]["text"].strip('"') in RESET
    assert f"groups in {tmp_path / 'q.groups.jsonl'}" in " ".join(result.stdout.split("\n"))
    read = output.read_bytes()
    assert (gzip.decompress(read) if packed else read) == expected
    assert run(file, "-o", tmp_path / "other").exit_code == 0
    assert (tmp_path / "other").read_bytes() == expected


def test_groups_lie_beside_the_output(tmp_path: Path) -> None:
    """Under the name of FILE, unless `--groups` says where; beside FILE where that is a device."""
    (tmp_path / "to").mkdir()
    file = tmp_path / "q.txt"
    file.write_text("\n".join(RESET), encoding="utf-8")
    assert run(file, "-o", tmp_path / "to" / "kept.txt").exit_code == 0
    assert listed(tmp_path / "to") == ["kept.txt", "q.groups.jsonl"]
    assert listed(tmp_path) == ["q.txt", "to"]
    assert run(file, "-o", "/dev/null").exit_code == 0
    assert listed(tmp_path) == ["q.groups.jsonl", "q.txt", "to"]


def test_a_bad_row_ends_it_with_its_place(tmp_path: Path) -> None:
    """One line, nothing written; with --keep-bad such rows stay as they are, and are counted."""
    file = tmp_path / "q.jsonl"
    good = [json.dumps({"text": text}) for text in RESET[:2]]
    file.write_text("\n".join([good[0], "{", good[1], '{"text": 5}']), encoding="utf-8")
    result = run(file)
    assert result.exit_code == 1
    assert result.stderr == (
        "deja: line 2: not JSON: Expecting property name enclosed in double quotes at character 2; "
        "nothing was written; --keep-bad keeps such rows as they are\n"
    )
    assert listed(tmp_path) == ["q.jsonl"]
    result = run(file, "--keep-bad")
    assert result.exit_code == 0
    assert "2 rows that cannot be read, kept as they are, at lines 2, 4" in result.stdout
    assert (tmp_path / "q.deduped.jsonl").read_text() == f'{good[0]}\n{{\n{{"text": 5}}'


@pytest.mark.parametrize(
    ("name", "options", "status", "problem"),
    [
        ("absent.csv", (), 1, "absent.csv: No such file or directory"),
        ("a.dat", (), 2, "a.dat: in which format? Its name ends in none of .csv .tsv .jsonl .txt"),
        ("a.csv", ("--text-column", "q"), 2, "a.csv: no column 'q'; it has 'text'"),
        ("a.csv", ("-o", "a.csv"), 2, "--output and FILE are the same file"),
        ("a.csv", ("--groups", "a.deduped.csv"), 2, "--groups and --output are the same file"),
        ("a.csv", ("--encoder", "nobody"), 1, "nobody: is neither the name of an artifact"),
        ("a.csv", ("--groups", "no/g.jsonl"), 1, "No such file or directory"),
        (".", (), 2, "in which format?"),
    ],
)
def test_what_cannot_work_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    options: tuple[str, ...],
    status: int,
    problem: str,
) -> None:
    """And nothing is written, not even the file that could be."""
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text\nx\n", encoding="utf-8")
    Path("a.dat").touch()
    result = run(name, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (status, 1), result.stderr
    assert problem in result.stderr
    assert listed(tmp_path) == ["a.csv", "a.dat"]


def test_files_without_rows(tmp_path: Path) -> None:
    """A header alone, or nothing at all where there is none, is no error."""
    for name, content in (("a.csv", "text\n"), ("a.txt", "")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        result = run(tmp_path / name)
        assert result.exit_code == 0, result.stderr
        assert "0 kept, 0 duplicates left out (0 of equal text) in 0 groups" in result.stdout


def test_the_cut_off_can_be_said(tmp_path: Path) -> None:
    """At 1 only equal texts go."""
    file = tmp_path / "q.txt"
    file.write_text("\n".join(RESET), encoding="utf-8")
    assert "1 kept, 2 duplicates" in run(file).stdout
    assert "2 kept, 1 duplicates" in run(file, "--duplicate-at", "1").stdout
    assert run(file, "--duplicate-at", "1.5").exit_code == 2


def test_a_precision_out_of_reach_is_said(tmp_path: Path) -> None:
    """Then as much is asked of the probability, and only then is there a warning."""
    file = tmp_path / "q.txt"
    file.write_text("\n".join(RESET), encoding="utf-8")
    assert "warning" not in run(file).stdout
    shown = run(file, "--precision", "1").stdout
    assert "2 kept, 1 duplicates" in shown
    assert "warning: a precision of 1.0 was not measured at any cut-off" in shown
    assert "has a probability of 1.000" in shown


class Silent:
    """Hears steps."""

    def step(self, name: str, done: int, total: int) -> None:
        """Hear a step."""


def test_a_graph_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large file is searched by gives the groups that comparing each with each does."""
    texts = [f"word{n % 40} and thing{n % 7} {'so ' * (n // 140)}" for n in range(280)]
    judge = Judge(CALIBRATION)
    criteria = Criteria(judge, judge.standard(CollectionSettings()))

    def groups() -> list[tuple[int, list[int]]]:
        found = grouping.group_rows(texts, WordEncoder(), criteria, Silent(), threads=2)
        assert found.distinct == len(set(texts))
        return [(g.canonical, sorted(m.place for m in g.members)) for g in found.groups]

    exact = groups()
    monkeypatch.setattr(grouping, "EACH_WITH_EACH", 0)
    assert groups() == exact
    assert len(exact) > 10
