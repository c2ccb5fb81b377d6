"""What tuning changed, kept in a small file: what comes back, and whose it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from tests.training.small_run import NOUNS, VERBS, config
from training import run
from training.delta import applied, difference, main, mean_of
from training.errors import TrainingError
from training.whitening import put_matrix, whitening


def _tuned(base: Path, folder: Path) -> SentenceTransformer:
    """Save a model whose layers are a little off its base's, and return it."""
    tuned = SentenceTransformer(str(base), device="cpu")
    with torch.no_grad():
        for weight in tuned[0].auto_model.encoder.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    tuned.save(str(folder), create_model_card=False)
    return tuned


def _three_ends(
    base: Path, folder: Path
) -> tuple[dict[str, torch.Tensor], list[Path], list[dict[str, torch.Tensor]]]:
    """Save three tuned models; return their base's weights, their folders and their weights."""
    folders = [folder / one for one in "abc"]
    ends = [_tuned(base, one).state_dict() for one in folders]
    return SentenceTransformer(str(base), device="cpu").state_dict(), folders, ends


def test_the_difference_comes_back_to_a_127th_of_its_largest_in_a_row() -> None:
    """Half a step of 8 bits, row by row; vectors come back as they are, counters stay."""
    torch.manual_seed(0)
    base = {
        "m": torch.randn(6, 9),
        "v": torch.randn(5),
        "n": torch.arange(3),
        "same": torch.ones(2),
    }
    change = 0.01 * torch.randn(6, 9)
    tuned = {**base, "m": base["m"] + change, "v": base["v"] + 1}
    kept = difference(base, tuned)
    assert set(kept) == {"m.steps", "m.scale", "v.whole"}
    made = applied(base, kept)
    step = change.abs().amax(1, keepdim=True) / 127
    assert bool(((made["m"] - tuned["m"]).abs() <= 0.51 * step).all())
    torch.testing.assert_close(made["v"], tuned["v"])
    assert made["same"] is not base["same"]
    torch.testing.assert_close(made["n"], base["n"])


def test_a_share_is_that_much_of_the_way() -> None:
    """Half-way to 3 from 1 is 2."""
    base, tuned = {"v": torch.tensor([1.0])}, {"v": torch.tensor([3.0])}
    assert applied(base, difference(base, tuned, 0.5))["v"].item() == 2.0


