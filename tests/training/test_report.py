"""The page of a run: what it says of whole, broken and stopped runs, and that it stands alone."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.training import fake_run
from tests.training.fake_run import make_run, write
from training.errors import TrainingError
from training.report import main, write_report
from training.reporting.page import element, text
from training.reporting.run_folder import read_run

_VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page taken apart, failing where an element is not closed in its place.

    tables: by caption, rows of cells as texts; attributes: (tag, name, value) of all elements.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note attributes; begin tables, rows and cells."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in _VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes of an element without content."""
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """End what was begun last."""
        assert self.open.pop() == tag
        if tag == "table":
            assert self._caption not in self.tables
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        """Add to caption, cell and words."""
        if "caption" in self.open:
            self._caption += data
        elif "table" in self.open and self._rows and self._rows[-1]:
            self._rows[-1][-1] = f"{self._rows[-1][-1]} {data.strip()}".strip()
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)

    def values(self, name: str) -> list[str]:
        """Return every value of an attribute."""
        return [value for _, found, value in self.attributes if found == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "forum")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_report(run, comparison=run / "comparison.json").read_text("utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def words_of(run: Path) -> str:
    """Return the words of the page of a run, plots left out."""
    return " ".join(Page(write_report(run).read_text("utf-8")).words)


def test_the_headline_says_gain_and_worst_loss(page: Page) -> None:
    """One sentence, from the figures of the encoder as it is served."""
    assert (
        "forum-encoder, all-MiniLM-L6-v2 tuned on 98,733 duplicate pairs, gained 3.4 points of "
        "average precision on forum-dev (77.1% to 80.5%); its worst loss elsewhere is 2.1 points, "
        "one-shot accuracy on banking."
    ) in page.words


def test_the_table_before_and_after(page: Page) -> None:
    """Percent, the difference to the base in points, the spread over draws."""
    header, *rows = page.tables["In percent, and the difference to the base in points"]
    assert header == ["", "base", "this, fp32", "this, int8 (as served)", "all-mpnet-base-v2"]
    assert rows[0] == [
        "forum-dev average precision, trained domain",
        "77.1",
        "80.6 +3.5",
        "80.5 +3.4",
        "80.1 +3.0",
    ]
    assert rows[2] == [
        "banking one-shot accuracy",
        "65.6 ± 1.3",
        "63.6 \N{MINUS SIGN}2.0 ± 1.3",
        "63.5 \N{MINUS SIGN}2.1 ± 1.3",
        "69.5 +3.9 ± 1.3",
    ]
    further = {row[0]: row[1:] for row in page.tables["In percent"]}
    assert rows[5] == [
        "mattress open-set AUROC of 'none of these'",
        "71.0 ± 1.3",
        "70.4 \N{MINUS SIGN}0.6 ± 1.3",
        "70.3 \N{MINUS SIGN}0.7 ± 1.3",
        "76.1 +5.1 ± 1.3",
    ]
    assert further["forum-dev retrieval recall@10"][0] == "80.1"


def test_the_comparison_has_a_row_a_run(page: Page) -> None:
    """Every row's figures with the difference to the base, and what it took."""
    rows = page.tables["Losses on one budget, in percent, and the difference to the base in points"]
    assert [row[0] for row in rows] == [
        "loss",
        "L_original",
        "L1",
        "L2, semi-hard",
        "L_full, hardest",
        "in-batch softmax",
    ]
    assert rows[1][1:3] == ["78.2 +1.1", "88.8 \N{MINUS SIGN}0.3"]
    assert rows[1][-2:] == ["200", "422"]


def test_shares_of_the_way_have_a_part_of_their_own(html: str, page: Page) -> None:
    """Their figures, and gain against loss; beside the losses compared, and not as runs."""
    caption = "Shares of the way from base to tuned, in percent, and the difference to the base in "
    header, *rows = page.tables[f"{caption}points"]
    assert header == ["share", "forum-dev", "shop-questions", "banking", "home", "mattress"]
    assert [row[0] for row in rows] == ["0.25", "0.5", "0.75", "1"]
    assert rows[3][1:4] == ["81.5 +4.4", "90.1 +1.0", "63.3 \N{MINUS SIGN}2.3"]
    words = " ".join(page.words)
    assert "How far to go from the base" in words
    assert (
        "on at most 400 texts or pairs of each set, without whitening: no row is a run of its own."
        in words
    )
    assert "1 of the way: gained +4.4, worst \N{MINUS SIGN}2.3 on banking." in html
    assert "0.25 of the way: gained +1.4, worst \N{MINUS SIGN}0.2 on mattress;" in html
    drawing = html[html.index("by share of the way</title>") :]
    labels = re.findall(r">(base|[01](?:\.\d+)?)</text>", drawing[: drawing.index("</svg>")])
    assert labels[-5:] == ["base", "0.25", "0.5", "0.75", "1"]


def test_what_was_left_out_of_the_losses_is_said(run: Path, tmp_path: Path) -> None:
    """The ranking, which not every loss can have."""
    write(tmp_path / "c.json", {**fake_run.comparison(), "left_out": {"ranking": 4.0}})
    page = write_report(run, comparison=tmp_path / "c.json", output=tmp_path / "page.html")
    said = "The ranking of labelled pairs (4 in the settings) was left out of every row"
    assert said in page.read_text("utf-8")


def test_texts_are_escaped(html: str) -> None:
    """A text that is markup is shown as the text it is, and half a character as a mark for it."""
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &lt;b&gt;") == 2
    assert "Is 7 prime? \N{REPLACEMENT CHARACTER}" in html
    assert text("\x00<") == "\N{REPLACEMENT CHARACTER}&lt;"
    assert element("a", "<i>", title='"') == '<a title="&quot;">&lt;i&gt;</a>'


def test_the_page_stands_alone(html: str, page: Page) -> None:
    """It refers to nothing outside itself, runs nothing, and is far below 1.5 MB."""
    assert {value for value in page.values("href") if not value.startswith("#")} == set()
    assert page.values("src") == []
    assert re.findall(r"@import|url\((?!#)", html) == []
    assert set(re.findall(r"https?://[^\s\"<]+", html)) == {"http://www.w3.org/1999/xlink"}
    assert len(html.encode()) < 400_000


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    """Ids are unique and what refers to them finds them; plots have titles, headers a scope."""
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    labels = page.values("aria-labelledby") + page.values("aria-describedby")
    links = [value[1:] for value in page.values("href")]
    assert set(labels + links) <= set(ids)
    plots = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")]
    assert plots == ["img"] * 8
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert scopes.count("col") == sum(len(rows[0]) for rows in page.tables.values())
    assert scopes.count("row") == sum(len(rows) - 1 for rows in page.tables.values())


def test_the_same_run_gives_the_same_bytes(run: Path, html: str, tmp_path: Path) -> None:
    """Written again, from a copy elsewhere, the page is the same."""
    again = make_run(tmp_path / "forum")
    output = tmp_path / "deep" / "page.html"
    write_report(again, comparison=run / "comparison.json", output=output)
    assert output.read_text("utf-8") == html


def test_the_calibration_is_said_to_be_measured_where_it_was_fitted(html: str) -> None:
    """So nobody takes the diagram for one of pairs that it has not seen."""
    assert "The calibration was fitted on the same pairs." in html


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "The settings were not kept (no config.json)."),
        ("data.json", "What the data were was not kept (no data.json)."),
        ("log.jsonl", "Nothing was logged (no log.jsonl), so there are no curves."),
        ("mining.json", "No negatives were mined: the run did not come to it."),
        ("evaluation.json", "has not been measured beside its base: what it gained is not known."),
        ("errors.json", "No examples were kept (no errors.json)."),
        ("reliability.json", "The calibration was not measured (no reliability.json)."),
        ("blends.json", "Shares of the way were not measured (no blends.json; training.blends)."),
        ("forum-encoder/model.onnx", "No artifact was written, so there are no cut-offs."),
    ],
)
def test_what_a_run_did_not_come_to_is_said(tmp_path: Path, missing: str, said: str) -> None:
    """Without any one file there is a page, which says in words what is missing."""
    run = make_run(tmp_path / "forum")
    (run / missing).unlink()
    assert said in words_of(run)


