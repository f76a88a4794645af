"""Measure commands as whole processes, go on after a stop, and write down results with machine,
versions and commit.
"""

import json
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch

from pauc_hub.device import has_native_bf16
from pauc_hub.images.preprocessing import Preprocessing
from pauc_hub.models.write_folder import write_folder
from pauc_hub.training.run import receipts

RESULTS = Path(__file__).resolve().parent / "results"
PROC = Path("/proc")
CPU = torch.device("cpu")
MORE_PACKAGES = ("simplejpeg", "pyarrow")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SECONDS_BETWEEN_SAMPLES = 0.1
SAMPLING_SHARE = 0.04  # at most, of one core: memory of gigabytes takes 20 ms to sample


class Watched(NamedTuple):
    """What a command took, all its processes together."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    """Largest sum of the processes' proportional set sizes that was sampled: what several share
    counts once.
    """
    stdout: str

    def figures(self, count: int) -> dict[str, float]:
        """Of a command that embedded `count` images."""
        return {
            "seconds": self.seconds,
            "images_per_second": count / self.seconds,
            "peak_mib": self.peak_mib,
            "cores_busy": self.cpu_seconds / self.seconds,
        }


def watch(*command: str, environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; with the end of what it printed.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, env=environment, start_new_session=True
        )
        try:
            peak = _sample_until_end(process.pid)
            seconds = time.monotonic() - started
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(
                f"{' '.join(command)}\nended with {process.returncode}:\n{errors.read()[-2000:]}"
            )
        return Watched(seconds, usage.ru_utime + usage.ru_stime, peak / 2**20, output.read())


def _sample_until_end(session: int) -> int:
    """Peak of memory_of(session), in bytes."""
    peak, pause, end = 0, 0.0, os.pidfd_open(session)
    try:
        while not select.select([end], [], [], pause)[0]:
            started = time.monotonic()
            peak = max(peak, memory_of(session))
            pause = max(SECONDS_BETWEEN_SAMPLES, (time.monotonic() - started) / SAMPLING_SHARE)
    finally:
        os.close(end)
    return peak


def memory_of(session: int) -> int:
    """Bytes that the processes of a session hold, pages shared by n processes counting one n-th in
    each.
    """
    return sum(_proportional_set_size(pid) for pid in processes_of(session))


def processes_of(session: int) -> list[int]:
    """The children of a command that began a session stay in it, also when their parent has
    ended.
    """
    found = []
    for path in PROC.glob("[0-9]*/stat"):
        try:
            stat = path.read_text()
        except OSError:  # ended meanwhile
            continue
        # the name, in brackets, may hold anything
        if int(stat.rpartition(")")[2].split()[3]) == session:
            found.append(int(path.parent.name))
    return found


def _proportional_set_size(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # ended meanwhile
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


class Journal:
    """Measurements that are made, kept in a file beside the result, so that the same command goes
    on after a stop.
    """

    def __init__(self, path: Path, about: Any) -> None:
        """`about` is what the measurements depend on; those of a run about something else are
        dropped.
        """
        self._path = path
        self._about = json.loads(json.dumps(about))
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        fits = kept.get("about") == self._about
        self._measured: dict[str, Any] = kept["measured"] if fits else {}
        self.sittings: int = kept["sittings"] + 1 if fits else 1

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """What `measure` returns, now or in an earlier sitting; anything that JSON can hold."""
        if name not in self._measured:
            print(name, end=" … ", file=sys.stderr, flush=True)
            self._measured[name] = measure()
            kept = {"about": self._about, "sittings": self.sittings, "measured": self._measured}
            unfinished = self._path.with_name(f"{self._path.name}.new")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(kept), encoding="utf-8")
            unfinished.replace(self._path)
            print(rounded(self._measured[name]), file=sys.stderr)
        return self._measured[name]

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def random_model(path: Path, architecture: str, size: int) -> Path:
    """A model folder of timm's weights before training, seed 0."""
    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=0)
    return write_folder(
        path,
        architecture=architecture,
        backbone=network.state_dict(),
        num_features=cast(int, network.num_features),
        preprocessing=Preprocessing(size).to_config(),
        pauc={},
        projector=None,
        prototypes=[],
        facts={"name": architecture},
        card="",
        half=True,
    )


def pauc_embed(
    images: Path, *options: str, model: Path, output: Path, device: str = "cpu"
) -> list[str]:
    """The command; it prints JSON."""
    words = [
        "embed",
        str(images),
        "-m",
        str(model),
        "-o",
        str(output),
        "--device",
        device,
        "--overwrite",
        "--json",
    ]
    return [sys.executable, "-m", "pauc_hub.cli", *words, *options]


def ceilings(device: torch.device = CPU) -> dict[str, float]:
    """What the device gives to whoever asks for nothing else: matrix products in GFLOP/s, copying
    in GB/s.

    Products in bf16 are left out where they are emulated: a hundredth of the speed, which nobody
    would use.
    """
    side, size = (2048, 1 << 28) if device.type == "cpu" else (8192, 1 << 30)
    squares = torch.randn(side, side, device=device)
    source, target = torch.ones(size // 4, device=device), torch.empty(size // 4, device=device)
    products = {"fp32": squares} | ({"bf16": squares.bfloat16()} if has_native_bf16(device) else {})
    flops = {
        f"{name}_gflops": 2e-9 * side**3 / _quickest(partial(torch.matmul, m, m))
        for name, m in products.items()
    }
    return flops | {"copy_gb_per_second": 2e-9 * size / _quickest(lambda: target.copy_(source))}


def _quickest(work: Callable[[], object]) -> float:
    return min(seconds_of(work) for _ in range(8))


def seconds_of(work: Callable[[], object]) -> float:
    """Until it is done, on a GPU too."""
    started = time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic() - started


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def rounded(value: Any) -> Any:
    """To four figures, at least to the integer."""
    match value:
        case float():
            return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")
        case dict():
            return {key: rounded(part) for key, part in value.items()}
        case list() | tuple():
            return [rounded(part) for part in value]
    return value


def machine(device: torch.device = CPU) -> dict[str, Any]:
    """What measurements depend on besides their settings."""
    return {
        "hardware": receipts.hardware(device),
        "cores_used": len(os.sched_getaffinity(0)),
        "versions": receipts.versions()
        | {name: version(name) for name in MORE_PACKAGES if find_spec(name)},
        "commit": receipts.commit(),
    }


def result_path(question: str, device: torch.device = CPU) -> Path:
    """benchmarks/results/<question>-<processor or GPU>-<cores>.json."""
    hardware = receipts.hardware(device)
    return RESULTS / f"{question}-{slug(hardware['name'], hardware['cores'])}.json"


def slug(*words: object) -> str:
    return "-".join(re.findall("[a-z0-9]+", " ".join(map(str, words)).lower()))


def write_result(path: Path, result: dict[str, Any], shown: Iterable[str]) -> None:
    """Keep all of it, print the parts named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(rounded(result), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(json.dumps(rounded({name: result[name] for name in shown}), indent=2, ensure_ascii=False))
    print(f"written to {path}", file=sys.stderr)
