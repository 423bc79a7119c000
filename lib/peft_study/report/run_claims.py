"""What may be said of one run: the sentences and tables of 02, each computed from what the run measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from peft_study.data.labels import LABELS
from peft_study.errors import StudyError
from peft_study.records.layout import is_interrupted
from peft_study.statistics import calibration
from peft_study.statistics.intervals import accuracy, interval, macro_f1
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.text import listed
from peft_study.training.model import ParameterCounts
from peft_study.training.prediction import Predictions

if TYPE_CHECKING:
    from peft_study.training.cost import Inference  # which brings torch


def subtitle(variant: Variant) -> str:
    """Which variant it is."""
    return f"{STRATEGIES[variant.strategy].label}, {variant.train_size:,} labelled reviews, seed {variant.seed}"


def strategy(variant: Variant) -> str:
    """What the variant's strategy trains, at which rate."""
    entry = STRATEGIES[variant.strategy]
    cited = f" [@{entry.citation}]" if entry.citation else ""
    own = "" if variant.learning_rate is not None else ", the strategy's own"
    return f"This run: **{entry.label}**{cited} – {entry.description}. Its peak learning rate is {variant.rate:g}{own}."


def data_used(prepared: Any) -> str:
    """How many reviews there are for what."""
    corpus, sizes = prepared.corpus, {part: len(table) for part, table in prepared.tables.items()}
    variant = prepared.variant
    origin = (
        "held out of the training split, since the dataset has no test split of its own"
        if corpus.held_out
        else "of the dataset's own test split"
    )
    other = (
        f" A further {sizes['ood']:,} come from another kind of reviews, on which no run trains."
        if "ood" in sizes
        else ""
    )
    return (
        f"The budget of {variant.train_size:,} labelled reviews gives {sizes['train']:,} to train on and "
        f"{sizes['validation']:,} to validate with; {corpus.duplicates} repeated rows of the dataset were dropped "
        f"beforehand. The test set has {sizes['test']:,} reviews, {origin}.{other}"
    )


def parameter_table(counts: ParameterCounts) -> pd.DataFrame:
    """Backbone, adapter and head: all of their parameters, those that train, and their share of the model."""
    rows = {
        part: (getattr(counts, part), getattr(counts, f"trainable_{part}")) for part in ("backbone", "adapter", "head")
    }
    rows["total"] = counts.total, counts.trainable
    return pd.DataFrame(
        {part: [f"{all_:,}", f"{trains:,}", f"{trains / counts.total:.2%}"] for part, (all_, trains) in rows.items()},
        index=["parameters", "trainable", "trainable share of the model"],
    ).T


def curve(training: Any) -> str:
    """Whether the validation loss was still falling, which checkpoint is kept, and whether training was cut short."""
    figures = training.figures
    cut = (
        f"**Training was interrupted** after step {figures['steps']} of {figures['planned_steps']}. "
        if figures["interrupted"]
        else ""
    )
    steps = ", ".join(map(str, figures["resumed"]))
    again = f"Training was cut off and went on from the checkpoint after step {steps}. " if steps else ""
    return cut + again + _course(training)


def _course(training: Any) -> str:
    """How the validation loss went, and which checkpoint is kept."""
    losses = [(entry["step"], entry["eval_loss"]) for entry in training.log if "eval_loss" in entry]
    if not losses:
        return "There was no validation during this training; the last state of the model is kept."
    finite = [pair for pair in losses if np.isfinite(pair[1])]
    kept = f"The state after step {training.figures['selected_step']} is kept."
    if len(finite) < len(losses):
        return f"**The training diverged**: at some evaluation the validation loss was not a number. {kept}"
    step, lowest = min(losses, key=lambda pair: pair[1])
    last = losses[-1][1]
    if len(losses) == 1:
        story = "It was measured once, so that nothing can be said of its course."
    elif step == losses[-1][0]:
        story = "It was still falling at the end: more steps might help."
    elif round(last - lowest, 3) == 0:
        story = "At the end it was the same."
    else:
        story = (
            f"After that it rose by {last - lowest:.3f} to the end: a small rise may be noise, a lasting one would "
            "mean that the model fits its training reviews too closely."
        )
    return (
        f"The validation loss was lowest, {lowest:.3f}, at step {step} of {training.figures['steps']}. {story} {kept}"
    )


