# SPDX-License-Identifier: GPL-2.0-or-later
"""CPU and memory against devices, as a picture, where matplotlib is installed."""

from collections.abc import Sequence
from pathlib import Path


def draw_costs(path: Path, costs: Sequence[tuple[int, float, float]]) -> None:
    """Devices, cores and MB of each run."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed (extra `bench`)")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    devices = [each[0] for each in costs]
    figure, left = pyplot.subplots(figsize=(7, 4), layout="constrained")
    left.plot(devices, [each[1] for each in costs], "o-", color="C0", label="cores")
    left.axhline(0.6, color="C0", linestyle=":", label="target, cores")
    left.set(xlabel="devices, polled every 10 s", ylabel="cores", xlim=(0, None), ylim=(0, 0.7))
    right = left.twinx()
    right.plot(devices, [each[2] for each in costs], "s--", color="C1", label="MB")
    right.set(ylabel="memory, MB (PSS)", ylim=(0, 450))
    figure.legend(loc="upper left", bbox_to_anchor=(0.1, 0.95))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"plot: {path}")
