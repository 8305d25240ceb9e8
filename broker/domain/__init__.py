# SPDX-License-Identifier: GPL-2.0-or-later
"""What is true about power. Standard library only; no I/O, time is an argument."""
