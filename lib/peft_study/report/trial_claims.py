"""What may be said of the trials of strategies: their table and the sentences about them, all computed."""

from collections.abc import Sequence

import pandas as pd

from peft_study.analysis.trials import TOLERANCE, Attempt, Measured
from peft_study.strategies.table import STRATEGIES
from peft_study.text import UNKNOWN, listed, markdown_escape


def table(attempts: Sequence[Attempt]) -> pd.DataFrame:
    """The trials as they are printed, a row each; a dash where a strategy did not get so far."""
    steps = _steps(attempts)
    rows = [
        {"works": "no" if one.faults else "yes"} | (_row(one.measured, steps.get(one.label)) if one.measured else {})
        for one in attempts
    ]
    return pd.DataFrame(rows, pd.Index([one.label for one in attempts], name="strategy")).fillna(UNKNOWN)


def _row(found: Measured, step: float | None) -> dict[str, str]:
    """What a trial measured, as text; `step` are its operations as a share of those of full fine-tuning."""
    counts = found.parameters
    return {
        "start": _difference(found.start),
        "loss": f"{found.losses[0]:.3f} → {found.losses[1]:.3f}",
        "backbone": f"{counts.trainable_backbone:,}",
        "adapter": f"{counts.trainable_adapter:,}",
        "head": f"{counts.trainable_head:,}",
        "loaded": _difference(found.reloaded),
        "merged": _merged(found),
        "KiB": f"{found.model_bytes / 2**10:,.0f}",
        "step": UNKNOWN if step is None else f"{step:.2f}",
    }


def _difference(value: float) -> str:
    """A difference by its order of magnitude; none at all is a plain 0."""
    return f"{value:.0e}" if value else "0"


def _merged(found: Measured) -> str:
    """How far the merged model is from the trained one, or why there is none."""
    if found.unmerged:
        return "fails"
    if found.merged is not None:
        return _difference(found.merged)
    return "no" if found.parameters.adapter else "no adapter"


def _steps(attempts: Sequence[Attempt]) -> dict[str, float]:
    """The operations of a step of each strategy that got so far over those of full fine-tuning, by label."""
    found = {one.label: one.measured.flops for one in attempts if one.measured}
    full = found.get(STRATEGIES["full"].label)
    return {label: flops / full for label, flops in found.items()} if full else {}


def sources(attempts: Sequence[Attempt]) -> str:
    """A list of the strategies: name in a study, name in the field, source, what trains."""
    entries = [(one.strategy, STRATEGIES[one.strategy]) for one in attempts]
    return "\n".join(
        f"- `{name}`: {entry.label}{entry.citation and f' [@{entry.citation}]'}. {_sentence(entry.description)}"
        for name, entry in entries
    )


def _sentence(text: str) -> str:
    """A description as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}."


def verdict(model: str, attempts: Sequence[Attempt]) -> str:
    """How many strategies work on `model`, and why the others do not."""
    failed = [one for one in attempts if one.faults]
    reasons = [f"- {one.label}: {markdown_escape('; '.join(one.faults))}" for one in failed]
    count = f"**{len(attempts) - len(failed)} of {len(attempts)} strategies work on `{model}`.**"
    return "\n".join([f"{count} These do not:", "", *reasons]) if failed else count


def starts(attempts: Sequence[Attempt]) -> str:
    """Which strategies do not start from the pretrained network."""
    far = {one.label: one.measured.start for one in attempts if one.measured and one.measured.start > TOLERANCE}
    if not far:
        return "Every strategy that could be measured starts from the pretrained network."
    names = listed(f"{label} ({start:.2g})" for label, start in far.items())
    return f"Not every strategy starts from the pretrained network. Largest change of a logit at the start: {names}."


def costs(attempts: Sequence[Attempt]) -> str:
    """The smallest and the largest adapter, and the cheapest and the dearest step."""
    counts = [(one.measured.parameters.trainable_adapter, one.label) for one in attempts if one.measured]
    adapters = sorted((count, label) for count, label in counts if count)
    steps = sorted((share, label) for label, share in _steps(attempts).items())
    parts = []
    if len(adapters) > 1:
        (few, least), (many, most) = adapters[0], adapters[-1]
        parts.append(
            f"The smallest adapter is that of {least}, with {few:,} trainable parameters; the largest that of {most}, "
            f"with {many:,}, or {many / few:,.0f} times as many."
        )
    if len(steps) > 1:
        (low, cheap), (high, dear) = steps[0], steps[-1]
        parts.append(
            f"The cheapest step is that of {cheap}, with {low:.2f} times the operations of full fine-tuning; the "
            f"dearest that of {dear}, with {high:.2f} times."
        )
    return " ".join(parts) or "There is nothing to compare full fine-tuning with."
