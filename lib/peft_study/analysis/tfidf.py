"""The baseline that a fine-tuned encoder should exceed: TF-IDF and logistic regression. 01 fits it, 03 reads it."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.files import replacing
from peft_study.statistics.intervals import interval


@dataclass(frozen=True)
class Baseline:
    """The baseline's predictions: `preds` maps training-set sizes to classes (n,) of the test reviews `ids` (n,).

    `unfitted` maps the sizes at which it cannot be fitted to the reason.
    """

    ids: np.ndarray
    labels: np.ndarray
    preds: dict[int, np.ndarray]
    unfitted: dict[int, str] = field(default_factory=dict)

    def scores(self) -> pd.DataFrame:
        """A row per size: `train_size`, `accuracy` and its bootstrap interval `low`, `high`."""
        rows = [(size, interval(preds, self.labels)) for size, preds in sorted(self.preds.items())]
        return pd.DataFrame(
            [(size, i.estimate, i.low, i.high) for size, i in rows], columns=["train_size", "accuracy", "low", "high"]
        )


def reason(error: ValueError) -> str:
    """Why scikit-learn cannot fit the baseline, without its advice on parameters that a study does not have."""
    empty = "no terms remain" in str(error) or "empty vocabulary" in str(error)
    return "no word occurs in two of its texts" if empty else str(error).rstrip(".")


def unfitted(baseline: Baseline | None) -> Iterable[str]:
    """A sentence for each size at which the baseline could not be fitted."""
    for size, why in sorted((baseline.unfitted if baseline else {}).items()):
        yield f"Left out: the bag of words with {size:,} labels ({why})."


def write_baseline(study: str, baseline: Baseline) -> None:
    """Keep the baseline's predictions for the comparison: `bag_of_words.npz` in the study's folder."""
    sizes: dict[str, object] = {str(size): preds for size, preds in baseline.preds.items()}
    sizes |= {f"unfitted {size}": why for size, why in baseline.unfitted.items()}
    with replacing(paths.study_folder(study) / "bag_of_words.npz") as partial:
        np.savez_compressed(partial, ids=baseline.ids, labels=baseline.labels, **sizes)  # type: ignore[arg-type]


def load_baseline(study: str) -> Baseline | None:
    """The baseline's predictions, or None where 01 has not kept any, or the file is damaged."""
    try:
        with np.load(paths.study_folder(study) / "bag_of_words.npz", allow_pickle=False) as arrays:
            preds = {int(name): arrays[name] for name in arrays.files if name.isdigit()}
            why = {int(name.split()[1]): str(arrays[name]) for name in arrays.files if name.startswith("unfitted ")}
            baseline = Baseline(arrays["ids"], arrays["labels"], preds, why)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):
        return None
    lengths = {len(values) for values in (baseline.ids, baseline.labels, *preds.values())}
    return baseline if len(lengths) == 1 else None
