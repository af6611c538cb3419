#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The same as show_scaling_graph_writes.py, row by row while scaling_benchmark runs: scaling_results_live.csv."""

import plotlib
from show_scaling_graph_writes import draw

if __name__ == "__main__":
    plotlib.main(__doc__, "scaling_results_live.csv", draw, live=True)
