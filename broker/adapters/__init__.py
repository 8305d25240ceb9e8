# SPDX-License-Identifier: GPL-2.0-or-later
"""The outside worlds: PostgreSQL, Slurm, files and the clock."""
