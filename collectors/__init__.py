# SPDX-License-Identifier: GPL-2.0-or-later
"""powercollectord: PDUs and BMCs into Postgres."""
