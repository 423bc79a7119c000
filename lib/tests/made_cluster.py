"""A real Slurm cluster on this machine: two nodes, each with two pretend GPUs, for the time of some tests.

Its daemons and all that they write live in one folder; Slurm's commands find it by `SLURM_CONF`. There is no
accounting database, as on many small clusters.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from made_checkouts import wait_for

NODES = ("node1", "node2")
_CONFIG = """\
ClusterName=pretend
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=1
SlurmdTimeout=6
SchedulerParameters=batch_sched_delay=1,sched_interval=1
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 RealMemory=4000 Gres=gpu:2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=60 State=UP
"""


def lacking() -> str:
    """What keeps this machine from having such a cluster, and what to do; nothing where it can."""
    absent = [name for name in ("slurmctld", "slurmd", "sbatch", "mknod") if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: install Slurm (Debian, Ubuntu: apt install slurm-wlm) to run these tests"
    return "" if os.geteuid() == 0 else "Slurm's daemons run as root: run these tests as root"


class Cluster:
    """The cluster whose files are in `folder`; `environment` is what its users need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start all daemons and wait until both nodes take jobs."""
        host = socket.gethostname().split(".")[0]
        port, first, second = _free_ports(3)
        (self.folder / "state").mkdir()
        config = _CONFIG.format(host=host, folder=self.folder, port=port, first=first, second=second)
        (self.folder / "slurm.conf").write_text(config)
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        gpus = [(node, self.folder / f"{node}-gpu{index}") for node in NODES for index in (0, 1)]
        for _, device in gpus:
            subprocess.run(["mknod", device, "c", "1", "3"], check=True)  # a second name of /dev/null
        lines = [f"NodeName={node} Name=gpu Flags=nvidia_gpu_env File={device}\n" for node, device in gpus]
        (self.folder / "gres.conf").write_text("".join(lines))
        # Snakemake's job steps drop all that begins with SLURM_, so srun has to be told again where this cluster is.
        (self.folder / "bin").mkdir()
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        self.tell("slurmctld")
        for node in NODES:
            (self.folder / node).mkdir()
            self.tell("slurmd", "-N", node)
        wait_for(lambda: self.tell("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle", "idle"], 30)

    def tell(self, *command: str) -> str:
        """What a command of Slurm prints."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout

    def jobs(self) -> list[str]:
        """The jobs that wait or run."""
        return self.tell("squeue", "--noheader", "--format=%i").split()

    def kill_node(self, node: str) -> None:
        """What a power cut does: the node's daemon and all that runs on it end at once, and tell nobody."""
        psutil.Process(int((self.folder / f"{node}.pid").read_text())).kill()
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURMD_NODENAME") == node or f"[{node}" in " ".join(process.cmdline()):
                    process.kill()
            except psutil.Error:
                continue

    def stop(self) -> None:
        """End all daemons that are left."""
        for name in (*NODES, "slurmctld"):
            try:
                psutil.Process(int((self.folder / f"{name}.pid").read_text())).kill()
            except (psutil.Error, OSError, ValueError):
                continue


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not in a test's folder: the name of a socket has to be short
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]
