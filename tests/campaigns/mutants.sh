# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Every mutant of tests/mutants/catalog.py, or those whose names are given; with --all, all who notice it.
mutant_tests "$@"
