"""The interactive pieces of the notebooks, which appear in JupyterLab only."""

from typing import TYPE_CHECKING

from peft_study.paths import live as live
from peft_study.records.read import require_runs as require_runs
from peft_study.widgets.comparisons import browse_runs as browse_runs
from peft_study.widgets.comparisons import compare_two as compare_two
from peft_study.widgets.comparisons import pick_trade_off as pick_trade_off
from peft_study.widgets.predictions import browse_mistakes as browse_mistakes
from peft_study.widgets.predictions import try_review as try_review
from peft_study.widgets.reviews import browse_reviews as browse_reviews
from peft_study.widgets.variants import next_steps as next_steps
from peft_study.widgets.variants import pick as pick

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from peft_study.training.prediction import Tell


def progress() -> "Tell":
    """The progress of a slow step: a line that is updated in JupyterLab, nothing in a log."""
    if not live():
        return lambda what, done, total: None
    from peft_study.widgets.live_chart import Line

    return Line()


def training_callbacks(strategy: str) -> list["TrainerCallback"]:
    """The progress of training: a table and a chart in JupyterLab, where ■ stops it cleanly; lines in a log."""
    from transformers.utils.notebook import NotebookProgressCallback

    from peft_study.training.callbacks import PlainProgress

    if not live():
        return [PlainProgress()]
    from peft_study.widgets.live_chart import LiveChart
    from peft_study.widgets.stopping import StopOnInterrupt

    chart = LiveChart(strategy)
    return [NotebookProgressCallback(), chart, StopOnInterrupt(lambda: chart.say("Stopping after this step …"))]
