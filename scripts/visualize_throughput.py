#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Appends and megabytes a second over time: benchmark_throughput.csv of multithreaded_benchmark_writes."""

import plotlib


def draw(figure, frame):
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(frame.elapsed_seconds, frame.writes_per_second, color="tab:blue")
    above.set_ylabel("appends a second")
    above.set_title(f"{int(frame.total_writes.iloc[-1]):,} appends in {frame.elapsed_seconds.iloc[-1]:.0f} s")
    below.plot(frame.elapsed_seconds, frame.bytes_per_second / 1e6, color="tab:green")
    below.set_ylabel("MB a second")
    below.set_xlabel("seconds")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    plotlib.main(__doc__, "benchmark_throughput.csv", draw)