def test_of_several_models_the_mean_is_kept(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the precision of the file, half a 127th of a row's largest change; the share is of it."""
    torch.manual_seed(1)
    base, folders, ends = _three_ends(tiny_model_folder, tmp_path)
    file, given = tmp_path / "d.safetensors", ["--base", str(tiny_model_folder), "--share", "0.5"]
    given = ["write", *given, "--output", str(file), *map(str, folders)]
    assert main(given) == 0
    assert main(["apply", str(file), "--output", str(tmp_path / "made")]) == 0
    made = SentenceTransformer(str(tmp_path / "made"), device="cpu").state_dict()
    changed = 0
    for name, start in base.items():
        change = 0.5 * ((ends[0][name] + ends[1][name] + ends[2][name]) / 3 - start)
        largest = change.abs() if change.dim() < 2 else change.abs().amax(1, keepdim=True)
        bound = 1e-6 + (0 if change.dim() < 2 else 0.51 * largest / 127)
        assert bool(((made[name] - start - change).abs() <= bound).all()), name
        changed += bool(change.any())
    assert changed > 20
    assert run.read_json(tmp_path / "made" / run.MADE_OF) == {"share": 0.5, "runs": [{}, {}, {}]}
    run_of_another = config(tmp_path, tmp_path / "a")
    run.start(run_of_another, {})
    shutil.copytree(tmp_path / "b", run_of_another.output / run.MODEL)
    assert main([*given, str(run_of_another.output)]) == 1
    assert f"was tuned from {tmp_path / 'a'}, not from " in capsys.readouterr().err


def test_a_file_stands_for_the_runs_it_was_made_of(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mean of a file of two and of a third is that of the three, whatever share was kept."""
    torch.manual_seed(2)
    base, folders, ends = _three_ends(tiny_model_folder, tmp_path)
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"{verb} the {noun}" for verb in VERBS for noun in NOUNS))
    two, three = tmp_path / "two.safetensors", tmp_path / "three.safetensors"
    whitened = ["--whiten", "0.2", "--texts", str(texts)]
    whose = ["--base", str(tiny_model_folder)]
    first = [str(one) for one in folders[:2]]
    assert main(["write", *first, *whose, "--share", "0.8", *whitened, "--output", str(two)]) == 0
    assert main(["write", str(two), str(folders[2]), *whose, "--output", str(three)]) == 0
    assert main(["apply", str(three), "--output", str(tmp_path / "made")]) == 0
    made = SentenceTransformer(str(tmp_path / "made"), device="cpu").state_dict()
    assert set(made) == set(base)
    for name, start in base.items():
        change = (ends[0][name] + ends[1][name] + ends[2][name]) / 3 - start
        # The first file rounds as well, and its share is taken back.
        assert bool(((made[name] - start - change).abs() <= 1e-6 + 0.02 * 0.05).all()), name
    assert run.read_json(tmp_path / "made" / run.MADE_OF) == {"share": 1.0, "runs": [{}, {}, {}]}
    _tuned(tiny_model_folder, tmp_path / "other")
    capsys.readouterr()
    wrong = ["write", str(two), "--base", str(tmp_path / "other"), "--output", str(three)]
    assert main(wrong) == 1
    assert "was tuned from" in capsys.readouterr().err


def test_a_model_says_of_which_runs_it_is_the_mean(tiny_model_folder: Path, tmp_path: Path) -> None:
    """With the settings of each; of files the names, as others have them elsewhere."""
    runs = []
    for number in (1, 2):
        chosen = config(tmp_path, tiny_model_folder, seed=number)
        chosen = chosen.model_copy(update={"output": tmp_path / f"run{number}"})
        run.start(chosen, {})
        (chosen.output / run.LOG).write_text('{"step": 1, "loss": 1}\n')
        shutil.copytree(tiny_model_folder, chosen.output / run.MODEL)
        runs.append(str(chosen.output))
    file = tmp_path / "d.safetensors"
    base = ["--base", str(tiny_model_folder)]
    assert main(["write", *runs, *base, "--output", str(file)]) == 0
    assert main(["apply", str(file), "--output", str(tmp_path / "made")]) == 0
    told = run.read_json(tmp_path / "made" / run.MADE_OF)["runs"]
    assert [(one["seed"], one["pairs"]) for one in told] == [(1, ["pairs.tsv"]), (2, ["pairs.tsv"])]
    assert str(tmp_path) not in json.dumps([{**one, "base": ""} for one in told])


def test_the_whitening_is_kept_with_the_weights(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is that of the model which the file makes, on the texts that were named."""
    _tuned(tiny_model_folder, tmp_path / "tuned")
    texts = [f"{verb} the {noun} ?" for verb in VERBS for noun in NOUNS]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    given = ["write", str(tmp_path / "tuned"), "--base", str(tiny_model_folder), "--output"]
    plain, white = str(tmp_path / "plain.safetensors"), str(tmp_path / "white.safetensors")
    whiten = ["--whiten", "0.3", "--texts", str(tmp_path / "texts.txt"), "--texts-limit", "40"]
    assert main([*given, plain]) == main([*given, white, *whiten]) == 0
    for file in (plain, white):
        assert main(["apply", file, "--output", file.removesuffix(".safetensors")]) == 0
    before, after = (SentenceTransformer(str(tmp_path / one)) for one in ("plain", "white"))
    vectors = before.encode(texts, normalize_embeddings=True)
    wanted = torch.from_numpy(vectors @ whitening(vectors[:40], 0.3))
    found = torch.from_numpy(after.encode(texts, normalize_embeddings=True))
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted), atol=1e-5, rtol=0)
    told = run.read_json(tmp_path / "white" / run.MADE_OF)["whitening"]
    assert told == {"strength": 0.3, "texts": "texts.txt", "count": 40}
    assert "whitening" not in run.read_json(tmp_path / "plain" / run.MADE_OF)
    for half in (["--whiten", "0.3"], ["--texts", str(tmp_path / "texts.txt")], ["--whiten", "2"]):
        assert main([*given, white, *half]) == 1
        assert "needs a strength above 0 and at most 0.5, and --texts" in capsys.readouterr().err


def test_a_base_that_is_whitened_is_so_once(tiny_model_folder: Path, tmp_path: Path) -> None:
    """What is kept is the new matrix; the base's own comes with the base."""
    texts = [f"{verb} the {noun} ?" for verb in VERBS for noun in NOUNS]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    base = SentenceTransformer(str(tiny_model_folder), device="cpu")
    put_matrix(base, torch.diag(torch.linspace(1, 3, 32)))
    base.save(str(tmp_path / "base"), create_model_card=False)
    before = base.encode(texts, normalize_embeddings=True)
    file = tmp_path / "d.safetensors"
    given = ["write", str(tmp_path / "base"), "--base", str(tmp_path / "base"), "--output"]
    whiten = ["--whiten", "0.3", "--texts", str(tmp_path / "texts.txt")]
    assert main([*given, str(file), *whiten]) == 0
    assert main(["apply", str(file), "--output", str(tmp_path / "made")]) == 0
    made = SentenceTransformer(str(tmp_path / "made"), device="cpu")
    wanted = torch.from_numpy(before @ whitening(before, 0.3))
    found = torch.from_numpy(made.encode(texts, normalize_embeddings=True))
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted), atol=1e-5, rtol=0)


