"""`deja-train` says in one line what stopped it, and leaves nothing that passes for an artifact."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from tests.training.small_run import ROOT, command, config, environment, questions, write_pairs
from training.cli import main
from training.config import TrainConfig

Flags = list[str]


def flags(folder: Path, base: Path, *more: str) -> Flags:
    """Return the flags of a short run of its own pairs."""
    pairs = folder / "pairs.tsv"
    if not pairs.exists():
        write_pairs(pairs)
    given = ["--pairs", str(pairs), "--output", str(folder / "run"), "--base", str(base)]
    short = [
        "--steps",
        "16",
        "--learning-rate",
        "1e-3",
        "--batch",
        "8",
        "--threads",
        "1",
        "--dev-share",
        "0.25",
    ]
    return [*given, *short, *more]


def refused(capsys: pytest.CaptureFixture[str], given: Flags, message: str) -> None:
    """Check that a command fails with one line, and that no traceback or artifact comes of it."""
    assert main(given) == 1
    said = capsys.readouterr()
    assert said.out == ""
    *_, last = said.err.splitlines()
    assert re.search(message, last), last
    assert last.startswith("error: ")
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"pairs.csv: there is no such file"),
        ("", r"pairs.csv: "),
        ("text1,text2,label\n", r"pairs.csv: has a header and no rows"),
        ("text1,text2,label\na,b,1\na,c,2\n", r"pairs.csv, line 3: label .*2"),
        ("text1,text2,label\na,b,1\na,c\n", r"pairs.csv, line 3: "),
        ("text1,text2\na,b\n", r"pairs.csv"),
    ],
    ids=["missing", "empty", "no rows", "label", "columns", "no label"],
)
def test_a_file_that_cannot_be_used_is_told_before_anything_is_written(
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    message: str,
) -> None:
    """The line names the file, and the line in it where there is one."""
    file = tmp_path / "pairs.csv"
    if content is not None:
        file.write_text(content)
    refused(capsys, flags(tmp_path, tiny_model_folder, "--pairs", str(file)), message)
    assert not (tmp_path / "run").exists()


def test_settings_that_cannot_be_used_are_told(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None at all, a config that is not there, a model that is not there."""
    refused(capsys, [], "output: is needed; give --output")
    refused(capsys, ["--config", str(tmp_path / "no.toml")], "no.toml: there is no such config")
    given = flags(tmp_path, tmp_path / "nowhere")
    refused(capsys, given, "nowhere: there is no such model folder")
    given = flags(tmp_path, tiny_model_folder, "--unlabelled", str(tmp_path / "none.txt"))
    refused(capsys, [*given, "--output", str(tmp_path / "other")], "none.txt: there is no such")


def test_a_folder_that_is_not_empty_is_left_alone(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With or without --resume, as it is no run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("all of it")
    given = flags(tmp_path, tiny_model_folder)
    refused(capsys, given, "run: is not empty; give another --output")
    refused(capsys, [*given, "--resume"], "run: is not empty; give another --output")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_told(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below a file no folder can be made."""
    (tmp_path / "file").write_text("")
    given = [*flags(tmp_path, tiny_model_folder), "--output", str(tmp_path / "file" / "run")]
    refused(capsys, given, r"file/run: Not a directory; mend that, then go on with --resume")


def test_a_run_is_resumed_with_its_own_settings_alone(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once it is done, the same command says so again; another one is refused by setting."""
    given = flags(tmp_path, tiny_model_folder)
    assert main(given) == 0
    first = capsys.readouterr().out
    artifact = tmp_path / "run" / "deja-tuned"
    assert first.splitlines()[0] == (f"{artifact}: ready; serve it with DEJA_ENCODER={artifact}")
    refused(capsys, given, "run: is not empty; go on with it by --resume, or give another")
    refused(
        capsys,
        [*given, "--resume", "--alpha", "0.5", "--steps", "17"],
        r"cannot be resumed with other settings \(alpha, steps\)",
    )
    assert main([*given, "--resume"]) == 0
    assert capsys.readouterr().out == first


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "failure",
    [
        ("pathlib.Path.write_text", OSError(errno.ENOSPC, "No space left on device", "data.json")),
        ("safetensors.torch.serialize_file", SafetensorError("I/O error: No space left on device")),
        ("torch.save", RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")),
        ("app.encoders.artifact._write", OSError(errno.ENOSPC, "No space left on device", "x")),
    ],
    ids=["settings", "weights", "optimiser", "artifact"],
)
def test_a_full_disk_is_one_line_and_no_artifact(
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: tuple[str, Exception],
) -> None:
    """Whatever is being written, in the words of whatever writes it; with room, it goes on.

    The errors are those seen on a file system of 100 to 1,100 kB.
    """
    given = flags(tmp_path, tiny_model_folder)
    with monkeypatch.context() as full:
        full.setattr(failure[0], raising(failure[1]))
        full.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
        refused(capsys, given, r": No space left on device; make room, then go on with --resume")
    assert not (tmp_path / "run" / "deja-tuned").exists()
    if not (tmp_path / "run" / "config.json").exists():
        assert list((tmp_path / "run").iterdir()) == []
    assert main([*given, "--resume"]) == 0


@pytest.fixture
def long(tiny_model_folder: Path, tmp_path: Path) -> TrainConfig:
    """Return the config of a run that is not done before it is interrupted."""
    return config(tmp_path, tiny_model_folder, steps=5000, evaluate_every=1000)


@pytest.fixture
def started(long: TrainConfig) -> Iterator[subprocess.Popen[str]]:
    """Yield a command that trains, once it has logged a few steps."""
    process = subprocess.Popen(
        command(long),
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = long.output / "log.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if log.is_file() and '"step": 4,' in log.read_text():
            break
        time.sleep(0.01)
    yield process
    process.kill()
    process.communicate()


def test_an_interrupted_run_says_how_to_go_on(
    started: subprocess.Popen[str], long: TrainConfig
) -> None:
    """Ctrl-C is status 130 and one line, and no traceback."""
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert out == ""
    *_, last = err.splitlines()
    assert last == f"error: interrupted; go on with --resume --output {long.output}"
    assert "Traceback" not in err
    assert not (long.output / long.name).exists()
    assert not (long.output / "model").exists()


def test_a_mistake_is_told_without_waiting_for_torch() -> None:
    """Help and errors of settings take less than it takes to load it."""
    script = (
        "import sys; from training.cli import main; status = main([]); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ("error: output: is needed; give --output or set it in a config file\n")


def test_the_pairs_of_the_tests_are_what_they_say() -> None:
    """64 duplicates and as many others, none twice."""
    rows = questions()
    assert (len(rows), len(set(rows)), sum(label for *_, label in rows)) == (128, 128, 64)
