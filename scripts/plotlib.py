# SPDX-License-Identifier: MIT
"""What the plot scripts share: options, a figure that is saved, shown or drawn again as its file grows."""

import argparse
import os
import sys
import time

import matplotlib

if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402


def main(about, csv, draw, live=False):
    """Plots `csv` (the default file) with draw(figure, frame)."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("csv", nargs="?", default=csv, help=f"the file (default: {csv})")
    parser.add_argument("--out", metavar="PNG", help="write the picture there")
    parser.add_argument("--live", action="store_true", default=live, help="follow the file while it grows")
    parser.add_argument("--seconds", type=float, metavar="S", help="end the following after so long")
    options = parser.parse_args()
    shown = plt.get_backend().lower() != "agg"
    if not shown and not options.out:
        options.out = os.path.splitext(options.csv)[0] + ".png"
    figure = plt.figure(figsize=(10, 7))
    if options.live:
        follow(options, figure, draw, shown)
    else:
        if not os.path.exists(options.csv):
            sys.exit(f"{options.csv}: is not there; run the benchmark first")
        draw(figure, pd.read_csv(options.csv))
    if options.out:
        figure.savefig(options.out, dpi=110, bbox_inches="tight")
        print(options.out)
    if shown and not options.live:
        plt.show()


def follow(options, figure, draw, shown):
    """Draws the file again each second; without a screen, into the picture."""
    end = time.monotonic() + options.seconds if options.seconds else None
    size = -1
    try:
        while end is None or time.monotonic() < end:
            now = os.path.getsize(options.csv) if os.path.exists(options.csv) else -1
            if now != size and now > 0:
                size = now
                frame = whole_rows(options.csv)
                if len(frame):
                    figure.clear()
                    draw(figure, frame)
                    if not shown:
                        figure.savefig(options.out, dpi=110, bbox_inches="tight")
            if shown:
                if not plt.fignum_exists(figure.number):
                    return
                plt.pause(1)
            else:
                time.sleep(0.2 if end and end - time.monotonic() < 2 else 1)
    except KeyboardInterrupt:
        pass


def whole_rows(path):
    """The rows that are written to their end."""
    with open(path) as file:
        text = file.read()
    from io import StringIO

    return pd.read_csv(StringIO(text[: text.rfind("\n") + 1]))