def test_a_model_made_of_runs_is_no_end_of_a_run(tiny_model_folder: Path, tmp_path: Path) -> None:
    """Put into a run's folder for its card, it is not taken for what the run ended with."""
    chosen = config(tmp_path, tiny_model_folder)
    run.start(chosen, {})
    shutil.copytree(tiny_model_folder, chosen.output / run.MODEL)
    assert run.end(chosen.output, chosen) == chosen.output / run.MODEL
    run.write_json(chosen.output / run.MODEL / run.MADE_OF, {"share": 0.8, "runs": []})
    with pytest.raises(TrainingError, match=r"was made of runs by training\.delta"):
        run.end(chosen.output, chosen)


def test_models_of_different_shapes_have_no_mean() -> None:
    """Nor those that have other weights."""
    for other in ({"w": torch.ones(3)}, {"w": torch.ones(2), "v": torch.ones(1)}):
        with pytest.raises(TrainingError, match="of different shapes; they have no mean"):
            mean_of([{"w": torch.ones(2)}, other])


def test_another_models_base_is_refused() -> None:
    """By the name of the weights that it lacks."""
    with pytest.raises(TrainingError, match="w: the base has no such weights"):
        difference({"w": torch.ones(2)}, {"w": torch.ones(3)})


def test_a_file_and_its_base_make_the_model(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the two commands; where the base has changed in between, it is said and nothing made."""
    tuned = _tuned(tiny_model_folder, tmp_path / "tuned")
    file, made = tmp_path / "d.safetensors", tmp_path / "made"
    base = ["--base", str(tiny_model_folder)]
    assert main(["write", str(tmp_path / "tuned"), *base, "--output", str(file)]) == 0
    assert not any("embeddings" in name for name in load_file(file))
    assert main(["apply", str(file), "--output", str(made)]) == 0
    texts = ["how old are you", "open a tin"]
    again = SentenceTransformer(str(made), device="cpu").encode(texts)
    torch.testing.assert_close(
        torch.from_numpy(again), torch.from_numpy(tuned.encode(texts)), atol=2e-3, rtol=0
    )
    base_copy = tmp_path / "base"
    SentenceTransformer(str(tiny_model_folder)).save(str(base_copy), create_model_card=False)
    args = ["write", str(tmp_path / "tuned"), "--base", str(base_copy), "--output", str(file)]
    assert main(args) == 0
    tuned.save(str(base_copy), create_model_card=False)
    capsys.readouterr()
    assert main(["apply", str(file), "--output", str(tmp_path / "none")]) == 1
    assert "belongs to weights of" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_share_of_a_share_is_refused(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's model is the blend it was finished with; of the run itself the end is taken."""
    chosen = config(tmp_path, tiny_model_folder, blend=0.5)
    run.start(chosen, {})
    (chosen.output / run.LOG).write_text('{"step": 1, "loss": 1}\n')
    shutil.copytree(tiny_model_folder, chosen.output / run.MODEL)
    file, base = tmp_path / "d.safetensors", ["--base", str(tiny_model_folder)]
    write = ["write", "--share", "0.5", "--output", str(file), *base]
    for given, said in (
        (chosen.output / run.MODEL, "is 0.5 of the way from its base already; give the run, "),
        (chosen.output, "the end of its training was not kept; train again, with blend = 1"),
    ):
        assert main([*write, str(given)]) == 1
        assert said in capsys.readouterr().err
    tuned = SentenceTransformer(str(tiny_model_folder), device="cpu")
    with torch.no_grad():
        for weight in tuned[0].auto_model.encoder.parameters():
            weight.add_(1.0)
    tuned.save(str(chosen.output / run.TRAINED), create_model_card=False)
    assert main([*write, str(chosen.output)]) == 0
    whole = [value for name, value in load_file(file).items() if name.endswith(".whole")]
    torch.testing.assert_close(whole, [torch.full_like(one, 0.5) for one in whole])
    assert len(whole) > 4


def test_nothing_but_a_model_is_replaced(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with anything else stays; a model gives way to the new one."""
    file, thesis = tmp_path / "d.safetensors", tmp_path / "work" / "thesis.txt"
    base = str(tiny_model_folder)
    assert main(["write", base, "--base", base, "--output", str(file)]) == 0
    thesis.parent.mkdir()
    thesis.write_text("all of it")
    assert main(["apply", str(file), "--output", str(thesis.parent)]) == 1
    assert "holds something else than a model" in capsys.readouterr().err
    assert thesis.read_text() == "all of it"
    for _ in range(2):
        assert main(["apply", str(file), "--output", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_share_beyond_the_way_is_refused(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 was meant to be 0.6."""
    base = str(tiny_model_folder)
    given = ["write", base, "--base", base, "--share", "60", "--output", str(tmp_path / "d")]
    assert main(given) == 1
    assert "must be above 0 and at most 1, not 60" in capsys.readouterr().err


def test_a_file_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing or of another kind."""
    assert main(["apply", str(tmp_path / "none"), "--output", str(tmp_path / "m")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'none'}: cannot be read as differences")
    assert error.count("\n") == 1
