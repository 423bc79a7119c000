"""The baseline that a fine-tuned encoder should exceed: TF-IDF and logistic regression. 01 fits it, 03 reads it."""

import zlib
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from peft_study import paths
from peft_study.files import replacing
from peft_study.statistics.intervals import interval


@dataclass(frozen=True)
class Baseline:
    """The baseline's predictions: `preds` maps training-set sizes to classes (n,) of the test reviews `ids` (n,)."""

    ids: np.ndarray
    labels: np.ndarray
    preds: dict[int, np.ndarray]

    def scores(self) -> pd.DataFrame:
        """A row per size: `train_size`, `accuracy` and its bootstrap interval `low`, `high`."""
        rows = [(size, interval(preds, self.labels)) for size, preds in sorted(self.preds.items())]
        return pd.DataFrame(
            [(size, i.estimate, i.low, i.high) for size, i in rows], columns=["train_size", "accuracy", "low", "high"]
        )


def write_baseline(study: str, baseline: Baseline) -> None:
    """Keep the baseline's predictions for the comparison: `bag_of_words.npz` in the study's folder."""
    sizes = {str(size): preds for size, preds in baseline.preds.items()}
    with replacing(paths.study_folder(study) / "bag_of_words.npz") as partial:
        np.savez_compressed(partial, ids=baseline.ids, labels=baseline.labels, **sizes)  # type: ignore[arg-type]


def load_baseline(study: str) -> Baseline | None:
    """The baseline's predictions, or None where 01 has not kept any, or the file is damaged."""
    try:
        with np.load(paths.study_folder(study) / "bag_of_words.npz", allow_pickle=False) as arrays:
            preds = {int(name): arrays[name] for name in arrays.files if name.isdigit()}
            baseline = Baseline(arrays["ids"], arrays["labels"], preds)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):
        return None
    lengths = {len(values) for values in (baseline.ids, baseline.labels, *preds.values())}
    return baseline if len(lengths) == 1 else None
