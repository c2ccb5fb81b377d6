"""The folder of a run comes to be whole, and is never taken for another's."""

import errno
import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from training import run
from training.config import TrainConfig
from training.errors import TrainingError


def made(folder: Path, **changed: Any) -> TrainConfig:
    return TrainConfig(output=folder / "run", pairs=(folder / "p.tsv",), **changed)


def test_a_new_run_and_a_resumed_one_are_accepted(tmp_path: Path) -> None:
    """No folder yet, an empty one, and the run's own with the same settings; nothing changes."""
    config = made(tmp_path)
    run.check(config, resume=False)
    run.check(config, resume=True)
    assert not config.output.exists()
    config.output.mkdir()
    run.check(config, resume=False)
    run.start(config, {"pairs": 3})
    run.check(config, resume=True)
    assert json.loads((config.output / run.DATA).read_text()) == {"pairs": 3}
    assert {path.name for path in config.output.iterdir()} == {run.CONFIG, run.DATA}


def test_a_run_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    """It can be resumed, and that is said."""
    config = made(tmp_path)
    run.start(config, {})
    with pytest.raises(TrainingError, match=r"run: is not empty; go on with it by --resume, or"):
        run.check(config, resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_another_folder_is_not_written_into(tmp_path: Path, *, resume: bool) -> None:
    """Nor is a file in its place replaced."""
    config = made(tmp_path)
    config.output.mkdir()
    (config.output / "letters.txt").write_text("dear")
    with pytest.raises(TrainingError, match=r"run: is not empty; give another --output"):
        run.check(config, resume=resume)
    with pytest.raises(TrainingError, match=r"letters.txt: is not empty; give another"):
        run.check(
            config.model_copy(update={"output": config.output / "letters.txt"}), resume=resume
        )


def test_other_settings_are_told_by_name(tmp_path: Path) -> None:
    """Half a run of one kind and half of another is no run."""
    run.start(made(tmp_path), {})
    with pytest.raises(TrainingError) as error:
        run.check(made(tmp_path, alpha=0.5, seed=2), resume=True)
    assert "cannot be resumed with other settings (alpha, seed); give" in str(error.value)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What cannot be written leaves what was there."""
    file = tmp_path / "a.json"
    run.write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        run.write_json(file, {"a": object()})
    assert run.read_json(file) == {"a": 1}
    assert run.read_json(tmp_path / "b.json") is None


def test_a_model_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    """What a kill left of an earlier try is no part of it."""

    class Model:
        fails = True

        def save(self, folder: str, *, create_model_card: bool) -> None:
            Path(folder).mkdir()
            name = f"weights {self.fails} {create_model_card}"
            (Path(folder) / name).touch()
            if self.fails:
                raise OSError(errno.EIO, "broken")

    model = Model()
    with pytest.raises(OSError, match="broken"):
        run.save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    model.fails = False
    run.save_model(model, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("weights*")] == ["weights False False"]


@pytest.mark.parametrize(
    "raised",
    [RuntimeError("[enforce fail at x.cc:1]\nframe #0"), SafetensorError("I/O error")],
)
@pytest.mark.parametrize(("free", "number"), [(1000, errno.ENOSPC), (10**9, errno.EIO)])
def test_a_failed_write_of_weights_is_an_error_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, free: int, number: int
) -> None:
    """Those of torch and safetensors are their own errors, which say neither where nor why."""
    monkeypatch.setattr(run, "_ROOM", 1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free})())
    with pytest.raises(OSError, match=re.escape(str(tmp_path))) as error, run.writing(tmp_path):
        raise raised
    assert error.value.errno == number
    assert "\n" not in str(error.value)


def test_the_last_line_with_a_loss_is_found(tmp_path: Path) -> None:
    """Lines of dev figures come after it."""
    log = tmp_path / run.LOG
    log.write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"step": 2, "dev": {}}\n')
    assert run.last_logged(log) == {"step": 2, "loss": 1}


def test_what_an_earlier_release_did_not_note_may_be_new(tmp_path: Path) -> None:
    """Its runs can be gone on with; what it noted has to be the same."""
    config = made(tmp_path)
    run.start(config, {"pairs": 3})
    run.start(config, {"pairs": 3, "unlabelled": []})
    assert run.read_json(config.output / run.DATA) == {"pairs": 3, "unlabelled": []}
    for other in ({"pairs": 3, "unlabelled": ["a"]}, {"pairs": 3}):
        with pytest.raises(TrainingError, match=r"data.json: the files have changed since the run"):
            run.start(config, other)
