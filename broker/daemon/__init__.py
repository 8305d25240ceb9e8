# SPDX-License-Identifier: GPL-2.0-or-later
"""powerbrokerd: the schedule, the socket and the wiring."""
