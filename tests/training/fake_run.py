"""A run's folder as training writes it, with invented texts and figures drawn from a seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = '<script>alert("x")</script> & <b>'


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def curve(average_precision: float, rng: np.random.Generator) -> dict[str, list[float]]:
    recall = np.linspace(0.005, 1, 200)
    bend = (average_precision - 0.366) / (0.986 - average_precision)
    precision = 0.366 + 0.62 * (1 - recall**bend)
    noise = rng.normal(0, 0.004, 200) / np.sqrt(recall * 20)
    return {
        "recall": recall.round(4).tolist(),
        "precision": np.clip(precision + noise, 0, 1).round(4).tolist(),
    }


def pairs(precision: float, rng: np.random.Generator, count: int = 8140) -> dict[str, Any]:
    return {
        "kind": "pairs",
        "pairs": count,
        "duplicates": 0.366,
        "average_precision": precision,
        "roc_auc": precision + 0.1,
        "best_f1": precision - 0.02,
        "accuracy": precision + 0.02,
        "curve": curve(precision, rng),
    }


def one_shot(accuracy: float, open_set: float | None = None) -> dict[str, Any]:
    spread = {"std": 0.013, "draws": [accuracy - 0.01, accuracy + 0.01]}
    return {
        "kind": "one_shot",
        "classes": 77,
        "accuracy": {"mean": accuracy, **spread},
        "open_set_auroc": None if open_set is None else {"mean": open_set, **spread},
    }


def retrieval(ndcg: float) -> dict[str, Any]:
    return {
        "kind": "retrieval",
        "queries": 7012,
        "corpus": 126_412,
        "ndcg@10": ndcg,
        "mrr@10": ndcg - 0.02,
        "map@100": ndcg - 0.04,
        "recall@1": ndcg - 0.2,
        "recall@10": ndcg + 0.07,
    }


def encoder(name: str, shift: tuple[float, ...], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    values = np.array([0.7711, 0.8914, 0.6561, 0.6012, 0.5514, 0.7312]) + np.array(shift)
    qqp, shop, banking, home, mattress, found = (round(float(value), 4) for value in values)
    return {
        "name": name,
        "fingerprint": f"{seed:064x}",
        "sets": {
            "forum-dev": pairs(qqp, rng),
            "shop-questions": pairs(shop, rng, 21_400),
            "banking": one_shot(banking),
            "home": one_shot(home),
            "mattress": one_shot(mattress, 0.71 + shift[4]),
            "forum-dev retrieval": retrieval(found),
        },
        "speed": {"5": 0.71 + seed / 10, "13": 1.02 + seed / 10, "40": 2.43 + seed / 5},
    }


def log_lines(steps: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        left = np.exp(-step / 150)
        lines.append(
            {
                "step": step,
                "epoch": step / 1000,
                "loss": 0.17 + 0.3 * left + rng.normal(0, 0.02),
                "positive": 0.87 - 0.06 * left + rng.normal(0, 0.008),
                "mean_negative": 0.02 + 0.06 * left + rng.normal(0, 0.004),
                "closest_negative": 0.52 + 0.12 * left + rng.normal(0, 0.012),
                "learning_rate": 5e-5 * (1 - step / steps),
                "seconds": step * 2.7,
            }
        )
    for step in range(0, steps + 1, max(steps // 10, 1)):
        done = 1 - np.exp(-step / 200)
        dev = {
            "forum-dev": 0.7711 + 0.036 * done + rng.normal(0, 0.001),
            "shop-questions": 0.8914 - 0.004 * done + rng.normal(0, 0.001),
            "banking": 0.6561 - 0.021 * step / steps + rng.normal(0, 0.002),
            "home": 0.6012 + 0.003 * done + rng.normal(0, 0.002),
            "mattress": 0.5514 - 0.007 * done + rng.normal(0, 0.002),
        }
        lines.append({"step": step, "dev": {**dev, "score": float(np.mean(list(dev.values())))}})
    return lines


CONFIG: dict[str, Any] = {
    "output": "runs/forum",
    "name": "forum-encoder",
    "release": "1",
    "base": "all-MiniLM-L6-v2",
    "pairs": ["data/forum-train.tsv.gz", "data/rewrites.tsv.gz"],
    "dev": ["data/forum-dev.tsv.gz", "data/shop-questions.tsv.gz"],
    "terms": "The forum's texts are for non-commercial use; the rewrites are CC BY-SA 4.0.",
    "loss": "full",
    "alpha": 0.25,
    "closest": "hardest",
    "mean_weight": 1.0,
    "closest_weight": 1.0,
    "labelled_negatives": True,
    "mine": 20,
    "mine_margin": 0.05,
    "mine_every": 200,
    "hard": 0.25,
    "unlabelled": "data/unlabelled.tsv.gz",
    "unlabelled_a_step": 64,
    "stay_close": 1.0,
    "teacher": "",
    "blend": 0.75,
    "batch": 80,
    "steps": 600,
    "learning_rate": 5e-5,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "seed": 7,
}

DATA: dict[str, Any] = {
    "files": [
        {"path": "data/forum-train.tsv.gz", "sha256": "a1" * 32},
        {"path": "data/rewrites.tsv.gz", "sha256": "b2" * 32},
    ],
    "pairs": 139_102,
    "positives": 98_733,
    "negatives": 40_369,
    "texts": 151_227,
    "groups": 49_910,
    "largest_group": 61,
    "dropped": {"blank": 3, "self-pair": 41, "over-long": 0, "contradiction": 19},
    "linked_to_dev": 12,
    "dev": {"forum-dev": 8140, "banking": 3080},
    "dropped_examples": [
        {"reason": "blank", "line": 4071, "texts": ["", "Where does the moon go at noon?"]},
        {
            "reason": "contradiction",
            "line": 81_202,
            "texts": ["How do I poach an egg?", "What is the way to poach eggs?"],
        },
    ],
}

MINING: list[dict[str, Any]] = [
    {
        "step": step,
        "looked_at": 1_974_660,
        "kept": kept,
        "dropped": 98_733 - kept - 120,
        "without": 120,
        "examples": [
            {
                "anchor": "How can I get wax out of a carpet?",
                "candidate": "What removes candle wax from carpets?",
                "similarity": 0.951,
                "positive_similarity": 0.902,
            },
            {
                "anchor": "Which tea has the least caffeine?",
                "candidate": HOSTILE,
                "similarity": 0.883,
                "positive_similarity": 0.861,
            },
        ],
    }
    for step, kept in ((0, 81_030), (200, 84_411), (400, 85_902))
]

ERRORS: dict[str, Any] = {
    "false_duplicates": [
        {
            "text1": "How long does a flight from Oslo to Lisbon take?",
            "text2": "How long does a flight from Lisbon to Oslo take against the wind?",
            "similarity": 0.964,
            "probability": 0.911,
        },
        {"text1": HOSTILE, "text2": "Is 7 prime? \ud83d", "similarity": 0.93, "probability": 0.87},
    ],
    "missed_duplicates": [
        {
            "text1": "Can I keep a fox?",
            "text2": "Is it legal to have a wild canid as a pet where I live?",
            "similarity": 0.431,
            "probability": 0.018,
        },
        {
            "text1": "كم عمرك؟",
            "text2": "How old are you?",
            "similarity": 0.212,
            "probability": 0.004,
        },
    ],
}


def reliability() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    bins = []
    for place in range(10):
        predicted = (place + 0.5) / 10
        observed = predicted + 0.05 * float(np.sin(predicted * 6)) + float(rng.normal(0, 0.01))
        count = int(600 + 2400 * np.exp(-place / 1.5) + 50 * place)
        bins.append(
            {
                "low": place / 10,
                "high": (place + 1) / 10,
                "predicted": round(predicted, 4),
                "observed": round(min(max(observed, 0), 1), 4),
                "pairs": count,
            }
        )
    total = sum(item["pairs"] for item in bins)
    return {"bins": bins, "expected_calibration_error": 0.0231, "pairs": total}


def comparison() -> dict[str, Any]:
    sets = ("forum-dev", "shop-questions", "banking", "home", "mattress")
    base = dict(zip(sets, (0.7711, 0.8914, 0.6561, 0.6012, 0.5514), strict=True))
    shifts = {
        "L_original": (0.011, -0.003, -0.031, -0.012, -0.02),
        "L1": (0.004, 0.001, -0.011, -0.002, -0.004),
        "L2, semi-hard": (0.026, -0.009, -0.062, -0.03, -0.04),
        "L_full, hardest": (0.035, -0.013, -0.085, -0.041, -0.05),
        "in-batch softmax": (0.031, -0.004, -0.041, -0.016, -0.02),
    }
    rows = [
        {
            "loss": loss,
            "run": f"runs/{loss}",
            "seconds": 412.0 + len(loss),
            "steps": 200,
            "sets": {name: base[name] + move for name, move in zip(sets, shift, strict=True)},
            "base": base,
        }
        for loss, shift in shifts.items()
    ]
    return {"budget": {"steps": 200, "pairs_a_batch": 80, "seconds": 600}, "rows": rows}


def blends() -> dict[str, Any]:
    sets = ("forum-dev", "shop-questions", "banking", "home", "mattress")
    base = dict(zip(sets, (0.7711, 0.8914, 0.6561, 0.6012, 0.5514), strict=True))
    rows = []
    for share in (0.25, 0.5, 0.75, 1.0):
        moves = (0.06 * share - 0.016 * share**2, 0.01 * share, 0.012 * share - 0.035 * share**2)
        shifts = (*moves, 0.004, -0.01 * share)
        rows.append(
            {
                "share": share,
                "sets": {name: base[name] + move for name, move in zip(sets, shifts, strict=True)},
                "base": base,
            }
        )
    return {"domain": "forum-dev", "dev_limit": 400, "rows": rows}


def calibration() -> dict[str, Any]:
    table = []
    for step in range(1, 190):
        probability = step * 0.005
        logit = float(np.log(probability / (1 - probability)))
        table.append(
            {
                "probability": round(probability, 3),
                "similarity": round((logit + 8.8) / 10.78, 6),
                "precision": round(0.4 + 0.55 * probability, 6),
                "recall": round(1 - 0.8 * probability**2, 6),
            }
        )
    return {
        "format": 1,
        "kind": "logistic",
        "coefficients": {"intercept": -8.8, "similarity": 10.78},
        "base_rate": 0.366,
        "population": "pairs of an invented forum",
        "pairs": 8140,
        "table": table,
    }


MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "forum-encoder",
    "version": "1",
    "base_model": "all-MiniLM-L6-v2",
    "dimension": 384,
    "max_tokens": 256,
    "pooling": "mean",
    "precision": "int8",
    "batching": "padded",
    "licence": "Apache-2.0",
    "made": {
        "origin": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        "weights_sha256": "c3" * 32,
        "config": {},
        "calibrated_on": {},
        "with": {"torch": "2.13.0", "onnx": "1.23.2"},
    },
    "metrics": {
        "average_precision": {"fp32": 0.8064, "int8": 0.8051},
        "cosine_to_fp32": {"mean": 0.997, "min": 0.96},
        "log_loss": 0.4021,
        "duplicate_at": 0.73,
        "review_at": 0.2,
    },
}

BASE = encoder("all-MiniLM-L6-v2", (0, 0, 0, 0, 0, 0), 1)
FP32 = encoder("forum-encoder (fp32)", (0.0353, -0.0031, -0.0204, 0.0042, -0.0061, 0.021), 2)
INT8 = encoder("forum-encoder", (0.034, -0.0041, -0.0211, 0.0031, -0.0073, 0.019), 3)
REFERENCE = encoder("all-mpnet-base-v2", (0.03, 0.024, 0.039, 0.041, 0.051, 0.034), 4)


def make_run(path: Path, *, steps: int = 600) -> Path:
    """Write a whole run's folder and return it."""
    rng = np.random.default_rng(11)
    write(path / "config.json", CONFIG)
    write(path / "data.json", DATA)
    lines = "".join(json.dumps(line) + "\n" for line in log_lines(steps, rng))
    (path / "log.jsonl").write_text(lines, "utf-8")
    write(path / "mining.json", MINING)
    write(path / "evaluation.json", {"encoders": [BASE, FP32, INT8, REFERENCE]})
    write(path / "errors.json", ERRORS)
    write(path / "reliability.json", reliability())
    write(path / "comparison.json", comparison())
    write(path / "blends.json", blends())
    artifact = path / "forum-encoder"
    write(artifact / "manifest.json", MANIFEST)
    write(artifact / "calibration.json", calibration())
    (artifact / "model.onnx").write_bytes(b"not read here")
    return path
