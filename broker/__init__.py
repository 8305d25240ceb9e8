# SPDX-License-Identifier: GPL-2.0-or-later
"""slurm-power-broker: rack watts metered, reserved, charged and scheduled with Slurm."""
