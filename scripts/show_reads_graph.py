#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Both phases of multithreaded_benchmark_reads: read_benchmark_throughput.csv."""

import plotlib


def draw(figure, frame):
    above, below = figure.subplots(2, 1, sharex=True)
    for phase, color in (("write", "tab:blue"), ("read", "tab:orange")):
        part = frame[frame.phase == phase]
        above.plot(part.elapsed_seconds, part[f"{phase}s_per_second"], color=color, label=f"{phase}s")
        below.plot(part.elapsed_seconds, part[f"{phase}_bytes_per_second"] / 1e6, color=color, label=f"{phase}s")
    above.set_ylabel("entries a second")
    above.set_title(f"{int(frame.total_writes.max()):,} written, {int(frame.total_reads.max()):,} read")
    below.set_ylabel("MB a second")
    below.set_xlabel("seconds")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()


if __name__ == "__main__":
    plotlib.main(__doc__, "read_benchmark_throughput.csv", draw)
