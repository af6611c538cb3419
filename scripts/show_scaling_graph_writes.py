#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Appends a second by the number of threads: scaling_results.csv of scaling_benchmark."""

import plotlib


def draw(figure, frame):
    axes = figure.subplots()
    axes.plot(frame.threads, frame.throughput, marker="o", label="measured")
    axes.plot(frame.threads, frame.threads * frame.throughput.iloc[0], linestyle=":", label="one thread, times threads")
    axes.set_xlabel("threads")
    axes.set_ylabel("appends a second")
    axes.set_ylim(0, frame.throughput.max() * 1.2)
    axes.set_xticks(frame.threads)
    axes.grid(alpha=0.3)
    axes.legend()


if __name__ == "__main__":
    plotlib.main(__doc__, "scaling_results.csv", draw)
