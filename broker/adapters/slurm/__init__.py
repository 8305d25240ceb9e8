# SPDX-License-Identifier: GPL-2.0-or-later
"""The only package that imports pyslurm, in a child process."""
