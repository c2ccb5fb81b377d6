"""A run's settings in words, for the report and the model card."""

from __future__ import annotations

from collections import Counter

from training.reporting.run_folder import Json, mapping, number, objects

# With s the cosine, A an anchor, P its duplicate, N a text of another group.
_FORMULAS = {
    "full": "L_full = L1 + L2: L1 = max(mean of the negatives - s(A,P) + alpha, 0), "
    "L2 = max(closest negative - s(A,P) + alpha, 0)",
    "mean_negative": "L1 = max(mean of the negatives - s(A,P) + alpha, 0)",
    "closest_negative": "L2 = max(closest negative - s(A,P) + alpha, 0)",
    "original": "L_original = max(s(A,N) - s(A,P) + alpha, 0) over explicit triplets",
    "softmax": "in-batch softmax (multiple negatives ranking)",
}
# Settings in which two runs may differ without being of different recipes.
_OF_THE_RUN = (
    "name", "release", "blend", "whiten", "evaluate_every", "threads", "terms", "population"
)  # fmt: skip
_FILES = ("pairs", "dev", "corpus", "unlabelled")
_CLOSEST = {
    "hardest": "the closest negative is the most similar one",
    "semi-hard": "the closest negative is the most similar one below the positive",
}


def recipe(config: Json, *, steps: int | None = None) -> list[str]:
    """Return what was done, a sentence a setting that matters; settings not known are left out.

    steps: of the optimiser, as many as were made.
    """
    found = [_loss(config)]
    batch, accumulate = number(config.get("batch")), number(config.get("accumulate")) or 1
    if batch:
        size = f"{batch:.0f} duplicate pairs, no two of one group of duplicates"
        times = f", {accumulate:.0f} batches a step" if accumulate > 1 else ""
        made = "A" if steps is None else f"{steps:,} steps; a"
        found.append(f"{made} batch holds {size}{times}.")
    rate = number(config.get("learning_rate"))
    if rate:
        warmup, decay = number(config.get("warmup")), number(config.get("weight_decay"))
        rising = f" after a warm-up over {warmup:.0%} of the steps" if warmup else ""
        weights = f", weight decay {decay:g}" if decay else ""
        frozen = "; the word embeddings stay as they are" if config.get("freeze_embeddings") else ""
        found.append(f"AdamW with a learning rate of {rate:g}{rising}{weights}{frozen}.")
    found += [_ranking(config), *_negatives(config), *_closeness(config)]
    if "seed" in config:
        found.append(f"Seed {config['seed']}.")
    return [sentence for sentence in found if sentence]


def mean_of_runs(made_of: Json, config: Json) -> list[str]:
    """Return sentences on whose mean the weights are, of which config tells one; else none.

    And on how the vectors of the mean were whitened, if they were.
    """
    share, runs = number(made_of.get("share")), objects(made_of.get("runs"))
    if share is None or not runs:
        return []
    told = [
        ", ".join(
            f"{name} {value}"
            for name, value in other.items()
            if name in config and name not in (*_OF_THE_RUN, *_FILES) and value != config[name]
        )
        for other in runs
    ]
    # A run counts as often as it was given; of one without settings nothing is known.
    known = [other for other in runs if other]
    counted = Counter(words for words, other in zip(told, runs, strict=True) if other)
    own = _times(counted.pop("", 1))
    others = "; ".join(f"one with {words}{_times(times)}" for words, times in counted.items())
    several = len(runs) - len(known) + len({_trained_by(other) for other in known})
    mean = f"the mean of the ends of {several} runs" if several > 1 else "the end of the run"
    found = [
        f"The weights are {share:.0%} of the way from the base to {mean}"
        + (f": that of these settings{own}, and {others}." if others else ".")
    ]
    whitening = mapping(made_of.get("whitening"))
    strength, count = number(whitening.get("strength")), number(whitening.get("count"))
    if strength and count:
        found.append(
            f"Behind the pooling stands a whitening of strength {strength:g} of 0.5, fitted on the "
            f"first {count:,.0f} texts of {whitening.get('texts')}."
        )
    return found


def _times(count: int) -> str:
    return f" (counted {count} times)" if count > 1 else ""


def _trained_by(config: Json) -> str:
    """Return what tells a run from another one."""
    return str(sorted((name, value) for name, value in config.items() if name not in _OF_THE_RUN))


def _loss(config: Json) -> str:
    loss = str(config.get("loss", ""))
    if not loss:
        return ""
    words = _FORMULAS.get(loss, loss)
    alpha, scale = number(config.get("alpha")), number(config.get("scale"))
    if loss == "softmax":
        return f"Loss: {words}" + (f", scale {scale:g}." if scale else ".")
    parts = [words]
    if loss in ("full", "closest_negative") and str(config.get("closest")) in _CLOSEST:
        parts.append(_CLOSEST[str(config["closest"])])
    if loss == "full":
        weights = [number(config.get(name)) for name in ("mean_weight", "closest_weight")]
        if None not in weights and weights != [1.0, 1.0]:
            parts.append(f"L1 weighs {weights[0]:g}, L2 {weights[1]:g}")
    if alpha is not None:
        parts.append(f"alpha = {alpha:g}")
    return f"Loss: {'; '.join(parts)}."


def _ranking(config: Json) -> str:
    weight, scale = number(config.get("ranking")), number(config.get("scale"))
    if not weight:
        return ""
    return (
        f"Beside it, every duplicate of a batch is ranked above every explicit non-duplicate "
        f"(weight {weight:g}, scale {scale or 0:g})."
    )


def _negatives(config: Json) -> list[str]:
    found = []
    if config.get("labelled_negatives"):
        found.append("Labelled non-duplicates join the batch as negatives.")
    looked = number(config.get("mine"))
    if looked:
        every = number(config.get("mine_every"))
        margin = number(config.get("mine_margin"))
        when = f"every {every:,.0f} steps" if every else "once, before the first step"
        rule = f", each at least {margin:g} less similar than the positive" if margin else ""
        found.append(
            f"Negatives are mined {when} from the {looked:.0f} nearest texts of other groups{rule}."
        )
    hard = number(config.get("hard"))
    if hard:
        found.append(f"{hard:.0%} of a batch is filled with neighbouring groups.")
    return found


def _closeness(config: Json) -> list[str]:
    found = []
    weight, texts = number(config.get("stay_close")), number(config.get("unlabelled_a_step"))
    if config.get("unlabelled") and weight:
        limit = number(config.get("unlabelled_limit"))
        of = f" out of {limit:,.0f}" if limit else ""
        whose = "its base"
        if config.get("teacher"):
            share = number(config.get("teacher_share"))
            mixed = (
                f", mixed {share:.0%} with its base's" if share is not None and share < 1 else ""
            )
            whose = f"{config['teacher']}, turned into its base's space{mixed}"
        found.append(
            f"On {texts or 0:.0f} unlabelled texts a step{of} it is held close to the vectors of "
            f"{whose} (weight {weight:g}), so as to forget less."
        )
    blend = number(config.get("blend"))
    if blend is not None and blend < 1:
        found.append(f"The result is {blend:.0%} of the tuned weights and the rest the base's.")
    strength = number(config.get("whiten"))
    if strength:
        found.append(f"Its vectors are whitened with strength {strength:g} of 0.5.")
    return found
