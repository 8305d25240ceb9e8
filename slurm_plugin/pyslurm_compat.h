/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forced into every file of pyslurm 25.11 when it is built against Slurm 26.05
 * (see build-pyslurm). Three things changed between the two:
 */
#ifndef POWER_BROKER_PYSLURM_COMPAT_H
#define POWER_BROKER_PYSLURM_COMPAT_H

/* 1. Functions that took a job id take a slurm_step_id_t. Slurm ships wrappers for that. */
#define SLURM_BACKWARD_COMPAT
#include <string.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

/* 2. A function was renamed, an error code that pyslurm only names in a message is gone. */
#define slurm_free_ctl_conf slurm_free_conf
#define ESLURM_ERROR_ON_DESC_TO_RECORD_COPY (-1)

/*
 * 3. pyslurm gives the name of a new reservation to free(), but Slurm allocated it with xmalloc():
 *    every reservation that succeeds would abort the process ("free(): invalid size").
 */
extern void slurm_xfree(void **item);

static inline char *power_broker_create_reservation(resv_desc_msg_t *request)
{
	char *name = slurm_create_reservation(request);
	char *copy = name ? strdup(name) : NULL;

	slurm_xfree((void **) &name);
	return copy;
}
#define slurm_create_reservation(request) power_broker_create_reservation(request)

#endif