def test_a_run_killed_early_has_a_page(tmp_path: Path) -> None:
    """One step and half a line of the log: no curves, and both are said."""
    write(tmp_path / "config.json", fake_run.CONFIG)
    line = json.dumps({"step": 10, "loss": float("nan")}) + '\n{"step": 20, "lo'
    (tmp_path / "log.jsonl").write_text('{"step": 5, "loss": 0.4}\n' + line, "utf-8")
    words = words_of(tmp_path)
    assert "log.jsonl has 1 unreadable lines, which are left out." in words
    assert "It stopped before the 600 steps that were planned." in words
    assert "The loss was logged less than twice." in words
    assert "Nothing was left out." not in words


@pytest.mark.parametrize("content", ["{", "[1, 2]", "\udcff"])
@pytest.mark.parametrize(
    "name", ["config", "data", "mining", "evaluation", "errors", "reliability"]
)
def test_a_broken_file_costs_its_part_alone(tmp_path: Path, name: str, content: str) -> None:
    """Whatever stands in a file, there is a page with the other parts."""
    run = make_run(tmp_path / "forum")
    (run / f"{name}.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    words = words_of(run)
    assert "How long does a flight from Oslo to Lisbon take?" in words or name == "errors"
    assert (f"{name}.json" in words) or content == "[1, 2]"


def test_after_a_resume_the_later_line_counts(tmp_path: Path) -> None:
    """Steps that were logged twice, before and after a kill, stand once in the curves."""
    lines = [{"step": step, "loss": loss} for step, loss in ((1, 0.9), (2, 0.8), (1, 0.5))]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert [line["loss"] for line in read_run(tmp_path).steps] == [0.5, 0.8]


def test_absolute_paths_stay_at_home(tmp_path: Path) -> None:
    """Of a path of this machine only the name is shown; relative paths are kept."""
    config = {
        "pairs": ["/home/somebody/pairs.csv", "data/more.csv"],
        "output": "/home/somebody/run",
    }
    write(tmp_path / "config.json", config)
    write(tmp_path / "data.json", {"files": [{"path": "/home/somebody/pairs.csv"}]})
    found = read_run(tmp_path)
    assert found.config == {"pairs": ["pairs.csv", "data/more.csv"], "output": "run"}
    assert found.data == {"files": [{"path": "pairs.csv"}]}


def test_what_cannot_be_read_or_written_is_one_clear_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder, an empty one, a comparison that is none, a place that cannot be written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[]", "utf-8")
    (tmp_path / "file").write_text("", "utf-8")
    for arguments, message in (
        ([tmp_path / "none"], "none: there is no such folder of a run"),
        ([tmp_path / "empty"], "empty: holds nothing of a run"),
        ([run, "--comparison", tmp_path / "no.json"], "no.json: there is no such comparison"),
        ([run, "--comparison", tmp_path / "list.json"], "list.json is no JSON object"),
        ([run, "--comparison", run / "blends.json"], "shares of the way; give it as --blends"),
        ([run, "--blends", run / "comparison.json"], "compared; give it as --comparison"),
        ([run, "--output", tmp_path / "file" / "x.html"], "x.html: cannot be written"),
    ):
        assert main([str(argument) for argument in arguments]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert message in said
        assert said.count("\n") == 1


def test_without_matplotlib_the_remedy_is_said(
    run: Path, html: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training extra is missing: said so, and the page that was there stays."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(TrainingError, match=r"need matplotlib .*; install the training extra"):
        write_report(run)
    assert (run / "report.html").read_text("utf-8") == html


def test_importing_the_report_loads_neither_torch_nor_matplotlib() -> None:
    """They are loaded when they are needed."""
    code = "import sys, training.report; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_command_says_where_the_page_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 0, the path and its size."""
    output = tmp_path / "page.html"
    assert main([str(run), "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith(f"{output}: ")


def test_parts_of_another_shape_are_left_out(tmp_path: Path) -> None:
    """A number for a list, a list for a word, half a character in a name: there is a page."""
    run = make_run(tmp_path / "forum")
    write(run / "config.json", {**fake_run.CONFIG, "closest": ["hardest"]})
    write(run / "data.json", {"dropped_examples": [{"reason": "blank", "texts": 3}]})
    broken = {**fake_run.BASE["sets"]["forum-dev"], "curve": {"recall": 1.5, "precision": []}}
    write(run / "evaluation.json", {"encoders": [{"name": "b", "sets": {"forum-dev": broken}}]})
    lines = [{"step": step, "dev": {"a\ud83d$b_": step / 10}} for step in (1, 2)]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    html = write_report(run).read_text("utf-8")
    assert ">a\N{REPLACEMENT CHARACTER}$b_ +10.0</text>" in html
    assert "Not measured: this, fp32, this, int8 (as served)." in html


def test_an_artifact_in_fp32_is_what_is_served(tmp_path: Path) -> None:
    """Where int8 would lose too much, the artifact is fp32: nothing is missing then."""
    run = make_run(tmp_path / "forum")
    write(run / "evaluation.json", {"encoders": [fake_run.BASE, fake_run.FP32]})
    write(run / "forum-encoder" / "manifest.json", {**fake_run.MANIFEST, "precision": "fp32"})
    words = words_of(run)
    assert "this, fp32 (as served)" in words
    assert "Not measured" not in words
    assert "gained 3.5 points" in words


def test_the_best_step_is_that_of_the_best_score(run: Path) -> None:
    """The mean that training logs among the dev sets is no set of its own."""
    found = read_run(run).dev
    assert set(found[0]["dev"]) == {"forum-dev", "shop-questions", "banking", "home", "mattress"}
    assert found[0]["score"] == pytest.approx(np.mean(list(found[0]["dev"].values())))


def test_a_copy_can_quote_no_texts(run: Path, html: str, tmp_path: Path) -> None:
    """No text of the run is in it, everything else is, and the page says that texts are missing."""
    copy = tmp_path / "copy.html"
    assert main([str(run), "--no-texts", "--output", str(copy)]) == 0
    page = copy.read_text("utf-8")
    for quoted in ("Oslo to Lisbon", "Can I keep a fox?", "poach an egg", "the moon go at noon"):
        assert quoted in html
        assert quoted not in page
    assert "this copy of the page quotes none" in page
    assert page.count("<svg") == html.count("<svg")


def test_weights_of_several_runs_are_said_to_be(tmp_path: Path) -> None:
    """As the artifact's manifest tells; the page is of one of them."""
    folder = make_run(tmp_path / "run")
    (manifest,) = folder.glob("*/manifest.json")
    told = json.loads(manifest.read_text("utf-8"))
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    told["made"]["made_of"] = {"share": 0.8, "runs": [settings, {**settings, "seed": 77}]}
    write(manifest, told)
    html = write_report(folder).read_text("utf-8")
    assert "80% of the way from the base to the mean of the ends of 2 runs" in html
    assert "one with seed 77" in html
