"""The interactive pieces of the notebooks: what JupyterLab shows after a static figure, and a batch run leaves out.

A notebook calls one function per piece. Unless somebody is watching it does nothing: ipywidgets is imported here alone,
and only then, so that an executed notebook and the report hold no dead controls.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_study.training.progress import Tell, silent

if TYPE_CHECKING:
    import pandas as pd
    from transformers import TrainerCallback

    from peft_study.data.reviews import Corpus
    from peft_study.records.read import Runs
    from peft_study.study.variant import Variant
    from peft_study.training.prediction import Predictions


def live() -> bool:
    """Whether somebody is watching: a kernel that a Jupyter server started for a notebook, rather than papermill.

    The server names the notebook in `JPY_SESSION_NAME`; papermill sets no such variable, and the batch removes one that
    it inherits from a terminal of JupyterLab.
    """
    return "JPY_SESSION_NAME" in os.environ


def progress() -> Tell:
    """How a slow step tells what it does and how far it is: one line that changes in JupyterLab, nothing in a log."""
    if not live():
        return silent
    from peft_study.widgets.live_chart import Line

    return Line()


def training_callbacks(strategy: str) -> list["TrainerCallback"]:
    """How training shows where it is: a chart that ■ stops cleanly in JupyterLab, lines in a log."""
    from peft_study.training.callbacks import PlainProgress

    if not live():
        return [PlainProgress()]
    from peft_study.widgets.live_chart import LiveChart
    from peft_study.widgets.stopping import StopOnInterrupt

    return [LiveChart(strategy), StopOnInterrupt()]


def browse_reviews(corpus: "Corpus", variant: "Variant") -> None:
    """01: find reviews by class, length, stated rating, copies and words, and see what a window keeps of one."""
    if live():
        from peft_study.widgets import reviews

        reviews.browser(corpus, variant).show()


def try_review(model: Any, tokenizer: Any, variant: "Variant", labels: Any) -> None:
    """02: classify a text of one's own, with the model just trained or that of a finished run, and see why."""
    if live():
        from peft_study.widgets import predictions

        predictions.trial(model, tokenizer, variant, labels).show()


def browse_mistakes(model: Any, tokenizer: Any, variant: "Variant", reviews: Any, test: "Predictions") -> None:
    """02: the reviews that the model got wrong, the most confident first, and the words that misled it."""
    if live():
        from peft_study.widgets import predictions

        predictions.mistakes(model, tokenizer, variant, reviews, test).show()


def browse_runs(study: str) -> None:
    """03: a figure and a table of the runs that one picks, of any study."""
    if live():
        from peft_study.widgets import comparisons

        comparisons.run_browser(study).show()


def compare_two(runs: "Runs", texts: Mapping[int, str]) -> None:
    """03: any two runs side by side, and the reviews that only one of them got right.

    `texts` maps a test review's id to its text; empty where the reviews are not at hand.
    """
    if live():
        from peft_study.widgets import comparisons

        comparisons.two_runs(runs, texts).show()


def pick_trade_off(runs: "Runs", costs: "pd.DataFrame") -> Any:
    """03: the Pareto front of any measure of quality against any cost; `costs` is `ledger_tables.costs(runs)`."""
    if live():
        from peft_study.widgets import comparisons

        comparisons.trade_off(runs, costs).show()
