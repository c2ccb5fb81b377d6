"""Reading rows, forming batches and keeping the state of an import."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from app.importing.batches import LARGEST_BODY, Batch, batched
from app.importing.records import BadLine, Format, UnusableFile, format_of, read_records
from app.importing.rows import Columns, Row, RowReader
from app.importing.sending import idempotency_key
from app.importing.source import LONGEST_LINE, Source, SourceError, source_of
from app.importing.state import ImportState, StateFile, Tally, state_folder, state_name


def rows_of(
    data: bytes | str, name: str, columns: Columns | None = None, after: int = 0
) -> list[Row | BadLine]:
    source = source_of(data.encode() if isinstance(data, str) else data, name)
    file_format = format_of(name)
    assert file_format is not None
    reader = RowReader(name, read_records(source, file_format), columns or Columns())
    return list(reader.after(after))


def anchors_of(rows: list[Row | BadLine]) -> list[dict[str, object]]:
    assert all(isinstance(row, Row) for row in rows), rows
    return [dict(row.anchor) for row in rows if isinstance(row, Row)]


def bad_of(rows: list[Row | BadLine]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, BadLine)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", Format.CSV),
        ("a.TSV.gz", Format.TSV),
        ("a.b.jsonl", Format.JSONL),
        ("a.ndjson.gz", Format.JSONL),
        ("a.gz", None),
        ("a.txt", None),
    ],
)
def test_the_format_is_what_the_name_ends_in(name: str, expected: Format | None) -> None:
    """Letter case and a further .gz make no difference."""
    assert format_of(name) is expected


def test_csv_fields_may_be_quoted_and_span_lines() -> None:
    """A row stands at its first line; the next one counts on from its last."""
    data = 'id,text,label\r\na,"one, ""two""\nthree",x\r\nb,plain,\r\n'
    rows = rows_of(data, "a.csv")
    assert anchors_of(rows) == [
        {"text": 'one, "two"\nthree', "id": "a", "label": "x"},
        {"text": "plain", "id": "b"},
    ]
    assert [(row.line, row.last_line) for row in rows] == [(2, 3), (4, 4)]


def test_a_stray_quote_spoils_its_own_line_alone() -> None:
    """What an unclosed quote would have swallowed is read again."""
    rows = rows_of('id,text\na,"open\nb,fine\nc,"also fine"\n', "a.csv")
    assert [row.line for row in rows] == [2, 3, 4]
    assert anchors_of(rows[1:]) == [{"text": "fine", "id": "b"}, {"text": "also fine", "id": "c"}]
    assert bad_of(rows)[0][1].startswith("a quoted field that does not end as it should")


def test_an_unclosed_quote_at_the_end_of_the_file_is_a_bad_line() -> None:
    """It is not taken for a row that ends with the file."""
    assert [line for line, _ in bad_of(rows_of('text\nfine\n"open\n', "a.csv"))] == [3]


def test_tsv_knows_no_quoting() -> None:
    """A double quote is an ordinary character, wherever it stands."""
    rows = rows_of('text\tlabel\n"say "hi"\tx\n', "a.tsv")
    assert anchors_of(rows) == [{"text": '"say "hi"', "label": "x"}]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_row_with_too_many_or_too_few_fields_is_bad(name: str, separator: str) -> None:
    """The reason says how many fields there are and how many there should be."""
    data = "id,text\na\nb,fine\nc,x,y\n".replace(",", separator)
    assert bad_of(rows_of(data, name)) == [
        (2, "1 field where the header has 2"),
        (4, "3 fields where the header has 2"),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_byte_order_mark_is_not_part_of_the_first_column(name: str) -> None:
    """Files from spreadsheets begin with one."""
    assert anchors_of(rows_of(b"\xef\xbb\xbftext\nfine\n", name)) == [{"text": "fine"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_header_without_the_text_column_names_the_columns_found(name: str) -> None:
    """The file is refused as a whole, before any row is read."""
    data = "id,question\n1,x\n".replace(",", "\t" if name.endswith("tsv") else ",")
    with pytest.raises(UnusableFile, match=r"^a\..sv: no column 'text'; it has 'id', 'question'$"):
        rows_of(data, name)


def test_a_column_asked_for_by_name_has_to_be_there() -> None:
    """The default columns `id` and `label` may be missing, named ones not."""
    assert anchors_of(rows_of("text\nx\n", "a.csv")) == [{"text": "x"}]
    with pytest.raises(UnusableFile, match="no column 'key', 'lang'; it has 'text'"):
        rows_of("text\nx\n", "a.csv", Columns(id="key", metadata=("lang",)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no header"),
        (b"\n", "no header"),
        (b"\xff\xfet\x00", "not UTF-8"),
        (b"text,text\n", "'text' more than once"),
    ],
)
def test_a_header_that_is_none_is_refused(data: bytes, problem: str) -> None:
    """An empty file, another encoding and an ambiguous header each say what they are."""
    with pytest.raises(UnusableFile, match=problem):
        rows_of(data, "a.csv")


def test_columns_can_have_other_names() -> None:
    """Chosen columns become metadata under their own names; empty fields are left out."""
    data = "q,key,class,lang,url\nhi,1,greet,en,\n"
    columns = Columns("q", "key", "class", ("lang", "url"))
    assert anchors_of(rows_of(data, "a.csv", columns)) == [
        {"text": "hi", "id": "1", "label": "greet", "metadata": {"lang": "en"}}
    ]


def test_every_further_column_becomes_metadata_only_on_request() -> None:
    """Without being asked for, further columns are left out."""
    data = "text,lang,url\nhi,en,u\n"
    assert anchors_of(rows_of(data, "a.csv")) == [{"text": "hi"}]
    assert anchors_of(rows_of(data, "a.csv", Columns(other_as_metadata=True))) == [
        {"text": "hi", "metadata": {"lang": "en", "url": "u"}}
    ]


def test_a_line_of_an_export_comes_back_as_it_was() -> None:
    """Id, text, label and metadata are kept to the letter; what the service adds is left out."""
    line = {
        "id": "faq-1",
        "text": "a\u2028b \U0001f600",
        "label": "1",
        "metadata": {"n": 1.5, "deep": {"x": [None, True]}},
        "truncated": False,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    expected = {key: line[key] for key in ("text", "id", "label", "metadata")}
    data = json.dumps(line, ensure_ascii=False) + "\n"
    assert anchors_of(rows_of(data, "a.jsonl")) == [expected]
    columns = Columns(other_as_metadata=True)
    assert anchors_of(rows_of(data, "a.jsonl", columns)) == [expected]


def test_json_numbers_serve_as_ids_and_labels() -> None:
    """A whole number becomes its digits; null is none."""
    rows = rows_of('{"text": "a", "id": 7, "label": 3}\n{"text": "b", "id": null}\n', "a.jsonl")
    assert anchors_of(rows) == [{"text": "a", "id": "7", "label": "3"}, {"text": "b"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter at character 13"),
        ("[1]", "not a JSON object"),
        ('{"id": "a"}', "no text"),
        ('{"text": 5}', "text is not a string"),
        ('{"text": " \\t "}', "text is blank"),
        ('{"text": "\\ud83d"}', "a field holds half of a surrogate pair"),
        ('{"text": "a", "label": ""}', "label of 0 characters; 1 to 200 are allowed"),
        ('{"text": "a", "label": ["x"]}', "label is not a string"),
        ('{"text": "a", "id": true}', "id is not a string"),
        ('{"text": "a", "metadata": [1]}', "metadata is not an object"),
        ('{"text": "a", "metadata": {"x": NaN}}', "not JSON: NaN is no JSON number"),
        ('{"text": "a", "metadata": {"x": 1e999}}', "metadata holds what JSON cannot carry"),
        (
            '{"text": "a", "id": "-x"}',
            "id '-x' is not 1 to 128 of A-Z a-z 0-9 . _ : - that begin with a letter or digit",
        ),
    ],
)
def test_a_json_line_that_cannot_be_an_anchor_says_why(line: str, reason: str) -> None:
    """The lines around it are good."""
    rows = rows_of(f'{{"text": "x"}}\n{line}\n{{"text": "y"}}\n', "a.jsonl")
    assert bad_of(rows) == [(2, reason)]
    assert len(rows) == 3


def test_json_nested_too_deeply_is_a_bad_line() -> None:
    """It neither ends the import nor the process."""
    rows = rows_of('{"text": "x", "metadata": ' + "[" * 100_000 + "\n", "a.jsonl")
    assert [line for line, _ in bad_of(rows)] == [1]


def test_each_limit_of_the_contract_is_checked_at_its_edge() -> None:
    """What is just within a limit is good; one more is bad, with both figures."""

    def line(**fields: object) -> str:
        return json.dumps({"text": "x", **fields}, ensure_ascii=False) + "\n"

    good = [
        line(text=" " + "é" * 4000 + "\n"),
        line(label="é" * 200),
        line(id="a" * 128),
        line(metadata={"k": "é" * 4091 + "x"}),
    ]
    assert bad_of(rows_of("".join(good), "a.jsonl")) == []
    bad = [
        line(text="é" * 4001),
        line(label="x" * 201),
        line(id="a" * 129),
        line(metadata={"k": "é" * 4091 + "xx"}),
    ]
    assert [reason for _, reason in bad_of(rows_of("".join(bad), "a.jsonl"))] == [
        "text of 4,001 characters; 4,000 are allowed",
        "label of 201 characters; 1 to 200 are allowed",
        f"id {'a' * 40!r} is not 1 to 128 of A-Z a-z 0-9 . _ : - that begin with a letter or digit",
        "metadata of 8,193 bytes; 8,192 are allowed",
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_bytes_that_are_no_utf8_spoil_their_line_alone(name: str) -> None:
    """The line is listed with its number, the next one is read."""
    good = b'{"text": "fine"}' if name.endswith("jsonl") else b"fine"
    header = b"" if name.endswith("jsonl") else b"text\n"
    rows = rows_of(header + b"caf\xe9\n" + good + b"\n", name)
    number = 1 + header.count(b"\n")
    assert bad_of(rows) == [(number, "not UTF-8")]
    assert anchors_of(rows[1:]) == [{"text": "fine"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_blank_lines_are_bad_unless_they_end_the_file(name: str) -> None:
    """Each is listed with its own number."""
    good = '{"text": "fine"}' if name.endswith("jsonl") else "fine"
    header = "" if name.endswith("jsonl") else "text\n"
    rows = rows_of(f"{header}{good}\n\n\n{good}\n\n  \n", name)
    first = 1 + header.count("\n")
    assert bad_of(rows) == [(first + 1, "blank line"), (first + 2, "blank line")]
    assert [row.line for row in rows] == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_endless_line_is_bad_and_never_held_in_memory_whole(name: str) -> None:
    """Reading goes on behind it, with the right line number."""
    good = b'{"text": "fine"}' if name.endswith("jsonl") else b"fine"
    header = b"" if name.endswith("jsonl") else b"text\n"
    rows = rows_of(header + b"x" * (3 * LONGEST_LINE) + b"\n" + good, name)
    first = 1 + header.count(b"\n")
    assert bad_of(rows) == [(first, "longer than 1 MiB")]
    assert [row.line for row in rows] == [first, first + 1]


def test_a_gzip_file_is_measured_as_it_is_stored(tmp_path: Path) -> None:
    """Size and position are of the compressed bytes, and meet at the end."""
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text\n" + b"fine\n" * 1000))
    with Source.open(path) as source:
        assert source.size == path.stat().st_size
        lines = list(source.lines())
        assert (len(lines), lines[-1].number) == (1001, 1001)
        assert source.position == source.size


def test_a_gzip_file_cut_off_says_after_which_line() -> None:
    """A damaged file is never taken for a short one."""
    whole = gzip.compress("".join(f'{{"text": "{i * 7919}"}}\n' for i in range(5000)).encode())
    source = source_of(whole[:-2000], "a.jsonl.gz")
    with pytest.raises(SourceError, match=r"^a\.jsonl\.gz: unreadable after line [1-9]\d+ \("):
        list(source.lines())


def test_a_file_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(SourceError, match=r"absent\.csv: No such file or directory$"):
        Source.open(tmp_path / "absent.csv")


def batches_of(data: str, limit: int, after: int = 0) -> list[Batch]:
    return list(batched(rows_of(data, "a.jsonl", after=after), limit))


def test_batches_hold_so_many_lines_good_and_bad_together() -> None:
    """The last one holds what is left."""
    data = '{"text": "a"}\nbad\n{"text": "b"}\n{"text": "c"}\n{"text": "d"}\n'
    batches = batches_of(data, 2)
    assert [(len(b.rows), len(b.bad), b.last_line) for b in batches] == [
        (1, 1, 2),
        (2, 0, 4),
        (1, 0, 5),
    ]


def test_an_id_that_comes_again_begins_a_new_batch() -> None:
    """The service refuses an id twice in a request; the later row is to win."""
    data = "".join(f'{{"text": "t", "id": "{name}"}}\n' for name in "abcb")
    assert [sorted(batch.ids) for batch in batches_of(data, 10)] == [["a", "b", "c"], ["b"]]


def test_batches_started_again_at_the_end_of_one_are_the_same() -> None:
    """That is what makes a repeated batch the same request."""
    data = "".join(
        f'{{"text": "t{i}", "id": "{i % 7}"}}\n' if i % 5 else "bad\n\n" for i in range(40)
    )
    batches = batches_of(data, 4)
    for place, batch in enumerate(batches):
        assert batches_of(data, 4, after=batch.last_line) == batches[place + 1 :]


def test_a_batch_stays_below_the_size_of_a_body() -> None:
    """A thousand rows of the largest kind are more than a request may hold."""
    data = (json.dumps({"text": "\U0001f600" * 4000}, ensure_ascii=False) + "\n") * 1000
    batches = batches_of(data, 1000)
    assert [len(batch.rows) for batch in batches] == [523, 477]
    assert all(batch.size <= LARGEST_BODY for batch in batches)


def test_an_idempotency_key_stands_for_the_import_the_lines_and_what_is_in_them() -> None:
    """The same rows of the same import have the same key, others another; ids need none."""
    first, second = (row for row in rows_of("text\na\nb\n", "a.csv") if isinstance(row, Row))
    key = idempotency_key("run-1", [first, second])
    assert key is not None
    assert key.startswith("run-1-2-3-")
    assert idempotency_key("run-1", [first, second]) == key
    others = {
        idempotency_key("run-2", [first, second]),
        idempotency_key("run-1", [first]),
        idempotency_key("run-1", [first, Row(3, 3, {"text": "c"}, 12)]),
    }
    assert len(others) == 3
    assert key not in others
    assert idempotency_key("run-1", [Row(1, 1, {"text": "a", "id": "a"}, 20)]) is None


def test_a_state_is_read_back_as_it_was_saved_and_deleted(tmp_path: Path) -> None:
    """What a kill left beside it goes with it."""
    file = StateFile(tmp_path / "deep" / "state.json")
    assert file.load() is None
    state = ImportState(
        file={"size": 5}, line=7, tally=Tally(read=7, created=6, bad=1), errors_size=12
    )
    file.save(state)
    (tmp_path / "deep" / "state.json.77.tmp").touch()
    assert file.load() == state
    file.delete()
    assert file.load() is None
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 99}', '{"version": 1}'])
def test_a_state_that_is_none_of_ours_counts_as_none(tmp_path: Path, content: str) -> None:
    """The import then begins at the first line."""
    path = tmp_path / "state.json"
    path.write_text(content)
    assert StateFile(path).load() is None


def test_states_are_kept_by_the_xdg_rules(tmp_path: Path) -> None:
    """An unset, empty or relative folder means the default one."""
    assert state_folder({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "deja" / "imports"
    default = Path.home() / ".local" / "state" / "deja" / "imports"
    assert [state_folder(env) for env in ({}, {"XDG_STATE_HOME": "x"})] == [default, default]


def test_each_file_and_choice_of_options_has_a_state_of_its_own(tmp_path: Path) -> None:
    """The name tells a person which file it is for."""
    names = {
        state_name(tmp_path / "a b.csv", {"batch": 256}),
        state_name(tmp_path / "a b.csv", {"batch": 100}),
        state_name(tmp_path / "other" / "a b.csv", {"batch": 256}),
    }
    assert len(names) == 3
    assert all(name.startswith("a-b-csv-") for name in names)
