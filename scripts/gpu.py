"""Values, rates and the paper's own runs on a GPU that is there for ten minutes (`make gpu`)."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from experiments.gpu.parts import PARTS, Plan, page, run_part
from experiments.settings import ExperimentError, one_line_errors, typed_path
from experiments.store import write_atomically

INTERRUPTED = "interrupted; the same command goes on"
OUTPUT, SMOKE_OUTPUT = Path("results/local/gpu"), Path("results/local/smoke/gpu")  # apart: no part is made twice
_SMOKE_PATIENCE = 6  # times a part's limit: nothing is measured, and the machine may be a busy one


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=typed_path, help=f"folder ({OUTPUT}, with --smoke {SMOKE_OUTPUT})")
    parser.add_argument("--minutes", type=float, default=9.0, help="in all (%(default)s)")
    parser.add_argument("--accelerator", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument(
        "--profile", choices=("paper", "medium"), default="paper", help="of the last part (%(default)s)"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: whether every part runs, not a measurement")
    parser.add_argument("--part", choices=PARTS, help="only this one, in this process")
    options = parser.parse_args(arguments)
    options.output = options.output or (SMOKE_OUTPUT if options.smoke else OUTPUT)
    with one_line_errors(options.output):
        if options.accelerator == "gpu" and not torch.cuda.is_available():
            raise ExperimentError("torch finds no GPU here; --accelerator cpu --smoke shows that every part runs")
        plan = Plan(options.accelerator, options.output.resolve(), options.smoke, 60 * options.minutes, options.profile)
        plan.output.mkdir(parents=True, exist_ok=True)
        if options.part:
            return run_part(options.part, plan)
        ended: dict[str, str] = {}
        for name in PARTS:
            try:
                reason = "not begun" if INTERRUPTED in ended.values() else _run_apart(name, plan)
            except KeyboardInterrupt:
                reason = INTERRUPTED
            if reason:
                ended[name] = reason
        write_atomically(plan.output / "gpu.md", page(plan, ended))
        print(f"wrote {plan.output / 'gpu.md'}" + "".join(f"\n{name}: {reason}" for name, reason in ended.items()))
        if INTERRUPTED in ended.values():
            sys.exit(128 + signal.SIGINT)


def _run_apart(name: str, plan: Plan) -> str | None:
    """Runs a part in a process of its own, unless it is complete; returns why it is not."""
    if (plan.output / f"{name}.csv").is_file() and name != "runs":  # which go on
        return None
    seconds = min(PARTS[name][1] * (_SMOKE_PATIENCE if plan.smoke else 1), plan.left)
    if seconds <= 0:
        return "no time was left"
    command = [sys.executable, "-m", "scripts.gpu", "--part", name, "--output", str(plan.output)]
    command += ["--accelerator", plan.accelerator, "--minutes", str(seconds / 60), "--profile", plan.profile]
    command += ["--smoke"] * plan.smoke
    print(f"--- {name}, at most {seconds:.0f} s", flush=True)
    start = time.monotonic()
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    finally:
        if process.poll() is None:  # out of time, or interrupted: with all that it started
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    return None if status == 0 else f"ended with status {status} after {time.monotonic() - start:.0f} s"


if __name__ == "__main__":
    main()
