# SPDX-License-Identifier: GPL-2.0-or-later
"""TOML configuration, checked whole; every error names its key."""
