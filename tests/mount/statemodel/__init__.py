# SPDX-License-Identifier: MIT
"""statemodel - random programs against a mount, compared with a plain model; see ../model.py."""
