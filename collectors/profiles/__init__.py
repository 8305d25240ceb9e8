# SPDX-License-Identifier: GPL-2.0-or-later
"""One TOML file per family of devices; adding one needs no code."""
