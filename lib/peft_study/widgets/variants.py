"""02: the variant from drop-downs, and what to do with its record."""

import json
from pathlib import Path
from typing import Any

from ipykernel.connect import get_connection_file

from peft_study import paths
from peft_study.records.layout import is_finished
from peft_study.report import display
from peft_study.strategies.table import STRATEGIES
from peft_study.study.variant import Variant
from peft_study.widgets import controls, markup
from peft_study.widgets.controls import Shown

AXES = {"strategy": [], "train_size": [500, 1000, 2000, 5000, 10_000], "seed": [42, 43, 44]}
SAME, REPLACED = "These are the parameters above.", "This selection replaces the parameters until they change."
AGAIN = "Selected. To train it, select this cell and choose Run ▸ Run Selected Cell and All Below."


def pick(variant: Variant) -> Variant:
    """02: the variant of the parameters, or the one picked in its place from the drop-downs that this displays.

    A pick applies when the cell runs again, also after a restart of the kernel, until the parameters change. Outside
    JupyterLab there are no drop-downs.
    """
    if not paths.live():
        return variant
    file = Path(get_connection_file()).with_suffix(".picked")  # of this kernel, also once it has restarted
    parameters = variant.model_dump(mode="json")
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    chosen = {axis: parameters[axis] for axis in AXES}
    is_picked = kept.get("parameters") == parameters and kept["picked"] != chosen
    chosen = kept["picked"] if is_picked else chosen

    def render(**picked: Any) -> Shown:
        Variant.from_parameters(parameters | picked)  # raises `StudyError` where they do not fit
        if picked != chosen or file.exists():
            file.write_text(json.dumps({"parameters": parameters, "picked": picked}), encoding="utf-8")
        yield markup.line(AGAIN if picked != chosen else REPLACED if is_picked else SAME)

    lists = {axis: sorted({*values, parameters[axis], chosen[axis]}) for axis, values in AXES.items()}
    lists["strategy"] = [(strategy.label, name) for name, strategy in STRATEGIES.items()]
    controls.show(
        render,
        strategy=controls.choice("strategy", lists["strategy"], chosen["strategy"]),
        train_size=controls.choice("labels", [(f"{n:,}", n) for n in lists["train_size"]], chosen["train_size"]),
        seed=controls.choice("seed", lists["seed"], chosen["seed"]),
    )
    return Variant.from_parameters(parameters | chosen)


@controls.where_live
def next_steps(folder: Path) -> None:
    """02: where the record is, and what to do with it."""
    place = folder.relative_to(paths.home()) if folder.is_relative_to(paths.home()) else folder
    run = "/".join(place.parts[1:])
    steps = [f"The record of this run is in `{place}`."]
    if not is_finished(folder):
        steps.append("Its training was interrupted; the next training of this variant replaces it.")
    elif (folder / "model").is_dir() and place.parts[:1] == ("runs",):
        steps.append(f"In a terminal, `./run_all.sh label {run} texts.csv` labels your own texts with its model.")
    display.sentence(" ".join(steps))
