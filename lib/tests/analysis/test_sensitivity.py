"""Which verdicts depend on the rule that selects the checkpoint."""

import pytest
from made_runs import MATRIX, make_runs, write_arrays

from peft_study import paths
from peft_study.analysis.accuracy import sensitivity
from peft_study.errors import StudyError


def test_a_verdict_that_the_other_checkpoints_would_change_is_listed_with_the_other_one() -> None:
    runs = make_runs({"lora": 0.7}, count=1000, matrix=MATRIX | {"seed": [1, 2, 3]})
    assert sensitivity(runs).empty
    for seed in (1, 2, 3):
        file = paths.run_folder("made", f"lora-n00250-s{seed}") / "other_checkpoint_preds_and_labels.npz"
        write_arrays(file, runs.preds[f"full-n00250-s{seed}"].to_numpy())
    changed, same = sensitivity(runs).to_dict("records")
    assert (changed["strategy"], changed["train_size"], changed["tested"]) == ("lora", 250, "worse")
    assert changed["verdict"] not in ("worse", "no verdict") and changed["difference"] == 0
    assert (same["train_size"], same["tested"], same["verdict"]) == (1000, "worse", "worse")
    write_arrays(file, runs.preds["full-n00250-s1"].to_numpy()[:-1])
    with pytest.raises(StudyError, match="lora-n00250-s3 holds other texts"):
        sensitivity(runs)
