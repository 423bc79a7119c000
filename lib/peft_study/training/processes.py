"""One training by several processes, a GPU each (or on CPUs, for a test of it): a step's reviews are shared out.

The notebook's own process cannot be one of them: accelerate's `notebook_launcher` forks it, which works neither after
CUDA has been used nor for a second training. So it starts `python -m peft_study.training.processes` as often as is asked for,
shows what the first of them reports, and takes over the weights and the measurements in the end. accelerate, inside the
Trainer, connects the processes (NCCL between GPUs, gloo between CPUs) and averages their gradients.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import synchronize_rng_states
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_pt_utils import LengthGroupedSampler

from peft_study import paths
from peft_study.errors import StudyError
from peft_study.files import remove
from peft_study.records.layout import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft_study.training.trainer import Prepared, Training

REPORT = "\x1e"  # opens a line that is a report, among those that are only printed
VARIANT, STOP, WEIGHTS, RESULT, FAULT = "variant.json", "stop", "weights.safetensors", "result.json", "fault.txt"


class SharedOrder(LengthGroupedSampler):  # type: ignore[misc]
    """The order of an epoch's reviews, the same in every process: that of the first process' random numbers."""

    def __iter__(self) -> Iterator[int]:
        synchronize_rng_states(["torch"])
        return super().__iter__()


def share(sampler: LengthGroupedSampler, count: int) -> LengthGroupedSampler:
    """The sampler of one process, as `count` of them need it to fill together the batches that one would have.

    accelerate fills an epoch's last batch up with reviews from the epoch's begin where it cannot be shared out evenly.
    """
    if count == 1:
        return sampler
    return SharedOrder(sampler.batch_size * count, lengths=sampler.lengths)


def train(prepared: Prepared, folder: Path, callbacks: Sequence[TrainerCallback]) -> Training:
    """`training.train` by as many processes as the variant asks for; `folder` takes the checkpoints.

    Raises `StudyError` where there are fewer GPUs, and with what a process died of.
    """
    from peft_study.training.trainer import Training

    count, gpus = prepared.variant.processes, torch.cuda.device_count()
    if 0 < gpus < count:
        raise StudyError(f"processes = {count}, and there are {gpus} GPUs that this run may use; lower it")
    with tempfile.TemporaryDirectory() as scratch:
        exchange = Path(scratch)
        (exchange / VARIANT).write_text(prepared.variant.model_dump_json(), encoding="utf-8")
        workers = _start(count, exchange, folder)
        try:
            _follow(workers, exchange, callbacks)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            remove(folder / CHECKPOINTS)  # which those that were killed have left
        if not (exchange / RESULT).exists():
            told = (exchange / FAULT).read_text(encoding="utf-8") if (exchange / FAULT).exists() else "it was killed"
            raise StudyError(f"one of the {count} processes of this training failed: {told}")
        found = load_file(exchange / WEIGHTS)
        with torch.no_grad():
            for name, parameter in prepared.model.named_parameters():
                parameter.copy_(found[name])
        if gpus:
            prepared.model.to("cuda")
        content = json.loads((exchange / RESULT).read_text(encoding="utf-8"))
    return Training(**content | {"step_seconds": torch.tensor(content["step_seconds"]).double().numpy()})


def _start(count: int, exchange: Path, folder: Path) -> list[subprocess.Popen[str]]:
    """Start the processes, in a session of their own: an interrupt of the notebook is passed on, not shared."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, torch.get_num_threads() // count)
    common = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": threads}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "peft_study.training.processes", str(exchange), str(folder.absolute())],
            env=os.environ | {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()},
            stdin=subprocess.PIPE,  # it ends when this process does, however that ends; see `_end_with_parent`
            stdout=subprocess.PIPE if rank == 0 else None,
            text=True,
            cwd=paths.LIB,
            start_new_session=True,
        )
        for rank in range(count)
    ]


def _follow(workers: list[subprocess.Popen[str]], exchange: Path, callbacks: Sequence[TrainerCallback]) -> None:
    """Show what the first process reports, until all have ended or one has failed."""
    control = TrainerControl()

    def end_with_the_first_that_fails() -> None:
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers):
                for worker in workers:
                    worker.kill()  # it would wait for the one that failed
            time.sleep(0.1)

    watch = threading.Thread(target=end_with_the_first_that_fails, daemon=True)
    watch.start()
    for line in workers[0].stdout or ():
        if not line.startswith(REPORT):
            print(line, end="", flush=True)
            continue
        report = json.loads(line.removeprefix(REPORT))
        arguments, state = SimpleNamespace(**report["arguments"]), TrainerState(**report["state"])
        for callback in callbacks:
            getattr(callback, report["event"])(arguments, state, control, logs=report["logs"])
        if control.should_training_stop:
            (exchange / STOP).touch()
    watch.join()


class _Report(TrainerCallback):  # type: ignore[misc]
    """Reports the course of the training to the notebook's process, and ends it in all processes where that asks."""

    def __init__(self, exchange: Path) -> None:
        self._stop = exchange / STOP

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell("on_train_begin", args, state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._tell("on_log", args, state, logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell("on_train_end", args, state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell("on_step_end", args, state)
        asked = torch.tensor(float(self._stop.exists()), device=args.device)
        torch.distributed.all_reduce(asked)  # the processes must agree on the step
        if asked.item():
            control.should_training_stop = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.load_best_model_at_end

    def _tell(self, event: str, args: Any, state: Any, logs: Any = None) -> None:
        if state.is_world_process_zero:
            told = {"event": event, "arguments": args.to_sanitized_dict(), "state": asdict(state), "logs": logs}
            print(REPORT + json.dumps(told, default=str), flush=True)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended: then there is nobody at the other end of the pipe."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _work(exchange: Path, folder: Path) -> None:
    """One of the processes: prepare the variant, train it with the others; the first leaves weights and figures."""
    from peft_study.study.variant import Variant
    from peft_study.training import trainer as training

    prepared = training.prepare(Variant.model_validate_json((exchange / VARIANT).read_text(encoding="utf-8")))
    found = training.train_here(prepared, folder, [_Report(exchange)])
    if os.environ["RANK"] == "0":
        weights = {name: value.detach().cpu().contiguous() for name, value in prepared.model.named_parameters()}
        save_file(weights, exchange / WEIGHTS)
        content = vars(found) | {"step_seconds": found.step_seconds.tolist()}
        (exchange / RESULT).write_text(json.dumps(content), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    _end_with_parent()
    _exchange, _folder = map(Path, sys.argv[1:])
    try:
        _work(_exchange, _folder)
    except Exception as _error:
        if not (_exchange / FAULT).exists():  # else the failure of another process
            (_exchange / FAULT).write_text(str(_error).partition("\n")[0] or repr(_error), encoding="utf-8")
        raise
