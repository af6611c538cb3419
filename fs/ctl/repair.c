/* SPDX-License-Identifier: MIT */
/*
 * repair.c - walrusctl repair: shows what walrus_repair mends, and what is left.
 */
#include "ctl.h"

enum ctl_result command_repair(struct ctl *ctl, int argc, char **argv)
{
    return ctl_check(ctl, argc, argv, walrus_repair);
}
