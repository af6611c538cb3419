# SPDX-License-Identifier: MIT
"""faults - power cuts, bad disks, full disks and kills on a real mount: what those tests share.

disks.py has filesystems that can be shut down, cut off or filled; record.py is what clients know of a topic and
the judge of what came back; crowd.py the clients; rounds.py runs many seeded rounds and says how to replay one.
"""