def tested(test: Predictions, ood: Predictions | None, prepared: Any) -> str:
    """Accuracy, macro F1 and log-loss on the test set, and accuracy on the other one, with intervals."""
    scores = [interval(test.preds, test.labels, statistic).scaled(100) for statistic in (accuracy, macro_f1)]
    loss = test.metrics()["log_loss"]
    told = f"{loss:.3f} nats, against {_by_chance(test.logits.shape[1])}" if np.isfinite(loss) else "not a number"
    parts = [
        f"On {len(test.labels):,} test reviews the accuracy is **{scores[0]}%** and the macro F1 {scores[1]}% "
        f"(95% intervals); the log-loss is {told}."
    ]
    if ood is not None:
        other = interval(ood.preds, ood.labels).scaled(100)
        parts.append(
            f"On {len(ood.labels):,} reviews of {prepared.variant.ood_dataset}, which the model has not been trained "
            f"for, the accuracy is {other}%."
        )
    return "\n\n".join(parts)


def _by_chance(classes: int) -> str:
    """The log-loss of whoever knows nothing but the number of classes."""
    return f"{np.log(classes):.3f} for {'a coin' if classes == 2 else f'a guess among {classes} classes'}"


def confidence(test: Predictions, validation: Predictions | None) -> str:
    """How sure the model is on the test set, how right, and what a temperature fitted on validation makes of it."""
    if not np.isfinite(test.logits).all():
        return "Not all logits are numbers: nothing can be said of the model's confidence."
    error, sure = (
        calibration.expected_error(test.logits, test.labels),
        test.confidence.mean(),
    )
    told = (
        f"On the test reviews the model is {sure:.1%} sure of its class on average. Its calibration error (ECE) is "
        f"{error.scaled(100)} points."
    )
    if validation is None:
        return f"{told} Without validation reviews no temperature can be fitted."
    try:
        divisor = calibration.temperature(validation.logits, validation.labels)
    except StudyError as fault:
        return f"{told} No temperature: {fault}."
    before, after = (calibration.losses(scaled, test.labels).mean() for scaled in (test.logits, test.logits / divisor))
    return (
        f"{told} Divided by {divisor:.2f}, which fits {len(validation.labels):,} validation reviews best, its log-odds "
        f"give a log-loss on the test reviews of {after:.3f} nats instead of {before:.3f}."
    )


def mistakes(predictions: Predictions, table: pd.DataFrame, labels: Sequence[str] = LABELS) -> pd.DataFrame:
    """The wrongly classified rows of `table`, most confident first, with `predicted` (a class) and `probability`.

    `labels` are the names of the classes.
    """
    told = table.assign(predicted=[labels[i] for i in predictions.preds], probability=predictions.confidence)
    return told[predictions.preds != predictions.labels].sort_values("probability", ascending=False)


def confident_mistakes(predictions: Predictions, table: pd.DataFrame, labels: Sequence[str] = LABELS) -> pd.DataFrame:
    """The `mistakes`, their probability as text."""
    wrong = mistakes(predictions, table, labels)
    return wrong.assign(probability=wrong["probability"].map("{:.1%}".format))


def cost(training: Any) -> str:
    """Time, operations, tokens and memory of one training."""
    f = training.figures
    smaller = (
        f"**The memory was not enough for batches of {f['asked_batch_size']}**: each step averaged over "
        f"{f['gradient_accumulation']} batches of {f['batch_size']}, the same reviews.\n\n"
        if f["batch_size"] < f["asked_batch_size"]
        else ""
    )
    return smaller + (
        f"Training took {f['seconds']:.0f} s for {f['steps']} steps ({f['seconds_per_step']:.2g} s and "
        f"{f['flops_per_step'] / 1e9:,.3g} billion floating-point operations each), "
        f"{f['tokens']:,} tokens at {f['tokens_per_second']:,.0f} a second; evaluations on the validation part took "
        f"another {f['evaluation_seconds']:.0f} s. Peak memory: {f['peak_memory_bytes'] / 2**30:.1f} GiB "
        f"({f['peak_memory_of']})."
    )


def inference(use: "Inference") -> str:
    """How long one review takes, with the adapter and with it merged, and whether the two agree."""
    alone = f"One review takes {1000 * use.seconds:.1f} ms (median)"
    if use.merged_seconds is None:
        return f"{alone}. There is no adapter that could be merged into the weights."
    return (
        f"{alone} with the adapter beside its layers, and {1000 * use.merged_seconds:.1f} ms with the adapter merged "
        f"into the weights. The logits of the two differ by at most {use.merge_difference:.1g}."
    )


def recorded(folder: Path) -> str:
    """What the run's folder holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "train.")))
    total = sum(path.stat().st_size for path in files)
    names = dict.fromkeys(path.relative_to(folder).parts[0] for path in files)
    told = f"`{folder.name}` now holds {listed(f'`{name}`' for name in names)}: {total / 2**20:.1f} MiB."
    if is_interrupted(folder):
        return f"{told} It is marked as interrupted: no study counts it as done, and no comparison reads it."
    return told
