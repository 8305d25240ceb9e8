# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures: what the collector costs, how fresh its readings are, what it stands."""
